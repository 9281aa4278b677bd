// SPDX-License-Identifier: GPL-2.0-only
// The guest's registers that live in the VMCS, read when somebody asks and written when they
// changed. Setting one touches memory only; flush() before an entry writes what differs.
#pragma once

#include <array>
#include <bit>
#include "vmx/capabilities.h"
#include "vmx/fields.h"
#include "vmx/vmcs.h"
#include "x86/registers.h"

namespace kvmpp::vmx
{

struct Sysenter {
	u64 cs = 0, esp = 0, eip = 0;
};

// The registers that are read and written one by one; the segments in the order of SegmentName.
enum class LazyRegister : u8 {
	rip,
	rsp,
	rflags,
	cr0,
	cr3,
	cr4,
	efer,
	pat,
	pdptes,
	es,
	cs,
	ss,
	ds,
	fs,
	gs,
	ldtr,
	tr,
	gdt,
	idt,
	sysenter,
	interruptibility,
	dr7,
	count,
};

constexpr u32 lazy_mask(LazyRegister name)
{
	return u32{1} << static_cast<u8>(name);
}

class GuestState {
    public:
	// After an exit: what the guest may have changed is unknown until it is read.
	void exited()
	{
		known_ = kept_;
		instruction_passed_ = false;
	}
	// Before an entry: writes every register that was set.
	void flush(Current vmcs)
	{
		// Most exits complete an instruction, and nothing else.
		if (dirty_ == mask(Register::rip) && !halts_inside_) {
			vmcs.write(field::guest_rip, rip_);
			dirty_ = 0;
		} else if (dirty_) [[unlikely]] {
			write_dirty(vmcs);
		}
	}
	// An event is about to be delivered to a guest that may have halted without an exit.
	void wake(Current vmcs)
	{
		if (halts_inside_) [[unlikely]]
			vmcs.write(field::guest_activity, 0);
	}
	// A guest whose HLT does not exit waits there now.
	bool halted_inside(Current vmcs) const
	{
		constexpr u32 halted = 1;
		return halts_inside_ && vmcs.read(field::guest_activity) == halted;
	}
	// True when every register below can be read without the VMCS.
	bool knows_program_state() const { return (known_ & program_state) == program_state; }

	u64 rip(Current vmcs) { return get<Register::rip>(rip_, vmcs, field::guest_rip); }
	u64 rsp(Current vmcs) { return get<Register::rsp>(rsp_, vmcs, field::guest_rsp); }
	u64 rflags(Current vmcs) { return get<Register::rflags>(rflags_, vmcs, field::guest_rflags); }
	void set_rip(u64 value) { set<Register::rip>(rip_, value); }
	void set_rsp(u64 value) { set<Register::rsp>(rsp_, value); }
	// Bit 1 is always one.
	void set_rflags(u64 value) { set<Register::rflags>(rflags_, value | X86_EFLAGS_FIXED); }

	// Control registers as the guest sees them. Setting does not check; see control_registers.h.
	u64 cr0(Current vmcs);
	u64 cr3(Current vmcs);
	u64 cr4(Current vmcs);
	void set_cr0(u64 value) { set<Register::cr0>(cr0_, value); }
	void set_cr3(u64 value) { set<Register::cr3>(cr3_, value); }
	void set_cr4(u64 value) { set<Register::cr4>(cr4_, value); }
	// EFER and PAT change by intercepted writes only, so they are always known.
	u64 efer() const { return efer_; }
	void set_efer(u64 value) { set<Register::efer>(efer_, value); }
	u64 pat() const { return pat_; }
	void set_pat(u64 value) { set<Register::pat>(pat_, value); }
	std::array<u64, 4> pdptes(Current vmcs);
	void set_pdptes(const std::array<u64, 4> &value) { set<Register::pdptes>(pdptes_, value); }

	x86::Segment segment(Current vmcs, x86::SegmentName name);
	void set_segment(x86::SegmentName name, const x86::Segment &segment);
	// The rights alone, or the base alone: what the hot paths need.
	x86::AccessRights rights(Current vmcs, x86::SegmentName name);
	u64 segment_base(Current vmcs, x86::SegmentName name);
	unsigned cpl(Current vmcs) { return rights(vmcs, x86::SegmentName::ss).dpl(); }

	x86::DescriptorTable gdt(Current vmcs);
	x86::DescriptorTable idt(Current vmcs);
	void set_gdt(const x86::DescriptorTable &table) { set<Register::gdt>(gdt_, table); }
	void set_idt(const x86::DescriptorTable &table) { set<Register::idt>(idt_, table); }
	Sysenter sysenter(Current vmcs);
	void set_sysenter(const Sysenter &value) { set<Register::sysenter>(sysenter_, value); }

	// Blocking by STI, MOV SS and NMI (event.h: blocking).
	u32 interruptibility(Current vmcs);
	void set_interruptibility(u32 value)
	{
		instruction_passed_ = false;
		set<Register::interruptibility>(interruptibility_, value);
	}
	// Moves RIP over an instruction that was completed in software, and returns what RFLAGS are. For
	// nearly every exit, so in one piece.
	[[gnu::always_inline]] u64 pass_instruction(Current vmcs, u32 length)
	{
		constexpr u32 read = lazy_mask(Register::rip) | lazy_mask(Register::rflags);
		const u32 known = known_;
		const u64 old = known & mask(Register::rip) ? rip_ : vmcs.read(field::guest_rip);
		const u64 flags = known & mask(Register::rflags) ? rflags_ : vmcs.read(field::guest_rflags);
		rip_ = old + length;
		rflags_ = flags;
		known_ = known | read;
		dirty_ |= mask(Register::rip);
		instruction_passed();
		if ((rip_ ^ old) >> 32) [[unlikely]]
			wrap_rip(vmcs);
		return flags;
	}
	// An instruction was completed in software: STI and MOV SS block no longer. Costs nothing: the
	// field is looked at when somebody asks, and until then the processor holds interrupts off for
	// one instruction more, which nobody can tell from a later interrupt.
	void instruction_passed()
	{
		if (!(known_ & mask(Register::interruptibility)))
			instruction_passed_ = true;
		else if (interruptibility_ & (blocking::sti | blocking::mov_ss))
			set_interruptibility(interruptibility_ & ~(blocking::sti | blocking::mov_ss));
	}

	// Changes by intercepted writes only.
	u64 dr7() const { return dr7_; }
	void set_dr7(u64 value) { set<Register::dr7>(dr7_, value); }

	// Which CR4 bits the guest may change without an exit, as far as its CPUID has them.
	void own_cr4(u64 allowed);

	// Without unrestricted guests: whether a register was set that decides if the processor can enter.
	bool mode_may_have_changed() const { return dirty_ & decides_mode; }

	// For a fresh VMCS: writes the masks, and every register at the next flush.
	// identity_map: guest-physical address of a page directory that maps the first 4 GiB to
	// themselves; for processors without unrestricted guests, which cannot run without paging.
	void initialize(Current vmcs, const Capabilities &capabilities, const Controls &controls,
		Gpa identity_map);

    private:
	using Register = LazyRegister;
	static constexpr u32 mask(Register name) { return lazy_mask(name); }
	static constexpr Register register_of(x86::SegmentName name)
	{
		return static_cast<Register>(static_cast<u8>(Register::es) + static_cast<u8>(name));
	}
	static constexpr u32 all = lazy_mask(Register::count) - 1;
	static constexpr u32 kept_over_entry =
		lazy_mask(Register::efer) | lazy_mask(Register::pat) | lazy_mask(Register::dr7);
	// A guest's segments change by its own instructions to what the processor can enter with.
	static constexpr u32 decides_mode = lazy_mask(Register::cr0) | lazy_mask(Register::es) |
					    lazy_mask(Register::cs) | lazy_mask(Register::ss) |
					    lazy_mask(Register::ds) | lazy_mask(Register::fs) |
					    lazy_mask(Register::gs) | lazy_mask(Register::ldtr) |
					    lazy_mask(Register::tr);
	static constexpr u32 program_state = lazy_mask(Register::rip) | lazy_mask(Register::rsp) |
					     lazy_mask(Register::rflags);

	template <Register name, class T>
	void set(T &cached, const T &value)
	{
		cached = value;
		known_ |= mask(name);
		dirty_ |= mask(name);
	}
	template <Register name, class T, class F>
	T get(T &cached, Current vmcs, F from)
	{
		if (learn(name))
			cached = vmcs.read(from);
		return cached;
	}
	// Whether the value has to be read; it counts as known from now on.
	bool learn(Register name)
	{
		const bool unknown = !(known_ & mask(name));
		known_ |= mask(name);
		return unknown;
	}

	void write_dirty(Current vmcs);
	void wrap_rip(Current vmcs);
	void write_control_registers(Current vmcs);
	void follow_paging(Current vmcs);
	// The guest runs without paging on a processor that cannot.
	bool mapped_by_identity() const { return !unrestricted_ && !(cr0_ & X86_CR0_PG); }

	u32 known_ = all, kept_ = kept_over_entry;
	u32 dirty_ = all;
	bool instruction_passed_ = false;
	u32 interruptibility_ = 0;
	u64 rip_ = 0, rsp_ = 0, rflags_ = X86_EFLAGS_FIXED;
	u64 cr0_ = 0, cr3_ = 0, cr4_ = 0, efer_ = 0, pat_ = 0, dr7_ = 0x400;
	std::array<u64, 4> pdptes_{};
	std::array<x86::Segment, x86::segment_count> segments_{};
	x86::DescriptorTable gdt_{}, idt_{};
	Sysenter sysenter_{};

	u64 cr0_always_on_ = 0, cr4_always_on_ = 0;
	u64 cr4_guest_owned_ = 0;
	bool unrestricted_ = true;
	bool halts_inside_ = false; // HLT does not exit
	Gpa identity_map_{};
	u32 entry_controls_ = 0; // without "IA-32e mode guest", which follows EFER.LMA
};

// CR0 bits that change nothing but what the processor does by itself; the others switch modes.
inline constexpr u64 cr0_guest_owned = X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_WP | X86_CR0_AM;

// CR4 bits likewise, as far as the guest's CPUID has them.
inline constexpr u64 cr4_guest_owned_possible = X86_CR4_VME | X86_CR4_PVI | X86_CR4_DE | X86_CR4_PCE |
						X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_PGE |
						X86_CR4_TSD | X86_CR4_FSGSBASE;

} // namespace kvmpp::vmx
