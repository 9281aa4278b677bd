// SPDX-License-Identifier: GPL-2.0-only
// Bytes to instructions, in every mode: prefixes, ModRM, SIB, displacements, immediates, lengths.
#include "tests/emulator/machine.h"
#include "x86/emulator/instruction.h"

namespace kvmpp::x86::emulator::test
{

namespace
{

struct Result {
	Decoded status;
	Instruction instruction;
};

Result decoded(Mode mode, std::initializer_list<u8> code)
{
	Result result{};
	result.status = decode(result.instruction, {code.begin(), code.size()}, mode);
	return result;
}

constexpr u8 none = EffectiveAddress::none, rip_base = EffectiveAddress::rip;
enum : u8 { ax, cx, dx, bx, sp, bp, si, di };

struct AddressCase {
	std::initializer_list<u8> code;
	u8 base, index, scale;
	SegmentName segment;
	s64 displacement;
};

void check(Mode mode, const AddressCase &expected, unsigned address_size)
{
	const Result result = decoded(mode, expected.code);
	SCOPED_TRACE(::testing::PrintToString(
		std::vector<int>(expected.code.begin(), expected.code.end())));
	ASSERT_EQ(result.status, Decoded::complete);
	const EffectiveAddress &address = result.instruction.address;
	EXPECT_EQ(result.instruction.length, expected.code.size());
	EXPECT_EQ(result.instruction.address_size, address_size);
	EXPECT_EQ(address.base, expected.base);
	EXPECT_EQ(address.index, expected.index);
	EXPECT_EQ(address.scale, expected.scale);
	EXPECT_EQ(address.segment, expected.segment);
	EXPECT_EQ(address.displacement, expected.displacement);
}

} // namespace

// SDM vol. 2, table 2-1.
TEST(Decode, Addresses16)
{
	using enum SegmentName;
	const AddressCase cases[] = {
		{{0x8a, 0x00}, bx, si, 0, ds, 0},
		{{0x8a, 0x01}, bx, di, 0, ds, 0},
		{{0x8a, 0x02}, bp, si, 0, ss, 0},
		{{0x8a, 0x03}, bp, di, 0, ss, 0},
		{{0x8a, 0x04}, si, none, 0, ds, 0},
		{{0x8a, 0x05}, di, none, 0, ds, 0},
		{{0x8a, 0x06, 0x34, 0x92}, none, none, 0, ds, -0x6dcc},
		{{0x8a, 0x07}, bx, none, 0, ds, 0},
		{{0x8a, 0x40, 0x80}, bx, si, 0, ds, -128},
		{{0x8a, 0x46, 0x7f}, bp, none, 0, ss, 127},
		{{0x8a, 0x80, 0x00, 0x80}, bx, si, 0, ds, -0x8000},
		{{0x8a, 0x86, 0x01, 0x00}, bp, none, 0, ss, 1},
		{{0x3e, 0x8a, 0x46, 0x00}, bp, none, 0, ds, 0},
		{{0x26, 0x8a, 0x00}, bx, si, 0, es, 0},
	};
	for (Mode mode : {Mode::real, Mode::virtual8086, Mode::protected16})
		for (const AddressCase &expected : cases)
			check(mode, expected, 2);
}

// SDM vol. 2, tables 2-2 and 2-3.
TEST(Decode, Addresses32)
{
	using enum SegmentName;
	const AddressCase cases[] = {
		{{0x8a, 0x00}, ax, none, 0, ds, 0},
		{{0x8a, 0x07}, di, none, 0, ds, 0},
		{{0x8a, 0x05, 0x78, 0x56, 0x34, 0x12}, none, none, 0, ds, 0x12345678},
		{{0x8a, 0x45, 0xff}, bp, none, 0, ss, -1},
		{{0x8a, 0x85, 0x00, 0x00, 0x00, 0x80}, bp, none, 0, ss, -0x80000000ll},
		{{0x8a, 0x04, 0x24}, sp, none, 0, ss, 0},
		{{0x8a, 0x04, 0x9d, 1, 0, 0, 0}, none, bx, 2, ds, 1},
		{{0x8a, 0x44, 0x9d, 1}, bp, bx, 2, ss, 1},
		{{0x8a, 0x04, 0x28}, ax, bp, 0, ds, 0},
		{{0x8a, 0x04, 0xe0}, ax, none, 3, ds, 0}, // no index: the scale says nothing
		{{0x65, 0x8a, 0x04, 0x24}, sp, none, 0, gs, 0},
	};
	for (const AddressCase &expected : cases)
		check(Mode::protected32, expected, 4);
}

TEST(Decode, Addresses64)
{
	using enum SegmentName;
	const AddressCase cases[] = {
		{{0x8a, 0x05, 0x00, 0x01, 0x00, 0x00}, rip_base, none, 0, ds, 0x100},
		{{0x41, 0x8a, 0x05, 0x00, 0x01, 0x00, 0x00}, rip_base, none, 0, ds, 0x100},
		{{0x8a, 0x04, 0x25, 0xff, 0xff, 0xff, 0xff}, none, none, 0, ds, -1},
		{{0x41, 0x8a, 0x00}, 8, none, 0, ds, 0},
		{{0x41, 0x8a, 0x45, 0x00}, 13, none, 0, ds, 0}, // R13 needs a displacement, and DS
		{{0x41, 0x8a, 0x04, 0x24}, 12, none, 0, ds, 0}, // R12 needs a SIB
		{{0x42, 0x8a, 0x04, 0x20}, ax, 12, 0, ds, 0},	// R12 can be an index
		{{0x43, 0x8a, 0x44, 0xcd, 0x10}, 13, 9, 3, ds, 0x10},
		{{0x64, 0x8a, 0x00}, ax, none, 0, fs, 0},
		{{0x26, 0x8a, 0x00}, ax, none, 0, ds, 0}, // no ES override here
	};
	for (const AddressCase &expected : cases)
		check(Mode::long64, expected, 8);
	check(Mode::long64, {{0x67, 0x8a, 0x05, 0, 0, 0, 0}, rip_base, none, 0, ds, 0}, 4);
	check(Mode::protected32, {{0x67, 0x8a, 0x00}, bx, si, 0, ds, 0}, 2);
	check(Mode::real, {{0x67, 0x8a, 0x00}, ax, none, 0, ds, 0}, 4);
}

TEST(Decode, OperandSizes)
{
	const auto size = [](Mode mode, std::initializer_list<u8> code) {
		const Result result = decoded(mode, code);
		EXPECT_EQ(result.status, Decoded::complete);
		return result.instruction.operand_size;
	};
	EXPECT_EQ(size(Mode::real, {0x89, 0xc0}), 2);
	EXPECT_EQ(size(Mode::real, {0x66, 0x89, 0xc0}), 4);
	EXPECT_EQ(size(Mode::protected16, {0x89, 0xc0}), 2);
	EXPECT_EQ(size(Mode::protected32, {0x89, 0xc0}), 4);
	EXPECT_EQ(size(Mode::protected32, {0x66, 0x89, 0xc0}), 2);
	EXPECT_EQ(size(Mode::long64, {0x89, 0xc0}), 4);
	EXPECT_EQ(size(Mode::long64, {0x66, 0x89, 0xc0}), 2);
	EXPECT_EQ(size(Mode::long64, {0x48, 0x89, 0xc0}), 8);
	EXPECT_EQ(size(Mode::long64, {0x66, 0x48, 0x89, 0xc0}), 8);
	EXPECT_EQ(size(Mode::long64, {0x48, 0x66, 0x89, 0xc0}), 2); // that REX counts for nothing
	EXPECT_EQ(size(Mode::long64, {0x50}), 8);
	EXPECT_EQ(size(Mode::long64, {0x66, 0x50}), 2);
	EXPECT_EQ(size(Mode::long64, {0x66, 0xe8, 0, 0, 0, 0}), 8); // near branches keep to it
}

TEST(Decode, ByteRegistersDependOnRex)
{
	const Result high = decoded(Mode::long64, {0x88, 0xe0}); // MOV AL, AH
	EXPECT_EQ(high.instruction.operands[1].kind, Operand::Kind::high_byte);
	EXPECT_EQ(high.instruction.operands[1].number, 0);
	const Result low = decoded(Mode::long64, {0x40, 0x88, 0xe0}); // MOV AL, SPL
	EXPECT_EQ(low.instruction.operands[1].kind, Operand::Kind::gpr);
	EXPECT_EQ(low.instruction.operands[1].number, sp);
}

TEST(Decode, RexIsAnInstructionElsewhere)
{
	const Result result = decoded(Mode::protected32, {0x48, 0x89, 0xc0}); // DEC EAX
	EXPECT_EQ(result.status, Decoded::complete);
	EXPECT_EQ(result.instruction.length, 1);
}

TEST(Decode, Immediates)
{
	const Result wide =
		decoded(Mode::long64, {0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}); // MOV RAX, imm64
	EXPECT_EQ(wide.instruction.operands[1].value, 0x0807060504030201u);
	EXPECT_EQ(wide.instruction.length, 10);
	const Result extended =
		decoded(Mode::long64, {0x48, 0x81, 0xc0, 0, 0, 0, 0x80}); // ADD RAX, imm32
	EXPECT_EQ(extended.instruction.operands[1].value, 0xffff'ffff'8000'0000u);
	const Result byte = decoded(Mode::protected32, {0x83, 0xc0, 0xff}); // ADD EAX, -1
	EXPECT_EQ(byte.instruction.operands[1].value, ~u64{0});
	const Result far = decoded(Mode::protected32, {0xea, 1, 2, 3, 4, 5, 6}); // JMP ptr16:32
	EXPECT_EQ(far.instruction.operands[0].value, 0x04030201u);
	EXPECT_EQ(far.instruction.operands[1].value, 0x0605u);
	const Result offset =
		decoded(Mode::long64, {0xa1, 1, 2, 3, 4, 5, 6, 7, 8}); // MOV EAX, moffs64
	EXPECT_EQ(static_cast<u64>(offset.instruction.address.displacement), 0x0807060504030201u);
	EXPECT_EQ(decoded(Mode::real, {0xa1, 0x00, 0x90}).instruction.length, 3);
}

TEST(Decode, AsksForBytesUntilThereAreEnough)
{
	const u8 code[] = {0x66, 0x48, 0x81, 0x84, 0x24, 1, 2, 3, 4, 5, 6, 7, 8};
	for (usize size = 0; size < sizeof(code); ++size) {
		Instruction instruction;
		EXPECT_EQ(decode(instruction, {code, size}, Mode::long64), Decoded::truncated)
			<< size;
	}
	Instruction instruction;
	EXPECT_EQ(decode(instruction, code, Mode::long64), Decoded::complete);
	EXPECT_EQ(instruction.length, sizeof(code));
}

TEST(Decode, VexPrefixes)
{
	// VMOVUPS YMM9, [RAX]: with two and with three bytes.
	const Result two = decoded(Mode::long64, {0xc5, 0x7c, 0x10, 0x08});
	ASSERT_EQ(two.status, Decoded::complete);
	EXPECT_EQ(two.instruction.operands[0].number, 9);
	EXPECT_EQ(two.instruction.operands[0].size, 32);
	const Result three = decoded(Mode::long64, {0xc4, 0x41, 0x78, 0x10, 0x08}); // XMM9, [R8]
	ASSERT_EQ(three.status, Decoded::complete);
	EXPECT_EQ(three.instruction.operands[0].size, 16);
	EXPECT_EQ(three.instruction.address.base, 8);
	// An unused VEX.vvvv other than 1111b, and prefixes in front.
	EXPECT_EQ(decoded(Mode::long64, {0xc5, 0x74, 0x10, 0x08}).status, Decoded::undefined);
	for (u8 prefix : {0x66, 0xf2, 0xf3, 0xf0, 0x48})
		EXPECT_EQ(decoded(Mode::long64, {prefix, 0xc5, 0x7c, 0x10, 0x08}).status,
			Decoded::undefined);
	// LDS and VEX share an opcode in 32-bit code; there is no VEX in 8086 modes.
	EXPECT_EQ(decoded(Mode::protected32, {0xc5, 0xf8, 0x10, 0x08}).status, Decoded::complete);
	EXPECT_EQ(decoded(Mode::real, {0xc5, 0xf8, 0x10, 0x08}).status, Decoded::undefined);
	EXPECT_EQ(decoded(Mode::real, {0xc5, 0x08}).status, Decoded::complete);
}

// --- the whole way -------------------------------------------------------------------------------

TEST_F(Emulator, FifteenBytesAreTheMost)
{
	completes({0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e,
		0x2e, 0x90});
	EXPECT_EQ(guest.executed.length, 15);
	raises({0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e,
		       0x2e, 0x90},
		Exception::gp());
	EXPECT_LE(guest.executed.byte_count, 15);
}

TEST_F(Emulator, LockIsUndefinedWhereItMeansNothing)
{
	raises({0xf0, 0x90}, Exception::ud());		   // NOP
	raises({0xf0, 0x48, 0x01, 0xc0}, Exception::ud()); // ADD RAX, RAX
	raises({0xf0, 0x03, 0x06}, Exception::ud());	   // ADD EAX, [RSI]
	raises({0xf0, 0x39, 0x06}, Exception::ud());	   // CMP [RSI], EAX
	raises({0xf0, 0x89, 0x06}, Exception::ud());	   // MOV [RSI], EAX
	raises({0xf0, 0x0f, 0xa3, 0x06}, Exception::ud()); // BT [RSI], EAX
	guest.gpr[Gpr::rsi] = place::data;
	completes({0xf0, 0x01, 0x06}); // ADD [RSI], EAX
	EXPECT_EQ(guest.peek(place::data, 4), 0x1000u);
}

TEST_F(Emulator, OnlyBytesThatAreNeededAreFetched)
{
	guest.rip = place::end - 1;
	completes({0x90});
	guest.rip = place::end - 2;
	raises({0x48, 0xb8}, Exception::page_fault(place::end, page_fault_code::fetch));
}

TEST_F(Emulator, CodeEndsAtItsSegmentsLimit)
{
	become(Mode::protected32, 0);
	guest.segments[static_cast<u8>(SegmentName::cs)].limit = place::code + 1;
	completes({0x89, 0xc0});
	guest.rip = place::code;
	raises({0x05, 0, 0, 0, 0}, Exception::gp());
	guest.rip = place::code + 2;
	raises({0x90}, Exception::gp());
}

TEST_F(Emulator, RipWrapsAt32Bits)
{
	become(Mode::protected32, 0);
	guest.add_ram(0xffff'f000, page_size);
	guest.rip = 0xffff'ffff;
	completes({0x90});
	EXPECT_EQ(guest.rip, 0u);
}

TEST_F(Emulator, UnknownBytesAreHandedOut)
{
	const Outcome<> outcome = guest.run({0xd8, 0xc1}); // FADD
	ASSERT_FALSE(outcome.has_value());
	EXPECT_EQ(outcome.error(), Stop::unknown);
	EXPECT_TRUE(guest.raised.empty());
	EXPECT_GE(guest.executed.byte_count, 2);
	EXPECT_EQ(guest.executed.bytes[0], 0xd8);
}

TEST_F(Emulator, InstructionsOfOtherModesAreUndefined)
{
	raises({0x27}, Exception::ud());		   // DAA
	raises({0x60}, Exception::ud());		   // PUSHA
	raises({0x9a, 0, 0, 0, 0, 8, 0}, Exception::ud()); // CALL ptr16:32
	become(Mode::protected32, 0);
	raises({0x0f, 0x05}, Exception::ud());	     // SYSCALL
	raises({0x0f, 0x01, 0xf8}, Exception::ud()); // SWAPGS
	become(Mode::real, 0);
	raises({0x0f, 0x00, 0xc0}, Exception::ud()); // SLDT
	raises({0x63, 0xc0}, Exception::ud());	     // ARPL
}

} // namespace kvmpp::x86::emulator::test
