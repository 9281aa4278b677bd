// SPDX-License-Identifier: GPL-2.0-only
// A local APIC, xAPIC and x2APIC (SDM vol. 3, chapter 11).
//
// Two kinds of callers. Anybody, in any context and without a lock: the methods of the first group.
// The owner, which is the vCPU's thread, or the thread that keeps it from running: everything else.
// They share the posted-interrupt descriptor, the event word, the identity (atomics) and the TMR;
// registers that anybody reads are read one word at a time.
//
// Lock order: there is no lock here. The wake callback is called wherever anybody posts, so also
// under the I/O APIC's lock and in hard interrupt context.
#pragma once

#include <atomic>
#include <optional>
#include <linux/kvm.h>
#include "host/memory.h"
#include "host/result.h"
#include "x86/devices/apic_page.h"
#include "x86/devices/callback.h"
#include "x86/devices/lapic_timer.h"
#include "x86/devices/message.h"

namespace kvmpp::x86
{

// Bits of IA32_APIC_BASE (SDM vol. 3, 11.12.1).
namespace apic_base
{
inline constexpr u64 bsp = bit(8), x2apic = bit(10), enable = bit(11);
inline constexpr u64 default_address = 0xfee00000;
} // namespace apic_base

inline constexpr u32 x2apic_msr_first = 0x800, x2apic_msr_last = 0x8ff;

constexpr bool is_x2apic_msr(u32 index)
{
	return index >= x2apic_msr_first && index <= x2apic_msr_last;
}

constexpr u32 x2apic_msr_of(ApicRegister name)
{
	return x2apic_msr_first + static_cast<u32>(name) / 16;
}

// Inputs that the local vector table serves, by their entry.
enum class LocalSource : u16 {
	cmci = static_cast<u16>(ApicRegister::lvt_cmci),
	thermal = static_cast<u16>(ApicRegister::lvt_thermal),
	performance = static_cast<u16>(ApicRegister::lvt_pmc),
	lint0 = static_cast<u16>(ApicRegister::lvt_lint0),
	lint1 = static_cast<u16>(ApicRegister::lvt_lint1),
};

class Lapic : host::Pinned {
public:
	// An interrupt that the guest has finished.
	struct Eoi {
		u8 vector = 0;
		bool level = false;
		bool broadcast =
			false; // I/O APICs are to be told: level, and not suppressed by SVR[12]
	};

	// What a register write asks of the machine.
	struct Effect {
		enum class Kind : u8 {
			none,
			fault,	  // #GP(0), nothing has changed
			send,	  // deliver `message` from this APIC
			eoi,	  // `eoi` happened
			identity, // identity() has changed
		};
		Kind kind = Kind::none;
		Eoi eoi{};
		Message message{};
	};

	// What others have asked of the processor since the owner last looked.
	struct Events {
		bool nmi = false;
		bool smi = false;
		bool init = false; // comes before startup
		bool startup = false;
		u8 startup_vector = 0;
	};

	// Which parts of the guest's processor exist, from its CPUID and MCG_CAP.
	struct Features {
		bool x2apic = false;
		bool tsc_deadline = false;
		bool cmci = false;
		bool directed_eoi =
			false; // SVR[12]; for a machine whose I/O APIC has an EOI register
	};

	static Result<host::Own<Lapic>> create(u32 id, Callback<void()> wake,
		u64 min_timer_period = LapicTimer::default_min_period);
	Lapic(host::Page &&page, u32 id, Callback<void()> wake, u64 min_timer_period);

	// --- anybody
	// ------------------------------------------------------------------------------

	Identity identity() const { return identity_.load(std::memory_order_relaxed); }
	u8 task_priority() const { return static_cast<u8>(page_.read(ApicRegister::tpr)); }
	// Takes a message that matches(); more than 0, or delivery_ignored, delivery_coalesced.
	int accept(const Message &message);
	// A pulse on one of the local inputs; whether its entry lets it through. Performance
	// counters: the owner only.
	bool local_interrupt(LocalSource source);
	// Whether the PIC's output reaches this processor: through LINT0, or directly where there
	// is no APIC (SDM vol. 3, 11.4.3).
	bool accepts_pic() const;

	// --- the owner: the way into the guest
	// ----------------------------------------------------

	// Whether collect() has anything to do.
	bool attention() const
	{
		return page_.posted().pending() || events_.load(std::memory_order_relaxed);
	}
	// Moves what has been posted into IRR, delivers the timer's interrupt, hands out the rest.
	Events collect();
	// An INIT that has not been collected.
	bool init_posted() const { return events_.load(std::memory_order_relaxed) & event_init; }
	void forget_init() { events_.fetch_and(~event_init); }
	// The vector to be delivered now, unless RFLAGS or the like forbid.
	std::optional<u8> injectable() const
	{
		const u8 vector = irr_.highest();
		if (vector == 0 || vector >> 4 <= processor_priority() >> 4)
			return {};
		return vector;
	}
	// The processor takes `vector`, from injectable(): IRR to ISR.
	void acknowledge(u8 vector)
	{
		irr_.clear(vector);
		isr_.set(vector);
	}
	std::optional<Eoi> end_of_interrupt();

	u8 highest_requested() const { return irr_.highest(); } // 0: none
	u8 highest_in_service() const { return isr_.highest(); }
	u8 processor_priority() const
	{
		const u8 task = task_priority(), service = isr_.highest() & 0xf0;
		return (task & 0xf0) >= service ? task : service;
	}
	void set_task_priority(u8 value) { page_.write(ApicRegister::tpr, value); }
	u8 cr8() const { return task_priority() >> 4; }
	void set_cr8(u8 value) { page_.write(ApicRegister::tpr, (value & 0xf) << 4); }

	// --- the owner: registers
	// -----------------------------------------------------------------

	bool xapic_enabled() const
	{
		return (base_ & (apic_base::enable | apic_base::x2apic)) == apic_base::enable;
	}
	bool x2apic_enabled() const { return base_ & apic_base::x2apic; }
	// Its registers are where they are after RESET.
	bool at_default_address() const
	{
		return xapic_enabled() && (base_ & bits(51, page_shift)) == apic_base::default_address;
	}
	// In xAPIC mode, `offset` from the base address, below 4 KiB.
	u64 read_mmio(u32 offset, unsigned size);
	Effect write_mmio(u32 offset, unsigned size, u64 value);
	// MSRs 0x800 to 0x8ff; none: #GP.
	std::optional<u64> read_msr(u32 index);
	Effect write_msr(u32 index, u64 value);
	// IA32_TSC_DEADLINE. The conversion is the guest's clock as it is now; while the processor watches,
	// its TSC alone.
	u64 tsc_deadline() const { return timer_.tsc_deadline(); }
	void set_tsc_deadline(u64 value, const TscMoment &moment);
	// The guest's TSC was changed: an armed deadline comes at another time.
	void tsc_changed(const TscMoment &moment);

	u64 base() const { return base_; }
	// IA32_APIC_BASE. EINVAL for reserved bits, and for a transition that the SDM (vol. 3,
	// 11.12.5) does not know unless it is the VMM that restores a state.
	Result<> set_base(u64 value, unsigned physical_bits, bool by_vmm);
	void set_features(const Features &features);

	// --- the owner: state
	// ---------------------------------------------------------------------

	// RESET. The BSP's LINT0 comes up connected to the PIC if `lint0_extint` says so, as
	// firmware of old expects.
	void reset(bool bsp, bool lint0_extint);
	// INIT, which the mode, the base address and the ID survive.
	void init();

	// KVM_GET_LAPIC, KVM_SET_LAPIC; `wide` is KVM_X2APIC_API_USE_32BIT_IDS.
	void get(kvm_lapic_state &state, bool wide);
	Result<> set(const kvm_lapic_state &state, bool wide);

	// --- the owner: time, and VT-x's help
	// -----------------------------------------------------

	// The timer's next expiry by the host timer; 0: none.
	u64 timer_expiry() const { return timer_.expiry(); }
	// A processor that can end its guest's turn at a TSC deadline watches it while the vCPU runs, the
	// host while it sleeps.
	void let_processor_watch_deadline();
	void let_host_watch_deadline(const TscMoment &moment);
	bool processor_watches_deadline() const { return timer_.processor_watches(); }
	// What the processor has to watch, by the guest's TSC; 0: nothing.
	u64 watched_deadline() const { return timer_.processor_watches() ? timer_.tsc_deadline() : 0; }
	// Delivers the timer's interrupt if the deadline has come.
	void expire_deadline(u64 tsc);

	// VIRTUAL_APIC_PAGE_ADDR (SDM vol. 3, 30.1).
	Hpa page() const { return page_.page().physical(); }
	// Whether the processor delivers interrupts from the page, so that IRR and ISR change while the
	// guest runs.
	void share_with_processor(bool shared)
	{
		irr_.share(shared);
		isr_.share(shared);
	}
	// Whether they were changed here since the last call: the processor has to be told.
	bool take_changed() { return irr_.take_changed() | isr_.take_changed(); }
	// Whether the page holds what a read of this register gives, with all its side effects.
	bool readable_in_page(ApicRegister name) const;
	// The processor has ended an interrupt by itself.
	Eoi ended(u8 vector) const;
	// It has written a register into the page, which has all its effects now.
	Effect written(u32 offset);

private:
	static constexpr u32 svr_enable = 1 << 8, svr_no_broadcast = 1 << 12;
	static constexpr u32 lvt_masked = 1 << 16;
	static constexpr u32 icr_high_x2apic = 0x304; // bits 63:32 of the one ICR

	// Bits of events_.
	static constexpr u32 event_timer = 1 << 0, event_nmi = 1 << 1, event_init = 1 << 2,
			     event_startup = 1 << 3, event_illegal_vector = 1 << 4, event_smi = 1 << 5;
	static constexpr unsigned startup_vector_shift = 8;

	// Bits of ESR (SDM vol. 3, 11.5.3).
	static constexpr u32 error_send_illegal = 1 << 5, error_receive_illegal = 1 << 6,
			     error_illegal_register = 1 << 7;

	void timer_expired();
	int accept_vector(u8 vector, bool level);
	void raise(u32 event);
	void startup(u8 vector);
	void deliver(u8 vector);
	void deliver_timer();
	void take_posted();
	void error(u32 bit);

	bool readable(u32 offset) const;
	u32 writable(u32 offset) const;
	u32 read_register(u32 offset);
	Effect write_register(ApicRegister name, u32 value);
	Effect write_wide_icr(u64 value);
	Effect command(u32 low, u32 destination);
	Effect finish();
	void write_lvt(ApicRegister name, u32 value);
	// Settles what the timer did before it is changed.
	void hold_timer();
	LapicTimer::Mode timer_mode() const;

	void reload()
	{
		irr_.reload();
		isr_.reload();
	}
	bool level_triggered(u8 vector) const { return page_.test(ApicRegister::tmr, vector); }
	bool broadcasts_eoi() const { return !(page_.read(ApicRegister::svr) & svr_no_broadcast); }
	void clear_registers();
	void set_mode_registers();
	void publish();
	u32 version() const;

	std::atomic<Identity> identity_{};
	std::atomic<u32> events_{0};
	u32 id_;
	u32 errors_ = 0; // since the last write of ESR
	Features features_{};
	u64 base_ = 0;
	ApicPage page_;
	VectorRegister irr_{page_, ApicRegister::irr}, isr_{page_, ApicRegister::isr};
	Callback<void()> wake_;
	LapicTimer timer_; // last: it calls back until it is gone
};
static_assert(sizeof(Lapic::Effect) <= 16, "returned in registers");

} // namespace kvmpp::x86
