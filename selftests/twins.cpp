// SPDX-License-Identifier: GPL-2.0-only
#include "twins.h"

#include "files.h"

namespace kvmpp::selftests
{

namespace
{

constexpr const char *parameter = "/sys/module/kvmpp/parameters/force_emulation";

GUEST_CODE(nothing, 16, "hlt");

void choose(bool emulated)
{
	REQUIRE_EQ(write_text(parameter, emulated ? "1" : "0"), 0);
}

// Notes what differs, each under its name.
struct Comparison {
	bool same = true;

	void operator()(const char *what, u64 native, u64 emulated)
	{
		if (native == emulated)
			return;
		same = false;
		note("%s: %llx, emulated %llx", what, static_cast<unsigned long long>(native),
			static_cast<unsigned long long>(emulated));
	}
};

void compare_regs(Comparison &compare, const kvm_regs &a, const kvm_regs &b, u64 undefined)
{
	constexpr const char *names[] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp",
		"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip"};
	const __u64 *const from = &a.rax, *const to = &b.rax;
	for (unsigned i = 0; i < std::size(names); ++i)
		compare(names[i], from[i], to[i]);
	compare("rflags", a.rflags & ~undefined, b.rflags & ~undefined);
}

// What a register without a segment holds besides its selector is not documented, and real-address
// mode has no rights.
void compare_segment(Comparison &compare, const char *name, const kvm_segment &a,
	const kvm_segment &b, bool real)
{
	const auto rights = [](const kvm_segment &s) {
		return u64{s.type} | s.s << 4 | s.dpl << 5 | s.present << 7 | s.avl << 12 |
		       s.l << 13 | s.db << 14 | s.g << 15;
	};
	const auto part = [&](const char *field, u64 x, u64 y) {
		char full[32];
		snprintf(full, sizeof full, "%s %s", name, field);
		compare(full, x, y);
	};
	part("selector", a.selector, b.selector);
	part("unusable", a.unusable, b.unusable);
	if (a.unusable)
		return;
	part("base", a.base, b.base);
	part("limit", a.limit, b.limit);
	if (!real)
		part("rights", rights(a), rights(b));
}

void compare_sregs(Comparison &compare, const kvm_sregs &a, const kvm_sregs &b)
{
	constexpr const char *names[] = {"cs", "ds", "es", "fs", "gs", "ss", "tr", "ldtr"};
	const kvm_segment *const from = &a.cs, *const to = &b.cs;
	for (unsigned i = 0; i < std::size(names); ++i)
		compare_segment(compare, names[i], from[i], to[i], !(a.cr0 & 1));
	compare("gdt base", a.gdt.base, b.gdt.base);
	compare("gdt limit", a.gdt.limit, b.gdt.limit);
	compare("idt base", a.idt.base, b.idt.base);
	compare("idt limit", a.idt.limit, b.idt.limit);
	compare("cr0", a.cr0, b.cr0);
	compare("cr2", a.cr2, b.cr2);
	compare("cr3", a.cr3, b.cr3);
	compare("cr4", a.cr4, b.cr4);
	compare("cr8", a.cr8, b.cr8);
	compare("efer", a.efer, b.efer);
}

void compare_memory(Comparison &compare, const u8 *a, const u8 *b)
{
	if (memcmp(a, b, Twins::watched) == 0)
		return;
	for (u64 i = 0; i < Twins::watched; i += 8) {
		u64 x, y;
		memcpy(&x, a + i, 8);
		memcpy(&y, b + i, 8);
		char name[32];
		snprintf(name, sizeof name, "memory %llx", static_cast<unsigned long long>(i));
		compare(name, x, y);
	}
}

bool with_parameter()
{
	if (access(parameter, W_OK))
		skip_test("the module has no force_emulation");
	return true;
}

} // namespace

u64 &State::value_of(u32 index)
{
	unsigned i = 0;
	while (msr::compared[i] != index)
		++i;
	return msrs[i];
}

Twins::Twin::Twin(Mode mode, bool emulated) : Guest((choose(emulated), mode), nothing) {}

void Twins::Twin::load(const State &state, const u8 *from)
{
	memcpy(memory.bytes(), from, watched);
	vcpu.set(state.sregs);
	vcpu.set(state.regs);
	REQUIRE_EQ(vcpu.call(KVM_SET_DEBUGREGS, &state.debug), 0);
	// A shutdown leaves the exception behind that could not be delivered.
	const kvm_vcpu_events none{};
	REQUIRE_EQ(vcpu.call(KVM_SET_VCPU_EVENTS, &none), 0);
	static MsrTable table;
	table.nmsrs = std::size(msr::compared);
	for (unsigned i = 0; i < table.nmsrs; ++i)
		table.entries[i] = {
			.index = msr::compared[i], .reserved = 0, .data = state.msrs[i]};
	REQUIRE_EQ(vcpu.call(KVM_SET_MSRS, &table), static_cast<int>(table.nmsrs));
}

State Twins::Twin::save() const
{
	State state;
	state.regs = vcpu.regs();
	state.sregs = vcpu.sregs();
	REQUIRE_EQ(vcpu.call(KVM_GET_DEBUGREGS, &state.debug), 0);
	static MsrTable table;
	table.nmsrs = std::size(msr::compared);
	for (unsigned i = 0; i < table.nmsrs; ++i)
		table.entries[i] = {.index = msr::compared[i], .reserved = 0, .data = 0};
	REQUIRE_EQ(vcpu.call(KVM_GET_MSRS, &table), static_cast<int>(table.nmsrs));
	for (unsigned i = 0; i < table.nmsrs; ++i)
		state.msrs[i] = table.entries[i].data;
	return state;
}

u32 Twins::Twin::execute()
{
	constexpr unsigned most_exits = 64;
	ports = 0;
	u32 reason = run();
	for (unsigned i = 0; i < most_exits; ++i, reason = run()) {
		const auto &io = vcpu->io;
		switch (reason) {
		case KVM_EXIT_MMIO: memset(vcpu.state().mmio.data, 0, 8); break;
		case KVM_EXIT_IO: {
			const u64 bytes = u64{io.size} * io.count;
			ports = ports * 31 + io.port + (u64{io.direction} << 16) + (bytes << 17);
			for (u64 n = 0; n < bytes; ++n) {
				u8 &byte = vcpu.io_data()[n];
				if (io.direction == KVM_EXIT_IO_OUT)
					ports = ports * 31 + byte;
				else
					byte = static_cast<u8>(io.port + n);
			}
			break;
		}
		// That the priority fell is told by the processor's way only.
		case KVM_EXIT_SET_TPR: break;
		default: return reason;
		}
	}
	return reason;
}

Twins::Twins(Mode mode) : native_((with_parameter(), mode), false), forced_(mode, true)
{
	choose(false);
	start = native_.save();
	memcpy(image, native_.memory.bytes(), watched);
}

void Twins::set_code(const Instruction &code)
{
	code_ = code;
	memset(image + at::code, 0xf4, sizeof code.bytes);
	memcpy(image + at::code, code.bytes, code.size);
}

bool Twins::alike(const State &from, u64 undefined)
{
	++states_;
	native_.load(from, image);
	forced_.load(from, image);
	why = native_.execute();
	const u32 also = forced_.execute();

	Comparison compare;
	compare("exit", why, also);
	// What a shutdown leaves behind is undefined.
	if (why != KVM_EXIT_SHUTDOWN || also != why) {
		end = native_.save();
		const State other = forced_.save();
		compare_regs(compare, end.regs, other.regs, undefined);
		compare_sregs(compare, end.sregs, other.sregs);
		compare("ports", native_.ports, forced_.ports);
		for (unsigned i = 0; i < 4; ++i)
			compare("dr0 to dr3", end.debug.db[i], other.debug.db[i]);
		compare("dr6", end.debug.dr6, other.debug.dr6);
		compare("dr7", end.debug.dr7, other.debug.dr7);
		for (unsigned i = 0; i < std::size(end.msrs); ++i)
			compare("msr", end.msrs[i], other.msrs[i]);
		compare_memory(compare, native_.memory.bytes(), forced_.memory.bytes());
	}
	if (!compare.same) {
		++different_;
		char text[3 * sizeof code_.bytes + 1] = "";
		for (unsigned i = 0; i < code_.size; ++i)
			snprintf(text + 3 * i, 4, " %02x", code_.bytes[i]);
		note("by%s", text);
		const kvm_regs &r = from.regs;
		note("from rip %llx, rsp %llx, rflags %llx, rax %llx, rcx %llx, cr0 %llx, cr4 "
		     "%llx, dr7 %llx",
			r.rip, r.rsp, r.rflags, r.rax, r.rcx, from.sregs.cr0, from.sregs.cr4,
			from.debug.dr7);
	}
	return CHECK(compare.same);
}

void Twins::summarize(unsigned forms, const char *of_what) const
{
	note("%u %s, %u states, %u differ", forms, of_what, states_, different_);
}

} // namespace kvmpp::selftests
