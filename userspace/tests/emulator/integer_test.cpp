// SPDX-License-Identifier: GPL-2.0-only
// Integer instructions that the comparison with the processor does not reach: those of 16-bit and
// 32-bit code, and corners by name.
#include "tests/emulator/machine.h"

namespace kvmpp::x86::emulator::test
{

namespace
{

constexpr u64 cf = X86_EFLAGS_CF, pf = X86_EFLAGS_PF, af = X86_EFLAGS_AF, zf = X86_EFLAGS_ZF,
	      sf = X86_EFLAGS_SF, of = X86_EFLAGS_OF;

class Integer : public Emulator {
protected:
	u64 status() const { return guest.rflags & (cf | pf | af | zf | sf | of); }
	void set_flags(u64 flags) { guest.rflags = MadeUpGuest::flag_fixed | flags; }
	void at_start() { guest.rip = place::code; }
};

} // namespace

TEST_F(Integer, FlagsOfAdditionAndSubtraction)
{
	struct Case {
		u8 opcode, a, b;
		u64 in;
		u8 result;
		u64 flags;
	} cases[] = {
		{0x00, 0xff, 1, 0, 0, cf | pf | af | zf},
		{0x00, 0x7f, 1, 0, 0x80, af | sf | of},
		{0x10, 0x7f, 0x80, cf, 0, cf | pf | af | zf}, // ADC
		{0x28, 0, 1, 0, 0xff, cf | pf | af | sf},
		{0x28, 0x80, 1, 0, 0x7f, af | of},
		{0x18, 5, 4, cf, 0, pf | zf}, // SBB
		{0x38, 1, 1, 0, 1, pf | zf},  // CMP
		{0x30, 0xf0, 0xf0, cf | of, 0, pf | zf},
	};
	for (Mode mode : {Mode::real, Mode::protected32, Mode::long64})
		for (const Case &c : cases) {
			become(mode, 0);
			guest.gpr[Gpr::rax] = c.a;
			guest.gpr[Gpr::rbx] = c.b;
			set_flags(c.in);
			completes({c.opcode, 0xd8});
			EXPECT_EQ(guest.gpr[Gpr::rax], c.result) << int{c.opcode};
			EXPECT_EQ(status(), c.flags) << int{c.opcode};
		}
}

TEST_F(Integer, FourBytesClearTheUpperHalfTwoDoNot)
{
	guest.gpr[Gpr::rax] = ~u64{0};
	completes({0x66, 0x83, 0xc0, 0x01}); // ADD AX, 1
	EXPECT_EQ(guest.gpr[Gpr::rax], 0xffff'ffff'ffff'0000u);
	completes({0x83, 0xc0, 0x01}); // ADD EAX, 1
	EXPECT_EQ(guest.gpr[Gpr::rax], 0xffff'0001u);
}

// SDM vol. 2, the pseudo code of each.
TEST_F(Integer, DecimalAdjustment)
{
	struct Case {
		u8 opcode;
		u16 ax;
		u64 in;
		u16 result;
		u64 flags, checked;
	} cases[] = {
		{0x27, 0x00ae, 0, 0x0014, cf | af | pf, cf | af | zf | sf | pf}, // DAA
		{0x27, 0x0079, 0, 0x0079, 0, cf | af | zf | sf},
		{0x27, 0x009a, 0, 0x0000, cf | af | zf | pf, cf | af | zf | sf | pf},
		{0x27, 0x0002, cf, 0x0062, cf, cf | af},
		{0x2f, 0x00ee, cf, 0x0088, cf | af | sf | pf, cf | af | zf | sf | pf}, // DAS
		{0x2f, 0x0003, af, 0x00fd, cf | af | sf, cf | af | sf},
		{0x2f, 0x0045, 0, 0x0045, 0, cf | af},
		{0x37, 0x000f, 0, 0x0105, cf | af, cf | af}, // AAA
		{0x37, 0x00fa, 0, 0x0200, cf | af, cf | af}, // AL's carry goes into AH
		{0x37, 0x0105, 0, 0x0105, 0, cf | af},
		{0x3f, 0x0205, af, 0x000f, cf | af, cf | af}, // AAS
		{0x3f, 0x0203, 0, 0x0203, 0, cf | af},
	};
	for (Mode mode : {Mode::real, Mode::protected32})
		for (const Case &c : cases) {
			become(mode, 0);
			guest.gpr[Gpr::rax] = c.ax;
			set_flags(c.in);
			completes({c.opcode});
			EXPECT_EQ(guest.gpr[Gpr::rax], c.result)
				<< std::hex << int{c.opcode} << ' ' << c.ax;
			EXPECT_EQ(status() & c.checked, c.flags)
				<< std::hex << int{c.opcode} << ' ' << c.ax;
		}
}

TEST_F(Integer, DecimalMultiplicationAndDivision)
{
	become(Mode::protected32, 0);
	guest.gpr[Gpr::rax] = 0x0063;
	completes({0xd4, 0x0a}); // AAM
	EXPECT_EQ(guest.gpr[Gpr::rax], 0x0909u);
	at_start();
	guest.gpr[Gpr::rax] = 0x0507;
	completes({0xd5, 0x0a}); // AAD
	EXPECT_EQ(guest.gpr[Gpr::rax], 57u);
	at_start();
	raises({0xd4, 0x00}, Exception::plain(Vector::divide_error));
}

TEST_F(Integer, DivisionFaultsWhereTheQuotientDoesNotFit)
{
	const Exception de = Exception::plain(Vector::divide_error);
	become(Mode::real, 0);
	guest.gpr[Gpr::rax] = 0x0200;
	guest.gpr[Gpr::rbx] = 2;
	raises({0xf6, 0xf3}, de); // DIV BL
	guest.gpr[Gpr::rax] = 0x01ff;
	completes({0xf6, 0xf3});
	EXPECT_EQ(guest.gpr[Gpr::rax], 0x01ffu);
	at_start();
	guest.gpr[Gpr::rbx] = 0;
	raises({0xf7, 0xf3}, de); // DIV BX
	guest.gpr[Gpr::rax] = 0x8000;
	guest.gpr[Gpr::rdx] = 0xffff;
	guest.gpr[Gpr::rbx] = 0xffff;
	raises({0xf7, 0xfb}, de); // IDIV BX: -32768 / -1
	guest.gpr[Gpr::rbx] = 1;
	completes({0xf7, 0xfb});
	EXPECT_EQ(guest.gpr[Gpr::rax], 0x8000u);
	become(Mode::long64, 0);
	guest.gpr[Gpr::rdx] = bit(63);
	guest.gpr[Gpr::rax] = 0;
	guest.gpr[Gpr::rbx] = ~u64{0};
	raises({0x48, 0xf7, 0xfb}, de); // IDIV RBX
}

TEST_F(Integer, Bound)
{
	become(Mode::protected32, 0);
	guest.poke(place::data, 0xffff'fff0, 4);
	guest.poke(place::data + 4, 5, 4);
	guest.gpr[Gpr::rbx] = place::data;
	for (u32 inside : {0xffff'fff0u, 0u, 5u}) {
		guest.gpr[Gpr::rax] = inside;
		at_start();
		completes({0x62, 0x03}); // BOUND EAX, [EBX]
	}
	for (u32 outside : {0xffff'ffefu, 6u}) {
		guest.gpr[Gpr::rax] = outside;
		at_start();
		raises({0x62, 0x03}, Exception::plain(Vector::bound_range));
	}
}

TEST_F(Integer, IncrementsOf32BitCode)
{
	become(Mode::protected32, 0);
	guest.gpr[Gpr::rcx] = 0xffff'ffff;
	set_flags(cf);
	completes({0x41}); // INC ECX
	EXPECT_EQ(guest.gpr[Gpr::rcx], 0u);
	EXPECT_EQ(status(), cf | pf | af | zf);
	completes({0x49}); // DEC ECX
	EXPECT_EQ(guest.gpr[Gpr::rcx], 0xffff'ffffu);
}

TEST_F(Integer, SalcSpreadsTheCarry)
{
	become(Mode::protected32, 0);
	guest.gpr[Gpr::rax] = 0x1200;
	set_flags(cf);
	completes({0xd6});
	EXPECT_EQ(guest.gpr[Gpr::rax], 0x12ffu);
}

TEST_F(Integer, LoopsCountInTheAddressSize)
{
	become(Mode::real, 0);
	guest.gpr[Gpr::rcx] = 0x1'0001; // CX is 1
	completes({0xe2, 0x10});
	EXPECT_EQ(guest.rip, place::code + 2);
	EXPECT_EQ(guest.gpr[Gpr::rcx], 0x1'0000u);
	at_start();
	completes({0x67, 0xe2, 0x10}); // LOOP by ECX
	EXPECT_EQ(guest.rip, place::code + 3 + 0x10);
	at_start();
	guest.gpr[Gpr::rcx] = 0x1'0000;
	completes({0xe3, 0x10}); // JCXZ
	EXPECT_EQ(guest.rip, place::code + 2 + 0x10);
}

TEST_F(Integer, JumpsWrapIn16BitCodeAndStopAtTheLimit)
{
	become(Mode::real, 0);
	completes({0xe9, 0x00, 0xc0}); // JMP -0x4000
	EXPECT_EQ(guest.rip, 3u);
	become(Mode::protected32, 0);
	guest.segments[static_cast<u8>(SegmentName::cs)].limit = 0x4fff;
	raises({0xe9, 0x00, 0x10, 0x00, 0x00}, Exception::gp());
	raises({0xff, 0xe0}, [this] {
		guest.gpr[Gpr::rax] = 0x5000;
		return Exception::gp();
	}());
}

// A processor without them takes the prefix for nothing.
TEST_F(Integer, CountsOfZerosAreScansWithoutTheFeature)
{
	guest.gpr[Gpr::rbx] = 0x40;
	completes({0xf3, 0x0f, 0xbd, 0xc3}); // LZCNT EAX, EBX
	EXPECT_EQ(guest.gpr[Gpr::rax], 25u);
	at_start();
	guest.cpuid_leaves[0x80000001] = {};
	completes({0xf3, 0x0f, 0xbd, 0xc3}); // BSR
	EXPECT_EQ(guest.gpr[Gpr::rax], 6u);
	guest.cpuid_leaves[1] = {};
	raises({0xf3, 0x0f, 0xb8, 0xc3}, Exception::ud()); // POPCNT
}

TEST_F(Integer, FeaturesThatAreNotThereAreUndefined)
{
	for (u32 leaf : {1u, 7u, 0x80000001u})
		guest.cpuid_leaves[leaf] = {};
	raises({0x0f, 0x38, 0xf0, 0x06}, Exception::ud());	 // MOVBE
	raises({0xf2, 0x0f, 0x38, 0xf1, 0xc0}, Exception::ud()); // CRC32
	raises({0xc4, 0xe2, 0x78, 0xf2, 0xc0}, Exception::ud()); // ANDN
	raises({0x66, 0x0f, 0x38, 0xf6, 0xc0}, Exception::ud()); // ADCX
	raises({0x0f, 0x01, 0xf9}, Exception::ud());		 // RDTSCP
	raises({0xf3, 0x48, 0x0f, 0xae, 0xc0}, Exception::ud()); // RDFSBASE
	raises({0x48, 0x0f, 0xc7, 0x0e}, Exception::ud());	 // CMPXCHG16B
}

TEST_F(Integer, LockedExchangeThatLosesARaceIsTriedAgain)
{
	guest.gpr[Gpr::rbx] = place::data;
	guest.poke(place::data, 5, 4);
	guest.lose_exchange = true;
	completes({0xf0, 0x01, 0x03}); // LOCK ADD [RBX], EAX
	EXPECT_FALSE(guest.executed.retired);
	EXPECT_EQ(guest.rip, place::code);
	EXPECT_EQ(guest.peek(place::data, 4), 5u);
	EXPECT_TRUE(guest.step().has_value());
	EXPECT_TRUE(guest.executed.retired);
	EXPECT_EQ(guest.peek(place::data, 4), 0x1005u);
}

TEST_F(Integer, LockedAccessAcrossPages)
{
	guest.gpr[Gpr::rbx] = 0x9ffd;
	guest.poke(0x9ffd, 0x11223344, 4);
	completes({0xf0, 0xff, 0x03}); // LOCK INC dword [RBX]
	EXPECT_EQ(guest.peek(0x9ffd, 4), 0x11223345u);
}

TEST_F(Integer, Cmpxchg16bWantsAlignment)
{
	guest.gpr[Gpr::rbx] = place::data + 8;
	raises({0x48, 0x0f, 0xc7, 0x0b}, Exception::gp());
	guest.gpr[Gpr::rbx] = place::data;
	guest.poke(place::data, guest.gpr[Gpr::rax], 8);
	guest.poke(place::data + 8, guest.gpr[Gpr::rdx], 8);
	completes({0xf0, 0x48, 0x0f, 0xc7, 0x0b});
	EXPECT_EQ(status(), zf);
	EXPECT_EQ(guest.peek(place::data, 8), place::data);
	EXPECT_EQ(guest.peek(place::data + 8, 8), guest.gpr[Gpr::rcx]);
}

// The upper half of a register that differs was cleared.
TEST_F(Integer, CmpxchgOfARegisterThatDiffersLeavesItAlone)
{
	guest.gpr[Gpr::rax] = 1;
	guest.gpr[Gpr::rdi] = 0xdead'0000'0002;
	completes({0x0f, 0xb1, 0xdf}); // CMPXCHG EDI, EBX
	EXPECT_EQ(guest.gpr[Gpr::rdi], 0xdead'0000'0002u);
	EXPECT_EQ(guest.gpr[Gpr::rax], 2u);
}

TEST_F(Integer, PauseWithRexBExchanges)
{
	guest.gpr[Gpr::r8] = 7;
	completes({0xf3, 0x49, 0x90}); // XCHG R8, RAX
	EXPECT_EQ(guest.gpr[Gpr::rax], 7u);
	completes({0xf3, 0x90});
	EXPECT_EQ(guest.gpr[Gpr::rax], 7u);
}

} // namespace kvmpp::x86::emulator::test
