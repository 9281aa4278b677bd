// SPDX-License-Identifier: GPL-2.0-only
// Pages that a guest does not wait for: how it is told that one is missing, and that it is there.
#include <algorithm>
#include <asm/kvm_para.h>
#include <set>
#include <thread>
#include "tests/core/machine.h"
#include "vmx/fields.h"
#include "x86/msr.h"

namespace kvmpp::tests
{
namespace
{

namespace field = vmx::field;
using vmx::EventInfo;
using vmx::EventType;
using vmx::ExitReason;

constexpr u64 place = 0x3000, missing = 0x5000, ram_pages = 128;
constexpr u8 vector = 0xec;
constexpr u64 enabled = KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_DELIVERY_AS_INT;
constexpr u64 always = enabled | KVM_ASYNC_PF_SEND_ALWAYS;
constexpr u32 all_are_there = ~u32{0};

class AsyncFaults : public Machine {
protected:
	void SetUp() override
	{
		Machine::SetUp();
		sim::this_thread().impatient = true; // a sleep without end is a signal
		vm_.emplace();
		ASSERT_EQ(vm_->ioctl(KVM_CREATE_IRQCHIP), 0);
		ASSERT_EQ(vm_->set_slot(0, 0, ram_), 0);
		vcpu_ = vm_->create_vcpu();
		ASSERT_EQ(vcpu_.set_supported_cpuid(), 0);
		vcpu_.enter_long_mode(0x1000, 0x8000);
		constexpr u64 x2apic = 1 << 10;
		ASSERT_EQ(vcpu_.set_msr(x86::msr::apic_base, *vcpu_.msr(x86::msr::apic_base) | x2apic), 1);
		ASSERT_EQ(vcpu_.set_msr(0x80f, 0x1ff), 1);
		ASSERT_EQ(vcpu_.set_msr(0x835, 0x10000), 1); // the PIC's output is masked
		set_interrupts(true);
		waits_ = sim::waits_for_pages();
	}
	void TearDown() override
	{
		sim::this_thread().impatient = false;
		vcpu_.close();
		vm_.reset();
		sim::finish_page_ins();
		Machine::TearDown();
	}

	kvm_vcpu_pv_apf_data &told() const { return ram_.at<kvm_vcpu_pv_apf_data>(place); }
	u64 waits() const { return sim::waits_for_pages() - waits_; }
	void take_away(u64 address, u64 pages = 1)
	{
		ram_.change(address / page_size, pages, sim::PageState::away);
	}
	void set_interrupts(bool on) const
	{
		kvm_regs regs = vcpu_.regs();
		regs.rflags = on ? 0x202 : 2;
		ASSERT_EQ(vcpu_.ioctl(KVM_SET_REGS, &regs), 0);
	}
	void set_privilege(u8 level) const
	{
		kvm_sregs sregs = vcpu_.sregs();
		sregs.cs.dpl = sregs.ss.dpl = level;
		sregs.cs.selector = 0x8 | level;
		sregs.ss.selector = 0x10 | level;
		ASSERT_EQ(vcpu_.ioctl(KVM_SET_SREGS, &sregs), 0);
	}

	// Runs to the VMM, and notes what is delivered on the way, whose handlers return at once.
	struct Seen {
		std::vector<u8> vectors;
		u64 cr2 = 0;
		u32 flags = 0; // as a handler of #PF finds them
		bool operator()(u8 which) const { return std::ranges::find(vectors, which) != vectors.end(); }
	};
	Seen run(std::vector<sim::GuestProgram> steps)
	{
		Seen seen;
		steps.push_back(to_vmm);
		usize step = 0;
		EXPECT_EQ(vcpu_.run([&](Guest &g) -> GuestExit {
			if (!g.delivered)
				return steps[std::min(step++, steps.size() - 1)](g);
			seen.vectors.push_back(g.delivered->event.vector());
			g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_IF); // IRET
			if (g.delivered->event.type() == EventType::external_interrupt) {
				const auto exit = g.write_x2apic(0x80b, 0);
				return exit ? *exit : GuestExit::of(ExitReason::external_interrupt);
			}
			EXPECT_EQ(g.delivered->error_code, 0u);
			seen.cr2 = g.cpu.cr2;
			seen.flags = std::exchange(told().flags, 0);
			return GuestExit::of(ExitReason::external_interrupt);
		}),
			0);
		EXPECT_EQ(vcpu_.shared().exit_reason, u32{KVM_EXIT_IO});
		return seen;
	}
	Seen run_to_vmm() { return run({}); }
	// An instruction that accesses memory is executed again after what came between.
	static sim::GuestProgram touch(u64 address, bool write = false)
	{
		return [=](Guest &g) -> GuestExit {
			u8 value = 1;
			const auto exit = write ? g.write(address, &value, 1) : g.read(address, &value, 1);
			return exit ? *exit : GuestExit::of(ExitReason::external_interrupt);
		};
	}
	static sim::GuestProgram wrmsr(u32 index, u64 value)
	{
		return [=](Guest &g) { return g.wrmsr(index, value); };
	}
	// And the guest has heard that everything is there.
	void enable(u64 value = always)
	{
		ASSERT_EQ(vcpu_.set_msr(MSR_KVM_ASYNC_PF_INT, vector), 1);
		ASSERT_EQ(vcpu_.set_msr(MSR_KVM_ASYNC_PF_EN, place | value), 1);
		EXPECT_EQ(run_to_vmm().vectors, std::vector{vector});
		EXPECT_EQ(std::exchange(told().token, 0), all_are_there);
		EXPECT_EQ(run({wrmsr(MSR_KVM_ASYNC_PF_ACK, 1)}).vectors, std::vector<u8>{});
	}
	// The token by which the guest learns that a page is missing; 0: it has waited.
	u32 token_for(u64 address)
	{
		const u64 before = waits();
		const Seen seen = run({touch(address)});
		EXPECT_EQ(seen(14), waits() == before);
		EXPECT_EQ(seen.flags, seen(14) ? u32{KVM_PV_REASON_PAGE_NOT_PRESENT} : 0);
		return static_cast<u32>(seen.cr2);
	}
	u32 acknowledge()
	{
		const u32 token = std::exchange(told().token, 0);
		run({wrmsr(MSR_KVM_ASYNC_PF_ACK, 1)});
		return token;
	}

	std::optional<Vm> vm_;
	sim::UserMemory ram_{ram_pages};
	Vcpu vcpu_;
	u64 waits_ = 0;
};

TEST_F(AsyncFaults, ThePageComesWhileTheGuestDoesSomethingElse)
{
	EXPECT_EQ(vm_->ioctl(KVM_CHECK_EXTENSION, KVM_CAP_ASYNC_PF), 1);
	EXPECT_EQ(vm_->ioctl(KVM_CHECK_EXTENSION, KVM_CAP_ASYNC_PF_INT), 1);
	enable();
	take_away(missing);
	const u32 token = token_for(missing);
	EXPECT_NE(token, 0u);
	EXPECT_NE(token, all_are_there);
	EXPECT_EQ(sim::page_ins(), 1u);
	EXPECT_EQ(run_to_vmm().vectors, std::vector<u8>{});
	EXPECT_EQ(told().token, 0u);
	sim::finish_page_ins();
	EXPECT_EQ(run({touch(missing)}).vectors, std::vector{vector});
	EXPECT_EQ(told().token, token);
	EXPECT_EQ(waits(), 0u);
}

TEST_F(AsyncFaults, OneIsReportedAfterTheOther)
{
	enable();
	take_away(missing, 3);
	std::set<u32> tokens;
	for (u64 i = 0; i < 3; ++i)
		tokens.insert(token_for(missing + i * page_size));
	EXPECT_EQ(tokens.size(), 3u);
	sim::finish_page_ins();
	EXPECT_EQ(run_to_vmm().vectors, std::vector{vector});
	// Without the guest's word nothing more comes, nor while the last token stands.
	EXPECT_EQ(run({wrmsr(MSR_KVM_ASYNC_PF_ACK, 1)}).vectors, std::vector<u8>{});
	for (unsigned left = 3; left; --left) {
		EXPECT_EQ(tokens.erase(told().token), 1u);
		told().token = 0;
		EXPECT_EQ(run({wrmsr(MSR_KVM_ASYNC_PF_ACK, 0)}).vectors, std::vector<u8>{});
		EXPECT_EQ(run({wrmsr(MSR_KVM_ASYNC_PF_ACK, 1)}).vectors.size(), left > 1 ? 1 : 0);
	}
	EXPECT_EQ(told().token, 0u);
}

TEST_F(AsyncFaults, AGuestThatHaltsIsWoken)
{
	enable();
	take_away(missing);
	const u32 token = token_for(missing);
	unsigned halts = 0;
	const Seen seen = run({[&](Guest &g) {
		++halts;
		std::thread{[] { sim::finish_page_ins(); }}.join();
		return g.hlt();
	}});
	EXPECT_EQ(halts, 1u);
	EXPECT_EQ(seen.vectors, std::vector{vector});
	EXPECT_EQ(told().token, token);
}

TEST_F(AsyncFaults, WhereTheGuestCannotBeToldItWaits)
{
	const auto waits_there = [this] {
		take_away(missing);
		return token_for(missing) == 0;
	};
	EXPECT_TRUE(waits_there()); // not enabled
	enable(enabled);
	EXPECT_TRUE(waits_there()); // at privilege level 0
	set_privilege(3);
	EXPECT_FALSE(waits_there());
	set_interrupts(false);
	EXPECT_TRUE(waits_there());
	set_interrupts(true);
	told().flags = KVM_PV_REASON_PAGE_NOT_PRESENT; // it has not seen the last one
	EXPECT_TRUE(waits_there());
	told().flags = 0;
	EXPECT_FALSE(waits_there());
	sim::finish_page_ins();
	set_privilege(0);
	run_to_vmm();
	EXPECT_NE(acknowledge(), 0u);
	EXPECT_NE(acknowledge(), 0u);
	enable();
	EXPECT_FALSE(waits_there());
	// Without paging.
	kvm_sregs sregs = vcpu_.sregs();
	sregs.cr0 &= ~X86_CR0_PG;
	sregs.efer = 0;
	sregs.cs.l = 0;
	sregs.cs.db = 1;
	ASSERT_EQ(vcpu_.ioctl(KVM_SET_SREGS, &sregs), 0);
	EXPECT_TRUE(waits_there());
}

// An event that met the missing page comes first, and so does its page.
TEST_F(AsyncFaults, TheDeliveryOfAnEventWaits)
{
	enable();
	take_away(missing);
	const auto deliver = [](Guest &g) {
		u8 value;
		auto exit = g.read(missing, &value, 1);
		EXPECT_TRUE(exit);
		exit->vectoring = EventInfo::of(EventType::external_interrupt, 0x77);
		return *exit;
	};
	EXPECT_EQ(run({deliver}).vectors, std::vector<u8>{0x77});
	EXPECT_EQ(waits(), 1u);
	EXPECT_EQ(sim::page_ins(), 0u);
}

TEST_F(AsyncFaults, NoMoreThanSoManyAtOnce)
{
	constexpr u64 most = 64;
	enable();
	take_away(0x10000, most + 1);
	for (u64 i = 0; i < most; ++i)
		EXPECT_NE(token_for(0x10000 + i * page_size), 0u);
	EXPECT_EQ(sim::page_ins(), most);
	EXPECT_EQ(token_for(0x10000 + most * page_size), 0u);
	// Those that nobody waits for count as well, until they are there.
	enable();
	take_away(missing);
	EXPECT_EQ(token_for(missing), 0u);
	sim::finish_page_ins(1);
	take_away(missing);
	EXPECT_NE(token_for(missing), 0u);
}

TEST_F(AsyncFaults, SwitchedOffItHearsNothingMore)
{
	// Without the interrupt it is off, too: "ready" by #PF is not offered.
	for (const u64 off : {u64{0}, u64{place | KVM_ASYNC_PF_ENABLED}}) {
		enable();
		take_away(missing);
		EXPECT_NE(token_for(missing), 0u);
		EXPECT_EQ(run({wrmsr(MSR_KVM_ASYNC_PF_EN, off)}).vectors, std::vector<u8>{});
		sim::finish_page_ins();
		EXPECT_EQ(run_to_vmm().vectors, std::vector<u8>{});
		EXPECT_EQ(told().token, 0u);
		take_away(missing);
		EXPECT_EQ(token_for(missing), 0u);
	}
}

TEST_F(AsyncFaults, AnInitSwitchesItOff)
{
	enable();
	take_away(missing);
	EXPECT_NE(token_for(missing), 0u);
	kvm_msi msi{};
	msi.address_lo = 0xfee00000;
	msi.data = 5 << 8;
	ASSERT_EQ(vm_->ioctl(KVM_SIGNAL_MSI, &msi), 1);
	run_to_vmm();
	EXPECT_EQ(vcpu_.msr(MSR_KVM_ASYNC_PF_EN), 0u);
	EXPECT_EQ(vcpu_.msr(MSR_KVM_ASYNC_PF_INT), 0u);
	sim::finish_page_ins();
	EXPECT_EQ(run_to_vmm().vectors, std::vector<u8>{});
	EXPECT_EQ(told().token, 0u);
}

// What a VMM restores: the guest, which may wait for tokens of another processor, hears that all is there.
TEST_F(AsyncFaults, SavedAndRestored)
{
	enable();
	take_away(missing);
	EXPECT_NE(token_for(missing), 0u);
	EXPECT_EQ(vcpu_.msr(MSR_KVM_ASYNC_PF_EN), place | always);
	EXPECT_EQ(vcpu_.msr(MSR_KVM_ASYNC_PF_INT), vector);
	EXPECT_EQ(vcpu_.msr(MSR_KVM_ASYNC_PF_ACK), 0u);
	ASSERT_EQ(vcpu_.set_msr(MSR_KVM_ASYNC_PF_EN, place | always), 1);
	sim::finish_page_ins();
	EXPECT_EQ(run_to_vmm().vectors, std::vector{vector});
	EXPECT_EQ(acknowledge(), all_are_there);
	EXPECT_EQ(run_to_vmm().vectors, std::vector<u8>{});
	EXPECT_EQ(told().token, 0u);
}

TEST_F(AsyncFaults, WhatTheRegistersTake)
{
	for (const u64 value : {u64{place | 0x10}, u64{place | 0x20}, place | enabled | 4, 0x100000 | enabled,
		     0xfffffffffffc0 | enabled}) {
		EXPECT_EQ(vcpu_.set_msr(MSR_KVM_ASYNC_PF_EN, value), 0) << value;
		EXPECT_EQ(vcpu_.msr(MSR_KVM_ASYNC_PF_EN), 0u);
	}
	EXPECT_EQ(run({wrmsr(MSR_KVM_ASYNC_PF_INT, 0x100)}).vectors, std::vector<u8>{13});
	EXPECT_EQ(vcpu_.set_msr(MSR_KVM_ASYNC_PF_INT, 0xff), 1);
	// On at a place that is not there, and gone: nothing comes, and pages are waited for.
	enable();
	ASSERT_EQ(vm_->set_slot(0, 0, ram_.address(), 0), 0);
	ASSERT_EQ(vm_->set_slot(1, 0x100000, ram_), 0);
	ASSERT_EQ(vcpu_.set_msr(MSR_KVM_ASYNC_PF_ACK, 1), 1);
	take_away(missing);
	EXPECT_EQ(token_for(0x100000 + missing), 0u);
}

TEST_F(AsyncFaults, OnlyWithWhatCpuidSaysIfTheVmmWantsThat)
{
	enable();
	kvm_enable_cap capability{};
	capability.cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID;
	capability.args[0] = 1;
	ASSERT_EQ(vcpu_.ioctl(KVM_ENABLE_CAP, &capability), 0);
	EXPECT_EQ(run({wrmsr(MSR_KVM_ASYNC_PF_EN, 0)}).vectors, std::vector<u8>{});
	const auto with = [&](u32 features) {
		auto table = supported_cpuid();
		for (auto &entry : table->entries)
			if (entry.function == KVM_CPUID_FEATURES)
				entry.eax = features;
		vcpu_.close();
		vm_.emplace();
		ASSERT_EQ(vm_->ioctl(KVM_CREATE_IRQCHIP), 0);
		ASSERT_EQ(vm_->set_slot(0, 0, ram_), 0);
		vcpu_ = vm_->create_vcpu();
		ASSERT_EQ(vcpu_.ioctl(KVM_SET_CPUID2, table.get()), 0);
		ASSERT_EQ(vcpu_.ioctl(KVM_ENABLE_CAP, &capability), 0);
		vcpu_.enter_long_mode(0x1000, 0x8000);
	};
	const std::vector<u8> refused{13}, taken;
	with(1 << KVM_FEATURE_ASYNC_PF);
	EXPECT_EQ(run({wrmsr(MSR_KVM_ASYNC_PF_EN, place | KVM_ASYNC_PF_ENABLED)}).vectors, taken);
	EXPECT_EQ(run({wrmsr(MSR_KVM_ASYNC_PF_EN, place | enabled)}).vectors, refused);
	EXPECT_EQ(run({wrmsr(MSR_KVM_ASYNC_PF_INT, vector)}).vectors, refused);
	EXPECT_EQ(run({wrmsr(MSR_KVM_ASYNC_PF_ACK, 1)}).vectors, refused);
	with(1 << KVM_FEATURE_ASYNC_PF_INT);
	EXPECT_EQ(run({wrmsr(MSR_KVM_ASYNC_PF_EN, place | enabled)}).vectors, refused);
	EXPECT_EQ(run({wrmsr(MSR_KVM_ASYNC_PF_INT, vector)}).vectors, taken);
}

TEST_F(AsyncFaults, NotWithoutALocalApicOfOurs)
{
	vcpu_.close();
	vm_.emplace();
	ASSERT_EQ(vm_->set_slot(0, 0, ram_), 0);
	vcpu_ = vm_->create_vcpu();
	EXPECT_EQ(vcpu_.set_msr(MSR_KVM_ASYNC_PF_EN, place | enabled), 0);
	EXPECT_EQ(vcpu_.set_msr(MSR_KVM_ASYNC_PF_INT, vector), 0);
	EXPECT_EQ(vcpu_.set_msr(MSR_KVM_ASYNC_PF_EN, 0), 1);
	EXPECT_EQ(vcpu_.set_msr(MSR_KVM_ASYNC_PF_INT, 0), 1);
}

// The interrupt is kept for an APIC that is switched off meanwhile.
TEST_F(AsyncFaults, TheLocalApicIsOffForAWhile)
{
	enable();
	take_away(missing);
	const u32 token = token_for(missing);
	run({wrmsr(0x80f, 0xff)});
	sim::finish_page_ins();
	EXPECT_EQ(run_to_vmm().vectors, std::vector<u8>{});
	EXPECT_EQ(told().token, 0u);
	EXPECT_EQ(run({wrmsr(0x80f, 0x1ff)}).vectors, std::vector{vector});
	EXPECT_EQ(told().token, token);
}

TEST_F(AsyncFaults, TheMachineGoesWhileAPageIsUnderWay)
{
	enable();
	take_away(missing, 2);
	EXPECT_NE(token_for(missing), 0u);
	EXPECT_NE(token_for(missing + page_size), 0u);
	sim::finish_page_ins(1);
	vcpu_.close();
	vm_.reset();
	EXPECT_EQ(sim::page_ins(), 1u);
	sim::finish_page_ins();
}

// Then the guest waits, and the #PF that would have told it is not announced.
TEST_F(AsyncFaults, TheHostCannotHelp)
{
	enable();
	unsigned waited = 0;
	const auto step = [&](unsigned) {
		take_away(missing);
		const u64 before = waits();
		bool is_told = false;
		const long result = vcpu_.run([&](Guest &g) -> GuestExit {
			is_told |= g.delivered.has_value();
			g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_IF);
			u8 value;
			if (const auto exit = is_told ? std::nullopt : g.read(missing, &value, 1))
				return *exit;
			return to_vmm(g);
		});
		if (result == 0) {
			EXPECT_EQ(std::exchange(told().flags, 0), is_told ? 1u : 0u);
			EXPECT_NE(waits() > before, is_told);
			waited += !is_told;
		}
	};
	sim::with_each_failing(static_cast<u32>(sim::Fallible::allocation), step);
	EXPECT_GT(waited, 0u);
	EXPECT_EQ(sim::page_ins(), 1u);
	waited = 0;
	sim::with_each_failing(static_cast<u32>(sim::Fallible::host_call), step);
	EXPECT_EQ(waited, 1u);
}

} // namespace
} // namespace kvmpp::tests
