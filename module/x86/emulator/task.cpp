// SPDX-License-Identifier: GPL-2.0-only
// Task switches. SDM vol. 3, ch. 8, above all 8.3.
#include <algorithm>
#include <utility>
#include "x86/emulator/far.h"

namespace kvmpp::x86::emulator
{

namespace
{

// What a task is in its TSS of either kind (SDM vol. 3, figures 8-2 and 8-10).
struct Task {
	u32 cr3 = 0;
	u32 eip = 0;
	u32 eflags = 0;
	u32 gpr[8] = {};
	u16 selectors[6] = {}; // in the order of SegmentName
	u16 ldt = 0;
	bool trap = false;
};

// Where each kind of TSS has it.
struct Layout {
	unsigned smallest_limit;
	unsigned word; // size of eip, eflags and the registers
	unsigned selector_stride;
	unsigned eip; // eflags, eight registers and the selectors follow
	unsigned selectors;
	unsigned selector_count;
	unsigned ldt;
};

constexpr Layout layout32{103, 4, 4, 32, 72, 6, 96};
constexpr Layout layout16{43, 2, 2, 14, 34, 4, 42};
constexpr unsigned cr3_offset = 28, trap_offset = 100; // 32-bit only
constexpr unsigned largest = 104;

const Layout &layout_of(AccessRights rights)
{
	return rights.type() & 8 ? layout32 : layout16;
}

u32 word_at(const u8 *image, unsigned offset, unsigned size)
{
	u32 value = 0;
	__builtin_memcpy(&value, image + offset, size);
	return value;
}

Outcome<Task> read_task(Execution &x, const Segment &tss)
{
	const Layout &layout = layout_of(tss.rights);
	u8 image[largest] = {};
	for (unsigned at = 0; at <= layout.smallest_limit; at += 8) {
		const unsigned bytes = std::min(8u, layout.smallest_limit + 1 - at);
		const u64 value = TRY(x.read_system(tss.base, at, bytes));
		__builtin_memcpy(image + at, &value, bytes);
	}
	Task task;
	unsigned at = layout.eip;
	const auto next = [&] {
		return word_at(image, std::exchange(at, at + layout.word), layout.word);
	};
	task.eip = next();
	task.eflags = next();
	for (u32 &value : task.gpr)
		value = next();
	for (unsigned i = 0; i < layout.selector_count; ++i)
		task.selectors[i] = static_cast<u16>(
			word_at(image, layout.selectors + i * layout.selector_stride, 2));
	task.ldt = static_cast<u16>(word_at(image, layout.ldt, 2));
	if (&layout == &layout32) {
		task.cr3 = word_at(image, cr3_offset, 4);
		task.trap = image[trap_offset] & 1;
	}
	return task;
}

// The old task's dynamic fields: EIP to the last selector, in one piece.
Outcome<> save_task(Execution &x, const Segment &tss, u64 eflags)
{
	const Layout &layout = layout_of(tss.rights);
	u8 image[largest] = {};
	unsigned at = layout.eip;
	const auto put = [&](u64 value, unsigned stride) {
		__builtin_memcpy(image + at, &value, stride);
		at += stride;
	};
	put(x.rip, layout.word);
	put(eflags, layout.word);
	for (unsigned i = 0; i < 8; ++i)
		put(x.gpr.values[i], layout.word);
	for (unsigned i = 0; i < layout.selector_count; ++i)
		put(x.guest.segment(static_cast<SegmentName>(i)).selector, layout.selector_stride);
	const Gva to{(tss.base + layout.eip) & 0xffff'ffff};
	return x.write_linear(to, image + layout.eip, at - layout.eip, Access::implicit_write);
}

// --- from here on the new task is in place, and what is wrong is its own fault -------------------

Outcome<> load_ldt(Execution &x, u16 selector)
{
	if (is_null(selector))
		return {};
	if (selector & 4)
		return x.fault(Vector::invalid_tss, selector);
	const Descriptor descriptor = TRY(read_descriptor(x, selector, Vector::invalid_tss));
	if (!descriptor.is(SystemType::ldt) || !descriptor.present())
		return x.fault(Vector::invalid_tss, selector);
	x.guest.set_segment(SegmentName::ldtr, descriptor.segment(selector));
	return {};
}

Outcome<> load_code(Execution &x, u16 selector)
{
	if (is_null(selector))
		return x.fault(Vector::invalid_tss, 0);
	Descriptor code = TRY(read_descriptor(x, selector, Vector::invalid_tss));
	const unsigned level = rpl(selector);
	const bool allowed = code.rights().conforming() ? code.dpl() <= level : code.dpl() == level;
	if (!code.code() || !allowed)
		return x.fault(Vector::invalid_tss, selector);
	if (!code.present())
		return x.fault(Vector::segment_not_present, selector);
	TRY(mark_descriptor(x, code, Descriptor::accessed_bit));
	x.guest.set_segment(SegmentName::cs, code.segment(selector));
	return {};
}

Outcome<> load_segments(Execution &x, const Task &task)
{
	constexpr SegmentName data[] = {
		SegmentName::es, SegmentName::ds, SegmentName::fs, SegmentName::gs};
	const auto selector = [&](SegmentName name) {
		return task.selectors[static_cast<u8>(name)];
	};
	const unsigned level = rpl(selector(SegmentName::cs));

	TRY(load_ldt(x, task.ldt));
	if (task.eflags & flag::vm)
		return {};
	const Segment stack = TRY(data_segment(
		x, SegmentName::ss, selector(SegmentName::ss), level, Vector::invalid_tss));
	TRY(load_code(x, selector(SegmentName::cs)));
	x.guest.set_segment(SegmentName::ss, stack);
	for (SegmentName name : data) {
		const Segment segment =
			TRY(data_segment(x, name, selector(name), level, Vector::invalid_tss));
		x.guest.set_segment(name, segment);
	}
	return {};
}

// All selectors are in place before any descriptor is looked at.
void load_selectors(Execution &x, const Task &task)
{
	for (u8 i = 0; i < std::size(task.selectors); ++i) {
		const SegmentName name = static_cast<SegmentName>(i);
		const unsigned level = name == SegmentName::ss ? rpl(task.selectors[1]) : 0;
		x.guest.set_segment(name, task.eflags & flag::vm
						  ? segment_8086(task.selectors[i])
						  : null_segment(task.selectors[i], level));
	}
	x.guest.set_segment(SegmentName::ldtr, null_segment(task.ldt));
}

Outcome<> push_error_code(Execution &x, u32 code, unsigned size)
{
	Stack stack = current_stack(x);
	const u64 values[] = {code};
	TRY(stack.push(x, values, size));
	stack.make_current(x);
	return {};
}

} // namespace

Outcome<u16> previous_task(Execution &x)
{
	const Segment tr = x.guest.segment(SegmentName::tr);
	if (tr.limit < 1)
		return x.fault(Vector::invalid_tss, tr.selector);
	return static_cast<u16>(TRY(x.read_system(tr.base, 0, 2)));
}

Outcome<> switch_task(Execution &x, u16 selector, TaskSwitch reason, std::optional<u32> error_code)
{
	const bool returning = reason == TaskSwitch::iret;
	const bool nested = reason == TaskSwitch::call || reason == TaskSwitch::interrupt_gate;
	const Vector bad = returning ? Vector::invalid_tss : Vector::general_protection;

	// Everything that is the old task's fault: SDM vol. 3, table 8-1.
	if (is_null(selector) || selector & 4)
		return x.fault(bad, selector);
	Descriptor descriptor = TRY(read_descriptor(x, selector, bad));
	const bool right_type =
		returning ? descriptor.is(SystemType::tss32_busy) ||
				    descriptor.is(SystemType::tss16_busy)
			  : descriptor.is(SystemType::tss32) || descriptor.is(SystemType::tss16);
	if (!right_type)
		return x.fault(bad, selector);
	if (!descriptor.present())
		return x.fault(Vector::segment_not_present, selector);
	const Layout &layout = layout_of(descriptor.rights());
	const Segment old = x.guest.segment(SegmentName::tr);
	const Layout &old_layout = layout_of(old.rights);
	if (descriptor.limit() < layout.smallest_limit)
		return x.fault(Vector::invalid_tss, selector);
	if (old.limit < old_layout.smallest_limit)
		return x.fault(Vector::invalid_tss, old.selector);
	const Task task = TRY(read_task(x, descriptor.segment(selector)));

	TRY(save_task(x, old, returning ? x.rflags & ~flag::nt : x.rflags));
	if (!nested) {
		Descriptor left = TRY(read_descriptor(x, old.selector, bad));
		TRY(clear_in_descriptor(x, left, Descriptor::busy_bit));
	}
	if (nested)
		TRY(x.write_system(descriptor.base(), 0, old.selector, 2));
	TRY(mark_descriptor(x, descriptor, Descriptor::busy_bit));

	const u64 cr0 = x.guest.control(0);
	const bool wide = &layout == &layout32;
	if (wide && cr0 & X86_CR0_PG)
		TRY(x.guest.set_control(3, task.cr3));
	TRY(x.guest.set_control(0, cr0 | X86_CR0_TS));
	x.guest.set_segment(SegmentName::tr, descriptor.segment(selector));
	load_selectors(x, task);
	x.rip = task.eip;
	x.rflags = (task.eflags & ~(1 << 3 | 1 << 5 | 1 << 15)) | flag::fixed;
	if (!wide)
		x.rflags &= 0xffff;
	if (nested)
		x.rflags |= flag::nt;
	for (unsigned i = 0; i < 8; ++i)
		x.gpr.values[i] = wide ? task.gpr[i] : 0xffff'0000 | task.gpr[i];
	x.keep_rf = true;
	x.commit();

	TRY(load_segments(x, task));
	if (error_code) {
		TRY(push_error_code(x, *error_code, wide ? 4 : 2));
		x.commit();
	}
	if (x.rip > x.guest.segment(SegmentName::cs).limit)
		return x.gp();
	if (task.trap) {
		constexpr u64 dr6_bt = bit(15);
		TRY(x.guest.set_debug(6, x.guest.debug(6) | dr6_bt));
		return x.raise(Exception::plain(Vector::debug));
	}
	return {};
}

Outcome<> switch_task(Guest &guest, Registers &registers, u16 selector, TaskSwitch reason,
	std::optional<u32> error_code)
{
	Instruction none;
	Execution x{guest, registers, guest.mode(), none};
	TRY(switch_task(x, selector, reason, error_code));
	x.commit();
	return {};
}

} // namespace kvmpp::x86::emulator
