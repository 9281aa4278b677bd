// SPDX-License-Identifier: GPL-2.0-only
// String instructions, one element at a time, and their repetition. SDM vol. 1, 7.3.9.
#include "x86/emulator/string.h"
#include "x86/emulator/operations.h"

namespace kvmpp::x86::emulator
{

namespace
{

// A repetition leaves the emulator after this many iterations, for the sake of interrupts.
constexpr unsigned iteration_limit = 4096;

bool condition_ended(const Execution &x)
{
	const bool zero = x.rflags & flag::zf;
	return x.instruction.repeat == Repeat::while_equal ? !zero : zero;
}

} // namespace

u64 string_offset(const Execution &x, Gpr name)
{
	return x.get(name, x.instruction.address_size);
}

void string_advance(Execution &x, Gpr name, unsigned bytes)
{
	const s64 step = x.rflags & flag::df ? -s64{bytes} : s64{bytes};
	x.add(name, step, x.instruction.address_size);
}

Outcome<> repeat(Execution &x, StringStep *step, bool conditional)
{
	if (x.instruction.repeat == Repeat::none)
		return TRY(step(x, 1)), Outcome<>{};

	const unsigned width = x.instruction.address_size;
	const u64 next = x.rip;
	for (unsigned iterations = 0;; ++iterations) {
		const u64 left = x.get(Gpr::rcx, width);
		if (left == 0)
			return {};
		const u64 done = TRY(step(x, left));
		x.add(Gpr::rcx, -static_cast<s64>(done), width);
		if (x.get(Gpr::rcx, width) == 0 || (conditional && condition_ended(x)))
			return {};
		// From here on this iteration stays done, whatever becomes of the next.
		x.rip = x.registers.rip;
		x.commit();
		x.rip = next;
		if (x.rflags & flag::tf || iterations == iteration_limit ||
			!x.guest.next_iteration()) {
			x.retired = false;
			return {};
		}
	}
}

namespace op
{

namespace
{

Outcome<u64> move_element(Execution &x, u64)
{
	const unsigned size = x.dst.size;
	const u64 value =
		TRY(x.read_value(x.instruction.data_segment, string_offset(x, Gpr::rsi), size));
	TRY(x.write_value(SegmentName::es, string_offset(x, Gpr::rdi), value, size));
	string_advance(x, Gpr::rsi, size);
	string_advance(x, Gpr::rdi, size);
	return 1;
}

Outcome<u64> store_element(Execution &x, u64)
{
	const unsigned size = x.dst.size;
	TRY(x.write_value(SegmentName::es, string_offset(x, Gpr::rdi), x.gpr[Gpr::rax], size));
	string_advance(x, Gpr::rdi, size);
	return 1;
}

Outcome<u64> load_element(Execution &x, u64)
{
	const unsigned size = x.dst.size;
	const u64 value =
		TRY(x.read_value(x.instruction.data_segment, string_offset(x, Gpr::rsi), size));
	x.set(Gpr::rax, value, size);
	string_advance(x, Gpr::rsi, size);
	return 1;
}

Outcome<u64> compare_element(Execution &x, u64)
{
	const unsigned size = x.dst.size;
	const u64 a =
		TRY(x.read_value(x.instruction.data_segment, string_offset(x, Gpr::rsi), size));
	const u64 b = TRY(x.read_value(SegmentName::es, string_offset(x, Gpr::rdi), size));
	x.take(difference(a, b, false, size));
	string_advance(x, Gpr::rsi, size);
	string_advance(x, Gpr::rdi, size);
	return 1;
}

Outcome<u64> scan_element(Execution &x, u64)
{
	const unsigned size = x.dst.size;
	const u64 value = TRY(x.read_value(SegmentName::es, string_offset(x, Gpr::rdi), size));
	x.take(difference(x.get(Gpr::rax, size), value, false, size));
	string_advance(x, Gpr::rdi, size);
	return 1;
}

} // namespace

Outcome<> movs(Execution &x)
{
	return repeat(x, move_element, false);
}

Outcome<> stos(Execution &x)
{
	return repeat(x, store_element, false);
}

Outcome<> lods(Execution &x)
{
	return repeat(x, load_element, false);
}

Outcome<> cmps(Execution &x)
{
	return repeat(x, compare_element, true);
}

Outcome<> scas(Execution &x)
{
	return repeat(x, scan_element, true);
}

} // namespace op

} // namespace kvmpp::x86::emulator
