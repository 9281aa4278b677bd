// SPDX-License-Identifier: GPL-2.0-only
// Bugs that other emulators had, each under the number that it was given.
#include <cstring>
#include "tests/emulator/machine.h"

namespace kvmpp::x86::emulator::test
{
namespace
{

class Security : public Emulator {
protected:
	static constexpr u64 kernel_page = 0x30000, user_page = 0x31000;

	void SetUp() override
	{
		guest.add_ram(kernel_page, page_size).user = false;
		guest.add_ram(user_page, page_size);
	}
};

Exception fault_at(u64 address, u32 error)
{
	return Exception::page_fault(address, error);
}

constexpr u32 present = 1, write = 2, user = 4;

} // namespace

// An opcode without a meaning was decoded with an operand that nobody had set up.
TEST_F(Security, Cve_2016_8630_OpcodesWithoutMeaningTouchNothing)
{
	for (const Mode mode : {Mode::real, Mode::protected16, Mode::protected32, Mode::long64}) {
		become(mode, 0);
		for (unsigned reg = 0; reg < 8; ++reg)
			for (unsigned mod : {0u, 1u, 2u, 3u}) {
				const u8 modrm = static_cast<u8>(mod << 6 | reg << 3 | 7);
				const auto undefined = [&](std::initializer_list<u8> code) {
					guest.forget();
					raises(code, Exception::ud());
					EXPECT_TRUE(guest.device_reads.empty());
					EXPECT_TRUE(guest.device_writes.empty());
				};
				undefined({0x0f, 0x0b, modrm}); // UD2
				undefined({0x0f, 0xff, modrm, 0, 0, 0, 0, 0}); // UD0
				undefined({0x0f, 0x04, modrm, 0, 0, 0, 0, 0});
				undefined({0x0f, 0x39, modrm, 0, 0, 0, 0, 0});
				if (reg != 0 || mod != 3) // FE /2 to /7, and 8F /1 to /7
					if (reg >= 2)
						undefined({0xfe, modrm, 0, 0, 0, 0, 0});
			}
	}
}

// Stores of system registers wrote what lay in the emulator's memory, and beyond their operand.
TEST_F(Security, Cve_2017_2584_StoresWriteTheirOperandAndNoMore)
{
	constexpr u64 canary = 0xa5a5'a5a5'a5a5'a5a5;
	const auto fill = [&] {
		for (unsigned i = 0; i < 1024; i += 8)
			guest.poke(user_page + i, canary, 8);
		guest.gpr[Gpr::rbx] = user_page + 256;
	};
	const auto untouched_but = [&](unsigned size) {
		for (unsigned i = 0; i < 1024; ++i)
			if (i < 256 || i >= 256 + size) {
				ASSERT_EQ(guest.peek(user_page + i, 1), 0xa5u) << i;
			}
	};
	fill();
	completes({0x0f, 0x01, 0x03}); // SGDT
	untouched_but(10);
	EXPECT_EQ(guest.peek(user_page + 256 + 2, 8), guest.gdtr.base);
	fill();
	completes({0x0f, 0x01, 0x0b}); // SIDT
	untouched_but(10);
	EXPECT_EQ(guest.peek(user_page + 256 + 2, 8), guest.idtr.base);
	fill();
	completes({0x0f, 0x00, 0x03}); // SLDT
	untouched_but(2);
	// FXSAVE: the guest's state and nothing of the host's, up to the 16 XMM registers' end.
	constexpr unsigned end_of_xmm = 416;
	std::memset(guest.extended.xmm, 0x11, sizeof guest.extended.xmm);
	fill();
	completes({0x0f, 0xae, 0x03});
	untouched_but(end_of_xmm);
	ExtendedState stored = guest.extended;
	for (unsigned i = 0; i < end_of_xmm; i += 8) {
		const u64 word = guest.peek(user_page + 256 + i, 8);
		std::memcpy(reinterpret_cast<u8 *>(&stored) + i, &word, 8);
	}
	EXPECT_TRUE(stored == guest.extended);
}

// They were stored with the kernel's rights, whoever stored them.
TEST_F(Security, Cve_2018_10853_StoresHaveTheRightsOfTheProgram)
{
	become(Mode::long64, 3);
	guest.gpr[Gpr::rbx] = kernel_page;
	const Exception denied = fault_at(kernel_page, present | write | user);
	raises({0x0f, 0x01, 0x03}, denied); // SGDT
	raises({0x0f, 0x01, 0x0b}, denied); // SIDT
	raises({0x0f, 0x00, 0x03}, denied); // SLDT
	raises({0x0f, 0x00, 0x0b}, denied); // STR
	raises({0x0f, 0x01, 0x23}, denied); // SMSW
	raises({0x0f, 0xae, 0x03}, denied); // FXSAVE
	raises({0x0f, 0xae, 0x0b}, fault_at(kernel_page, present | user)); // FXRSTOR
	// Those that load want the kernel's privilege first.
	raises({0x0f, 0x01, 0x13}, Exception::gp()); // LGDT
	raises({0x0f, 0x01, 0x1b}, Exception::gp()); // LIDT
}

// Fields of a fault that nobody had filled in went to the guest: every fault says all of itself.
TEST_F(Security, Cve_2019_7222_FaultsAreToldWhole)
{
	become(Mode::long64, 3);
	struct {
		std::initializer_list<u8> code;
		u32 error;
	} const accesses[] = {
		{{0x8b, 0x03}, present | user},		// MOV EAX, [RBX]
		{{0x89, 0x03}, present | write | user}, // MOV [RBX], EAX
		{{0x01, 0x03}, present | write | user}, // ADD [RBX], EAX
		{{0xff, 0x33}, present | user},		// PUSH [RBX]
		{{0x0f, 0xc7, 0x0b}, present | write | user}, // CMPXCHG8B
	};
	for (const auto &[code, error] : accesses) {
		guest.gpr[Gpr::rbx] = kernel_page + 0x123;
		raises(code, fault_at(kernel_page + 0x123, error));
		// Across the edge of what there is: the address is the page's that is not there.
		guest.gpr[Gpr::rbx] = user_page + page_size - 1;
		raises(code, fault_at(user_page + page_size, error & ~present));
	}
}

} // namespace kvmpp::x86::emulator::test
