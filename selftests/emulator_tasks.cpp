// SPDX-License-Identifier: GPL-2.0-only
// Task switches of a guest on the processor, which leaves them to the module, and of one in the
// emulator alone: by JMP, CALL, interrupts, exceptions and IRET, to tasks of both kinds, with
// faults of either task. SDM vol. 3, ch. 8.
#include "scene.h"

using namespace kvmpp::selftests;

namespace
{

constexpr unsigned states_per_way = 36;
constexpr u64 cr0_ts = 1 << 3;
constexpr u64 next_tss = 0x11400;
constexpr u16 next = selector::random, gate = selector::random + 16;
constexpr u16 absent = selector::random + 32;	    // a segment that is not there, for #NP
constexpr u16 narrow_stack = selector::random + 48; // of level 0; that of level 3 is next
constexpr u8 interrupt_vector = 0x50;
constexpr u32 old_eip = at::code;

enum class Way : u8 { jump, call, jump_gate, call_gate, interrupt, exception, iret };

constexpr Way ways[] = {Way::jump, Way::call, Way::jump_gate, Way::call_gate, Way::interrupt,
	Way::exception, Way::iret};

// Task state segments of 32 and of 16 bits: figures 8-2 and 8-10.
struct Layout {
	u64 eip, word, selectors, stride, count, ldt;
};
constexpr Layout layout32{32, 4, 72, 4, 6, 96}, layout16{14, 2, 34, 2, 4, 42};
constexpr u64 cr3_offset = 28, trap_offset = 100;

struct Task {
	bool narrow = false;
	u32 eip = place::landing, eflags = flag::fixed;
	u32 gprs[8] = {};
	u16 selectors[6] = {selector::data, selector::code32, selector::data, selector::data,
		selector::data, selector::data};
	u16 ldt = selector::local;
	u16 link = 0;
	bool trap = false;
	u64 cr3 = at::page_tables;
};

void put_task(Scene &scene, u64 where, const Task &task)
{
	const Layout &layout = task.narrow ? layout16 : layout32;
	memset(scene.image + where, 0, 0x80);
	scene.poke(where, task.link, 2);
	// The stack of level 0.
	const u64 inner[] = {place::inner_stack, selector::data};
	scene.poke(where + layout.word, inner, 2, static_cast<unsigned>(layout.word));
	if (!task.narrow) {
		scene.poke(where + cr3_offset, task.cr3, 4);
		scene.poke(where + trap_offset, task.trap, 2);
		scene.poke(where + trap_offset + 2, 0x68, 2);
	}
	u64 at = where + layout.eip;
	const auto add = [&](u64 value) {
		scene.poke(at, value, static_cast<unsigned>(layout.word));
		at += layout.word;
	};
	add(task.eip);
	add(task.eflags);
	for (const u32 gpr : task.gprs)
		add(gpr);
	for (u64 i = 0; i < layout.count; ++i)
		scene.poke(where + layout.selectors + i * layout.stride, task.selectors[i], 2);
	scene.poke(where + layout.ldt, task.ldt, 2);
}

Task any_task(Scene &scene)
{
	Random &random = scene.random;
	Task task;
	task.narrow = random.one_in(3);
	task.eflags = static_cast<u32>(scene.any_flags());
	for (u32 &gpr : task.gprs)
		gpr = static_cast<u32>(random.next());
	const bool user = random.one_in(3);
	task.gprs[4] = static_cast<u32>(user ? place::user_stack : place::stack);
	if (user) {
		for (u16 &selector : task.selectors)
			selector = selector::user_data;
		task.selectors[1] = selector::user_code32;
	}
	// The upper halves of a 16-bit task's registers are set, so its stack has 16 bits.
	if (task.narrow)
		task.selectors[2] = static_cast<u16>(narrow_stack + (user ? 16 | 3 : 0));
	if (random.one_in(3))
		(random.one_in(7) ? task.ldt : task.selectors[random.below(6)]) =
			scene.any_selector();
	if (random.one_in(12))
		task.eip = place::far_landing;
	// In virtual-8086 mode every selector is good, and the HLT is not.
	if (!task.narrow && random.one_in(8)) {
		task.eflags |= flag::vm;
		task.selectors[1] = 0;
	}
	task.trap = random.one_in(12);
	return task;
}

Instruction encode(Way way)
{
	Instruction code;
	switch (way) {
	case Way::jump:
	case Way::jump_gate:
		code.put(0xea), code.put(0x1234, 4), code.put(way == Way::jump ? next : gate, 2);
		break;
	case Way::call:
	case Way::call_gate:
		code.put(0x9a), code.put(0x1234, 4), code.put(way == Way::call ? next : gate, 2);
		break;
	case Way::interrupt: code.put(0xcd), code.put(interrupt_vector); break;
	case Way::exception: code.put(0x8e), code.put(0xd8); break; // MOV DS, AX
	case Way::iret: code.put(0xcf); break;
	}
	return code;
}

u8 vector_of(Way way)
{
	return way == Way::exception ? 11 : interrupt_vector;
}

// The tables for a switch from level `cpl` of a task of either kind.
void prepare(Scene &scene, Way way, const Task &task, unsigned cpl, bool narrow)
{
	const u8 kind = task.narrow ? descriptor::tss - descriptor::narrow : descriptor::tss;
	scene.begin(cpl);
	scene.value<u64>(at::gdt + next) = descriptor::system(kind, cpl, next_tss, 0x67) |
					   (way == Way::iret ? descriptor::busy : 0);
	scene.value<u64>(at::gdt + gate) = descriptor::gate(descriptor::task_gate, cpl, next, 0);
	scene.value<u64>(at::gdt + absent) =
		descriptor::segment(descriptor::data, 3, descriptor::Size::bits32) &
		~descriptor::present;
	for (const u64 dpl : {0, 3})
		scene.value<u64>(at::gdt + narrow_stack + (dpl ? 16 : 0)) =
			descriptor::segment(descriptor::data, dpl, descriptor::Size::bits16);
	put_task(scene, next_tss, task);
	scene.set_gate(vector_of(way), descriptor::gate(descriptor::task_gate, 3, next, 0));
	scene.state.regs.rax = absent;
	scene.state.regs.rflags &= ~flag::nt;
	scene.state.regs.rsp &= place::again - 1;
	if (way == Way::iret) {
		scene.state.regs.rflags |= flag::nt;
		scene.value<u16>(at::tss) = next;
	}
	if (narrow) {
		scene.state.sregs.tr.type -= descriptor::narrow;
		scene.value<u64>(at::gdt + selector::tss) &= ~(u64{descriptor::narrow} << 40);
	}
	scene.set_code(encode(way));
}

// One thing of the old task's side may be wrong.
void spoil(Scene &scene, Way way)
{
	u64 &tss = scene.value<u64>(at::gdt + next);
	u64 &task_gate = scene.value<u64>(at::gdt + gate);
	const u64 other = scene.any_selector();
	switch (scene.random.below(16)) {
	case 0: tss ^= descriptor::present; break;
	case 1: tss ^= descriptor::busy; break;
	case 2: tss = (tss & ~0xffffull) | scene.random.below(0x68); break;
	case 3: tss ^= descriptor::with_dpl(scene.random.below(4)); break;
	case 4: task_gate ^= descriptor::present; break;
	case 5: task_gate ^= descriptor::with_dpl(scene.random.below(4)); break;
	case 6: task_gate = descriptor::gate(descriptor::task_gate, 3, other, 0); break;
	case 7:
		scene.set_gate(
			vector_of(way), descriptor::gate(descriptor::task_gate, 3, other, 0));
		break;
	case 8: scene.value<u16>(at::tss) = static_cast<u16>(other); break;
	case 9: scene.state.sregs.tr.limit = 0x28; break;
	default: break;
	}
}

void restore_gate(Scene &scene, Way way)
{
	scene.set_gate(vector_of(way), descriptor::gate(descriptor::interrupt_gate, 0,
					       selector::code32, at::handlers + vector_of(way)));
}

Task plain_task()
{
	Task task;
	task.eflags = flag::fixed | flag::cf;
	for (unsigned i = 0; i < 8; ++i)
		task.gprs[i] = 0x1000'0001 * (i + 1);
	task.gprs[4] = place::stack;
	return task;
}

bool is_busy(const Scene &scene, u16 selector)
{
	return scene.left<u64>(at::gdt + selector) & descriptor::busy;
}

// What every switch to plain_task() leaves behind (SDM vol. 3, 8.3).
void check_arrival(const Scene &scene)
{
	const kvm_regs &regs = scene.end.regs;
	const kvm_sregs &sregs = scene.end.sregs;
	CHECK_EQ(scene.why, u32{KVM_EXIT_HLT});
	CHECK_EQ(regs.rip, place::landing + 1);
	CHECK_EQ(regs.rax, 0x1000'0001u);
	CHECK_EQ(regs.rdi, 0x8000'0008u);
	CHECK_EQ(sregs.tr.selector, next);
	CHECK_EQ(sregs.tr.base, next_tss);
	CHECK_EQ(sregs.cs.selector, selector::code32);
	CHECK(sregs.cr0 & cr0_ts);
	CHECK(is_busy(scene, next));
	CHECK_EQ(scene.left<u32>(at::tss + 36) & flag::status,
		scene.state.regs.rflags & flag::status);
	CHECK_EQ(scene.left<u32>(at::tss + 40), scene.state.regs.rax);
	CHECK_EQ(scene.left<u16>(at::tss + 76), selector::code32);
}

} // namespace

TEST(task_switches_in_software)
{
	Scene scene{Mode::protected_mode, 91};
	unsigned count = 0;
	for (const Way way : ways) {
		for (const unsigned cpl : {0u, 3u}) {
			++count;
			unsigned different = 0;
			for (unsigned n = 0;
				n < states_per_way && different < 2 && !scene.hopeless(); ++n) {
				prepare(scene, way, any_task(scene), cpl, scene.random.one_in(3));
				spoil(scene, way);
				if (!scene.alike(scene.state)) {
					++different;
					note("way %u, cpl %u", static_cast<unsigned>(way), cpl);
				}
				restore_gate(scene, way);
			}
		}
	}
	scene.summarize(count, "switches");
}

TEST(a_jump_leaves_the_old_task)
{
	Scene scene{Mode::protected_mode, 92};
	prepare(scene, Way::jump, plain_task(), 0, false);
	REQUIRE(scene.alike(scene.state));
	check_arrival(scene);
	CHECK(!is_busy(scene, selector::tss));
	CHECK_EQ(scene.left<u32>(at::tss + 32), old_eip + 7);
	CHECK_EQ(scene.end.regs.rflags, flag::fixed | flag::cf);
	CHECK_EQ(scene.left<u16>(next_tss), 0);
}

TEST(a_call_nests_the_new_task)
{
	Scene scene{Mode::protected_mode, 93};
	prepare(scene, Way::call_gate, plain_task(), 0, false);
	REQUIRE(scene.alike(scene.state));
	check_arrival(scene);
	CHECK(is_busy(scene, selector::tss));
	CHECK_EQ(scene.left<u32>(at::tss + 32), old_eip + 7);
	CHECK_EQ(scene.end.regs.rflags, flag::fixed | flag::cf | flag::nt);
	CHECK_EQ(scene.left<u16>(next_tss), selector::tss);
}

TEST(iret_returns_to_the_previous_task)
{
	Scene scene{Mode::protected_mode, 94};
	prepare(scene, Way::iret, plain_task(), 0, false);
	REQUIRE(scene.alike(scene.state));
	check_arrival(scene);
	CHECK(!is_busy(scene, selector::tss));
	CHECK(!(scene.left<u32>(at::tss + 36) & flag::nt));
	CHECK_EQ(scene.end.regs.rflags, flag::fixed | flag::cf);
}

TEST(an_exception_pushes_its_code_in_the_new_task)
{
	Scene scene{Mode::protected_mode, 95};
	prepare(scene, Way::exception, plain_task(), 0, false);
	REQUIRE(scene.alike(scene.state));
	check_arrival(scene);
	CHECK_EQ(scene.left<u32>(at::tss + 32), old_eip);
	CHECK_EQ(scene.end.regs.rsp, place::stack - 4);
	CHECK_EQ(scene.left<u32>(place::stack - 4), absent);
	CHECK_EQ(scene.left<u16>(next_tss), selector::tss);
}

// The switch is complete before the new task's segments are looked at: the fault is its own.
TEST(a_new_task_without_its_code_faults_itself)
{
	Scene scene{Mode::protected_mode, 96};
	Task task = plain_task();
	task.selectors[3] = absent;
	prepare(scene, Way::jump, task, 0, false);
	REQUIRE(scene.alike(scene.state));
	CHECK_EQ(scene.end.sregs.tr.selector, next);
	CHECK_EQ(scene.end.regs.rip, at::handlers + 11 + 1);
	CHECK_EQ(scene.left<u32>(scene.end.regs.rsp), absent);
	CHECK_EQ(scene.left<u32>(scene.end.regs.rsp + 4), place::landing);
}
