// SPDX-License-Identifier: GPL-2.0-only
// Memory that is a device: each access reaches it exactly once, however often the instruction is
// executed for want of an answer, and wherever the access is split.
#include "tests/emulator/machine.h"

namespace kvmpp::x86::emulator::test
{

namespace
{

class Device : public Emulator {
protected:
	Device()
	{
		for (u64 i = 0; i < 64; ++i)
			guest.device_bytes[place::device + i] = static_cast<u8>(0x10 + i);
		guest.gpr[Gpr::rbx] = place::device;
		guest.devices_pend = true;
	}
	// Executes until it no longer waits; how often it waited.
	unsigned run_waiting(std::initializer_list<u8> code)
	{
		unsigned waits = 0;
		Outcome<> outcome = guest.run(code);
		while (!outcome && outcome.error() == Stop::pending && waits < 20) {
			++waits;
			outcome = guest.step();
		}
		EXPECT_TRUE(outcome.has_value());
		return waits;
	}
	using Accesses = std::vector<DeviceAccess>;
};

} // namespace

TEST_F(Device, LoadsReadOnce)
{
	struct Case {
		std::initializer_list<u8> code;
		unsigned size;
	} cases[] = {
		{{0x8b, 0x03}, 4},		     // MOV EAX, [RBX]: the short way
		{{0x3e, 0x8b, 0x03}, 4},	     // the long way
		{{0x0f, 0xb6, 0x03}, 1},	     // MOVZX
		{{0x48, 0x63, 0x03}, 4},	     // MOVSXD
		{{0x03, 0x03}, 4},		     // ADD EAX, [RBX]
		{{0x39, 0x03}, 4},		     // CMP [RBX], EAX
		{{0x0f, 0x44, 0x03}, 4},	     // CMOVE
		{{0xf7, 0x23}, 4},		     // MUL dword [RBX]
		{{0x0f, 0xa3, 0x0b}, 4},	     // BT [RBX], ECX
		{{0x0f, 0xbc, 0x03}, 4},	     // BSF
		{{0xff, 0x33}, 8},		     // PUSH qword [RBX]
		{{0x0f, 0x6e, 0x03}, 4},	     // MOVD MM0, [RBX]
		{{0x66, 0x48, 0x0f, 0x6e, 0x03}, 8}, // MOVQ XMM0, [RBX]
		{{0xf3, 0x0f, 0x7e, 0x03}, 8},	     // MOVQ XMM0, [RBX]
		{{0x0f, 0x10, 0x03}, 16},	     // MOVUPS
		{{0xc5, 0xfc, 0x10, 0x03}, 32},	     // VMOVUPS YMM0
		{{0xc4, 0xe1, 0xf9, 0x6e, 0x03}, 8}, // VMOVQ
		{{0x8e, 0x1b}, 2},		     // MOV DS, [RBX]
		{{0x0f, 0x38, 0xf0, 0x03}, 4},	     // MOVBE
		{{0xf3, 0x0f, 0xb8, 0x03}, 4},	     // POPCNT
		{{0xc4, 0xe2, 0x78, 0xf2, 0x03}, 4}, // ANDN
	};
	for (u8 i = 0; i < 2; ++i) // DS is null, or what the device says is data
		guest.device_bytes[place::device + i] = i == 0 ? selector::data0 : 0;
	for (const Case &c : cases) {
		guest.rip = place::code;
		guest.gpr[Gpr::rsp] = place::stack;
		guest.gpr[Gpr::rbx] = place::device;
		guest.gpr[Gpr::rcx] = 3;
		guest.forget();
		EXPECT_EQ(run_waiting(c.code), 1u);
		SCOPED_TRACE(
			::testing::PrintToString(std::vector<int>(c.code.begin(), c.code.end())));
		ASSERT_EQ(guest.device_reads.size(), 1u);
		EXPECT_EQ(guest.device_reads[0].size, c.size);
		EXPECT_TRUE(guest.device_writes.empty());
	}
}

TEST_F(Device, StoresWriteOnceAndReadNothing)
{
	std::initializer_list<u8> codes[] = {
		{0x89, 0x03},		  // MOV [RBX], EAX
		{0x3e, 0x89, 0x03},	  // the long way
		{0xc7, 0x03, 1, 2, 3, 4}, // MOV [RBX], imm
		{0x0f, 0x94, 0x03},	  // SETE
		{0x8f, 0x03},		  // POP
		{0x0f, 0x7e, 0x03},	  // MOVD [RBX], MM0
		{0x66, 0x0f, 0x7e, 0x03}, // MOVD [RBX], XMM0
		{0x66, 0x0f, 0xd6, 0x03}, // MOVQ
		{0x0f, 0x11, 0x03},	  // MOVUPS
		{0xc5, 0xf9, 0x7e, 0x03}, // VMOVD
		{0x0f, 0xc3, 0x03},	  // MOVNTI
		{0x8c, 0x1b},		  // MOV [RBX], DS
		{0x0f, 0x01, 0x23},	  // SMSW
		{0x0f, 0xae, 0x1b},	  // STMXCSR
	};
	for (auto code : codes) {
		guest.rip = place::code;
		guest.gpr[Gpr::rsp] = place::stack;
		guest.forget();
		SCOPED_TRACE(::testing::PrintToString(std::vector<int>(code.begin(), code.end())));
		EXPECT_EQ(run_waiting(code), 0u);
		EXPECT_TRUE(guest.device_reads.empty());
		EXPECT_EQ(guest.device_writes.size(), 1u);
	}
}

TEST_F(Device, ReadModifyWrite)
{
	std::initializer_list<u8> codes[] = {
		{0x01, 0x03},		  // ADD [RBX], EAX
		{0xf0, 0x01, 0x03},	  // LOCK ADD
		{0x87, 0x03},		  // XCHG
		{0xf0, 0x0f, 0xc1, 0x03}, // LOCK XADD
		{0x0f, 0xb1, 0x0b},	  // CMPXCHG: it always writes
		{0xff, 0x03},		  // INC
		{0xd1, 0x23},		  // SHL
		{0x0f, 0xab, 0x0b},	  // BTS
	};
	for (auto code : codes) {
		guest.rip = place::code;
		guest.gpr[Gpr::rcx] = 1;
		guest.forget();
		SCOPED_TRACE(::testing::PrintToString(std::vector<int>(code.begin(), code.end())));
		EXPECT_EQ(run_waiting(code), 1u);
		EXPECT_EQ(guest.device_reads, (Accesses{{place::device, 0x13121110, 4}}));
		EXPECT_EQ(guest.device_writes.size(), 1u);
	}
}

TEST_F(Device, ALoadAcrossItsEdges)
{
	guest.add_ram(place::device - page_size, page_size);
	guest.poke(place::device - 3, 0xccbbaa, 3);
	guest.gpr[Gpr::rbx] = place::device - 3;
	EXPECT_EQ(run_waiting({0x48, 0x8b, 0x03}), 1u); // MOV RAX, [RBX]
	EXPECT_EQ(guest.gpr[Gpr::rax], 0x1413121110ccbbaau);
	EXPECT_EQ(guest.device_reads, (Accesses{{place::device, 0x1413121110, 5}}));
}

TEST_F(Device, AStoreAcrossItsEdges)
{
	guest.add_ram(place::device + page_size, page_size);
	guest.gpr[Gpr::rbx] = place::device + page_size - 2;
	guest.gpr[Gpr::rax] = 0x8877665544332211;
	EXPECT_EQ(run_waiting({0x48, 0x89, 0x03}), 0u);
	EXPECT_EQ(guest.device_writes, (Accesses{{place::device + page_size - 2, 0x2211, 2}}));
	EXPECT_EQ(guest.peek(place::device + page_size, 6), 0x887766554433u);
}

TEST_F(Device, AnAccessAcrossTwoDevicePagesAsksTwice)
{
	guest.add_device(place::device + page_size, page_size);
	guest.gpr[Gpr::rbx] = place::device + page_size - 4;
	EXPECT_EQ(run_waiting({0x48, 0x8b, 0x03}), 2u);
	EXPECT_EQ(guest.device_reads.size(), 2u);
}

TEST_F(Device, AFaultOnTheSecondPageReachesNoDevice)
{
	guest.gpr[Gpr::rbx] = place::device + page_size - 4;
	raises({0x48, 0x8b, 0x03}, Exception::page_fault(place::device + page_size, 0));
	raises({0x48, 0x89, 0x03},
		Exception::page_fault(place::device + page_size, page_fault_code::write));
	EXPECT_TRUE(guest.device_reads.empty());
	EXPECT_TRUE(guest.device_writes.empty());
}

TEST_F(Device, StringsReadEachElementOnce)
{
	guest.gpr[Gpr::rsi] = place::device;
	guest.gpr[Gpr::rdi] = place::data;
	guest.gpr[Gpr::rcx] = 4;
	EXPECT_EQ(run_waiting({0xf3, 0xa5}), 4u); // REP MOVSD
	EXPECT_EQ(guest.device_reads.size(), 4u);
	EXPECT_EQ(guest.peek(place::data + 8, 8), 0x1f1e1d1c1b1a1918u);
	EXPECT_EQ(guest.gpr[Gpr::rcx], 0u);
}

TEST_F(Device, ComparisonOfTwoDeviceWords)
{
	guest.gpr[Gpr::rsi] = place::device;
	guest.gpr[Gpr::rdi] = place::device + 8;
	EXPECT_EQ(run_waiting({0xa7}), 2u); // CMPSD
	EXPECT_EQ(guest.device_reads.size(), 2u);
}

TEST_F(Device, CodeInADeviceIsUnknown)
{
	guest.rip = place::device;
	const Outcome<> outcome = guest.step();
	ASSERT_FALSE(outcome.has_value());
	EXPECT_EQ(outcome.error(), Stop::unknown);
}

} // namespace kvmpp::x86::emulator::test
