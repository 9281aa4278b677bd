// SPDX-License-Identifier: GPL-2.0-only
// Local APICs in xAPIC mode on processors that take the guest's accesses to them (SDM vol. 3, 30.4).
#pragma once

#include "tests/core/interrupts.h"

namespace kvmpp::tests
{

using x86::Gpr;

// What the processor has besides a TPR shadow.
enum class ApicLevel { nothing, accesses, registers, delivery };

class ApicAccess : public Machine, public testing::WithParamInterface<ApicLevel> {
protected:
	using Exits = std::vector<ExitReason>;

	static constexpr u32 apic = 0xfee00000;
	static constexpr u64 code = 0x1000, behind = code + 5; // of the one instruction

	ApicAccess() { load_at_start_ = false; }
	void SetUp() override
	{
		Machine::SetUp();
		using namespace vmx::secondary;
		u32 missing = 0;
		switch (GetParam()) {
		case ApicLevel::nothing: sim::set_apicv(0); break;
		case ApicLevel::accesses: missing |= apic_register_virtualization; [[fallthrough]];
		case ApicLevel::registers: missing |= virtual_interrupt_delivery; break;
		case ApicLevel::delivery: break;
		}
		sim::set_msr_everywhere(msr::vmx_secondary,
			sim::cpu(0).msrs.at(msr::vmx_secondary) & ~(u64{missing} << 32));
		load();
		vm_.emplace();
		ASSERT_EQ(vm_->ioctl(KVM_CREATE_IRQCHIP), 0);
		ASSERT_EQ(vm_->set_slot(0, 0, ram_), 0);
		for (u64 id = 0; id < 2; ++id) {
			vcpus_[id] = vm_->create_vcpu(id);
			ASSERT_EQ(vcpus_[id].ioctl(KVM_SET_CPUID2, supported_cpuid(true).get()), 0);
			vcpus_[id].enter_protected_mode(code);
			kvm_mp_state runnable{.mp_state = KVM_MP_STATE_RUNNABLE};
			ASSERT_EQ(vcpus_[id].ioctl(KVM_SET_MP_STATE, &runnable), 0);
			set_register(vcpus_[id], 0xf0, 0x1ff);
			set_register(vcpus_[id], 0x350, 0x10000); // the PIC's output is masked
		}
	}
	void TearDown() override
	{
		for (Vcpu &vcpu : vcpus_)
			vcpu.close();
		vm_.reset();
		Machine::TearDown();
	}

	static bool takes_accesses() { return GetParam() != ApicLevel::nothing; }
	static bool has_registers() { return GetParam() >= ApicLevel::registers; }
	// The exits of an access that the processor virtualizes at some level, by what it does then; and of one
	// that none does.
	static Exits exits_of_read() { return has_registers() ? Exits{} : exits_of_others(); }
	static Exits exits_of_write() { return has_registers() ? Exits{ExitReason::apic_write} : exits_of_others(); }
	static Exits exits_of_others()
	{
		return {takes_accesses() ? ExitReason::apic_access : ExitReason::ept_violation};
	}

	static std::unique_ptr<kvm_lapic_state> state(const Vcpu &vcpu)
	{
		auto state = std::make_unique<kvm_lapic_state>();
		EXPECT_EQ(vcpu.ioctl(KVM_GET_LAPIC, state.get()), 0);
		return state;
	}
	static u32 get_register(const Vcpu &vcpu, u32 offset)
	{
		u32 value;
		std::memcpy(&value, &state(vcpu)->regs[offset], sizeof(value));
		return value;
	}
	static void set_register(const Vcpu &vcpu, u32 offset, u32 value)
	{
		const auto changed = state(vcpu);
		std::memcpy(&changed->regs[offset], &value, sizeof(value));
		ASSERT_EQ(vcpu.ioctl(KVM_SET_LAPIC, changed.get()), 0);
	}

	// MOV EAX, [address] (load) or MOV [address], EAX, as far as the processor does it.
	std::optional<GuestExit> move(Guest &g, u32 address, bool load) const
	{
		ram_.at<u8>(code) = load ? 0xa1 : 0xa3;
		std::memcpy(ram_.data() + code + 1, &address, sizeof(address));
		g.set(field::guest_rip, code);
		u32 value = static_cast<u32>(g.gprs[Gpr::rax]);
		const auto exit = load ? g.read(address, &value, sizeof(value)) : g.write(address, &value, sizeof(value));
		if (!exit && load)
			g.gprs[Gpr::rax] = value;
		// The others come before the instruction.
		if (!exit || exit->reason.basic() == ExitReason::apic_write ||
			exit->reason.basic() == ExitReason::tpr_below_threshold ||
			exit->reason.basic() == ExitReason::eoi_induced)
			g.set(field::guest_rip, behind);
		return exit;
	}
	// Until it is complete; the exits on the way go to `exits`.
	u32 execute(const Vcpu &vcpu, u32 address, bool load, u32 value, Exits &exits) const
	{
		bool begun = false;
		const auto program = [&](Guest &g) {
			if (!std::exchange(begun, true)) {
				g.gprs[Gpr::rax] = value;
				g.set(field::guest_rip, code);
			} else if (g.get(field::guest_rip) == behind || exits.size() > 4) {
				return GuestExit::of(ExitReason::triple_fault);
			}
			const auto exit = move(g, address, load);
			if (exit)
				exits.push_back(exit->reason.basic());
			return exit.value_or(GuestExit::of(ExitReason::triple_fault));
		};
		EXPECT_EQ(vcpu.run(program), 0);
		EXPECT_EQ(vcpu.shared().exit_reason, u32{KVM_EXIT_SHUTDOWN});
		EXPECT_EQ(vcpu.regs().rip, behind);
		return static_cast<u32>(vcpu.regs().rax);
	}
	u32 read(const Vcpu &vcpu, u32 offset, Exits expected) const
	{
		Exits exits;
		const u32 result = execute(vcpu, apic + offset, true, 0xcccccccc, exits);
		EXPECT_EQ(exits, expected) << "read of " << offset;
		return result;
	}
	void write(const Vcpu &vcpu, u32 offset, u32 value, Exits expected) const
	{
		Exits exits;
		execute(vcpu, apic + offset, false, value, exits);
		EXPECT_EQ(exits, expected) << "write of " << offset;
	}
	// The first access of all finds the page.
	void warm_up(const Vcpu &vcpu) const
	{
		Exits exits;
		EXPECT_EQ(execute(vcpu, apic + 0x30, true, 0, exits) & 0xff, 0x14u);
		Exits expected{ExitReason::ept_violation};
		if (GetParam() == ApicLevel::accesses)
			expected.push_back(ExitReason::apic_access);
		EXPECT_EQ(exits, expected);
	}
	long send_msi(u8 vector) const
	{
		kvm_msi msi{};
		msi.address_lo = apic;
		msi.data = vector;
		return vm_->ioctl(KVM_SIGNAL_MSI, &msi);
	}
	// Runs with interrupts on.
	static std::optional<u8> taken_by(const Vcpu &vcpu)
	{
		std::optional<u8> result;
		unsigned entries = 0;
		EXPECT_EQ(vcpu.run([&](Guest &g) {
			if (g.delivered)
				result = g.delivered->event.vector();
			if (result || ++entries > 2) {
				g.set(field::guest_rflags, g.get(field::guest_rflags) & ~u64{X86_EFLAGS_IF});
				return GuestExit::of(ExitReason::triple_fault);
			}
			g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_IF);
			return GuestExit::of(ExitReason::external_interrupt);
		}),
			0);
		return result;
	}
	static bool in_service(const Vcpu &vcpu, u8 vector)
	{
		return get_register(vcpu, 0x100 + vector / 32 * 16) >> vector % 32 & 1;
	}

	std::optional<Vm> vm_;
	const sim::UserMemory ram_{16};
	Vcpu vcpus_[2];
};

inline std::string name_of(const testing::TestParamInfo<ApicLevel> &one)
{
	constexpr const char *names[] = {"Nothing", "Accesses", "Registers", "Delivery"};
	return names[static_cast<unsigned>(one.param)];
}

} // namespace kvmpp::tests
