// SPDX-License-Identifier: GPL-2.0-only
// Local APICs in xAPIC mode on processors that take the guest's accesses to them (SDM vol. 3, 30.4).
#include "tests/core/interrupts.h"

namespace kvmpp::tests
{
namespace
{

using x86::Gpr;

// What the processor has besides a TPR shadow.
enum class Level { nothing, accesses, registers, delivery };

constexpr u32 apic = 0xfee00000;
constexpr u64 code = 0x1000, behind = code + 5;

class ApicAccess : public Machine, public testing::WithParamInterface<Level> {
protected:
	using Exits = std::vector<ExitReason>;

	ApicAccess() { load_at_start_ = false; }
	void SetUp() override
	{
		Machine::SetUp();
		using namespace vmx::secondary;
		u32 missing = 0;
		switch (GetParam()) {
		case Level::nothing: sim::set_apicv(0); break;
		case Level::accesses: missing |= apic_register_virtualization; [[fallthrough]];
		case Level::registers: missing |= virtual_interrupt_delivery; break;
		case Level::delivery: break;
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

	static bool takes_accesses() { return GetParam() != Level::nothing; }
	static bool has_registers() { return GetParam() >= Level::registers; }
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
		if (GetParam() == Level::accesses)
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

// Of those processors that take accesses at all, or with the registers.
class ApicAccessExits : public ApicAccess {};
class ApicRegisters : public ApicAccess {};

TEST_P(ApicAccess, Reads)
{
	warm_up(vcpus_[0]);
	ASSERT_EQ(send_msi(0x45), 1);
	ASSERT_EQ(taken_by(vcpus_[0]), 0x45);
	ASSERT_EQ(send_msi(0x46), 1);
	for (const u32 offset : {0x20, 0x30, 0xd0, 0xe0, 0xf0, 0x120, 0x1a0, 0x220, 0x280, 0x300, 0x310, 0x320, 0x330,
		     0x340, 0x350, 0x360, 0x370, 0x380, 0x3e0}) {
		EXPECT_EQ(read(vcpus_[0], offset, exits_of_read()), get_register(vcpus_[0], offset)) << offset;
	}
	EXPECT_EQ(read(vcpus_[0], 0x120, exits_of_read()), 1u << 5);
	EXPECT_EQ(read(vcpus_[0], 0x220, exits_of_read()), 1u << 6);
	// TPR needs nothing but its shadow.
	set_register(vcpus_[0], 0x80, 0x23);
	EXPECT_EQ(read(vcpus_[0], 0x80, takes_accesses() ? Exits{} : exits_of_others()), 0x23u);
	// The page does not know these.
	EXPECT_EQ(read(vcpus_[0], 0xa0, exits_of_others()), 0x40u);
	EXPECT_EQ(read(vcpus_[0], 0x90, exits_of_others()), 0u);
	EXPECT_EQ(read(vcpus_[0], 0x2f0, exits_of_others()), 0u);
	// Nor is a read of two registers one of either.
	EXPECT_EQ(read(vcpus_[0], 0xf2, exits_of_others()), 0u);
}

TEST_P(ApicAccess, TheTimerCounts)
{
	warm_up(vcpus_[0]);
	write(vcpus_[0], 0x3e0, 0xb, exits_of_write()); // by 1
	write(vcpus_[0], 0x320, 0x10000, exits_of_write());
	write(vcpus_[0], 0x380, 1'000'000, exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0x390, exits_of_others()), 1'000'000u);
	sim::clock().advance(400'000);
	EXPECT_EQ(read(vcpus_[0], 0x390, exits_of_others()), 600'000u);
	EXPECT_EQ(read(vcpus_[0], 0x380, exits_of_read()), 1'000'000u);
	// A deadline knows no count.
	write(vcpus_[0], 0x320, 0x50000, exits_of_write());
	write(vcpus_[0], 0x380, 5, exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0x390, exits_of_others()), 0u);
	EXPECT_NE(read(vcpus_[0], 0x380, exits_of_read()), 5u);
}

TEST_P(ApicAccess, Writes)
{
	warm_up(vcpus_[0]);
	write(vcpus_[0], 0x320, 0xffffffff & ~0x10000u, exits_of_write());
	EXPECT_EQ(get_register(vcpus_[0], 0x320), 0x600ffu); // no bits that are not there
	// Software disable masks all entries.
	write(vcpus_[0], 0xf0, 0xfffff0ff, exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0xf0, exits_of_read()), 0xffu);
	EXPECT_TRUE(get_register(vcpus_[0], 0x320) & 0x10000);
	write(vcpus_[0], 0x370, 0x33, exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0x370, exits_of_read()), 0x10033u);
	write(vcpus_[0], 0xf0, 0x1ff, exits_of_write());
	write(vcpus_[0], 0x370, 0x33, exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0x370, exits_of_read()), 0x33u);
	write(vcpus_[0], 0xe0, 0x0fffffff, exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0xe0, exits_of_read()), 0x0fffffffu);
	// An illegal vector is an error, and ESR shows it once.
	write(vcpus_[0], 0x310, 0xabcdef12, has_registers() ? Exits{} : exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0x310, exits_of_read()), 0xab000000u);
	write(vcpus_[0], 0x300, 0x44005,
		GetParam() == Level::accesses ? Exits{ExitReason::apic_access} : exits_of_write());
	write(vcpus_[0], 0x280, 0x1234, exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0x280, exits_of_read()), 1u << 5);
	write(vcpus_[0], 0x280, 0, exits_of_write());
	EXPECT_EQ(read(vcpus_[0], 0x280, exits_of_read()), 0u);
	// What cannot be written.
	for (const u32 offset : {0x30u, 0x90u, 0xa0u, 0x100u, 0x200u, 0x390u}) {
		const u32 before = get_register(vcpus_[0], offset);
		write(vcpus_[0], offset, 0xffffffff, exits_of_others());
		EXPECT_EQ(get_register(vcpus_[0], offset), before) << offset;
	}
}

TEST_P(ApicAccess, AnInterruptEnds)
{
	warm_up(vcpus_[0]);
	for (const u32 any : {0u, 0xffffffffu}) {
		ASSERT_EQ(send_msi(0x45), 1);
		ASSERT_EQ(taken_by(vcpus_[0]), 0x45);
		EXPECT_TRUE(in_service(vcpus_[0], 0x45));
		write(vcpus_[0], 0xb0, any, GetParam() == Level::delivery ? Exits{} : exits_of_write());
		EXPECT_FALSE(in_service(vcpus_[0], 0x45));
		EXPECT_EQ(get_register(vcpus_[0], 0xb0), 0u);
	}
}

TEST_P(ApicAccess, Ipis)
{
	warm_up(vcpus_[0]);
	write(vcpus_[0], 0x310, 1 << 24, has_registers() ? Exits{} : exits_of_others());
	write(vcpus_[0], 0x300, 0x4077, exits_of_write());
	EXPECT_EQ(get_register(vcpus_[1], 0x230), 1u << 0x17);
	EXPECT_EQ(read(vcpus_[0], 0x300, exits_of_read()), 0x4077u);
	write(vcpus_[0], 0x300, 0x40078, GetParam() == Level::delivery ? Exits{} : exits_of_write());
	EXPECT_EQ(taken_by(vcpus_[0]), 0x78);
	// The INIT of one that waits for its start.
	write(vcpus_[0], 0x300, 0x4500, exits_of_write());
	write(vcpus_[0], 0x300, 0x4604, exits_of_write());
	EXPECT_EQ(vcpus_[1].run([](Guest &) { return GuestExit::of(ExitReason::triple_fault); }), 0);
	EXPECT_EQ(vcpus_[1].sregs().cs.base, 0x4000u);
	// Its mode has survived, and the page with it.
	vcpus_[1].enter_protected_mode(code);
	EXPECT_EQ(read(vcpus_[1], 0x20, exits_of_read()), 1u << 24);
}

TEST_P(ApicAccess, TheTaskPriorityHoldsAnInterruptBack)
{
	warm_up(vcpus_[0]);
	write(vcpus_[0], 0x80, 0xffffff50, takes_accesses() ? Exits{} : exits_of_others());
	EXPECT_EQ(vcpus_[0].shared().cr8, 5u);
	EXPECT_EQ(get_register(vcpus_[0], 0x80), 0x50u);
	ASSERT_EQ(send_msi(0x45), 1);
	EXPECT_FALSE(taken_by(vcpus_[0]));
	const bool threshold = GetParam() == Level::accesses || GetParam() == Level::registers;
	write(vcpus_[0], 0x80, 0x30,
		threshold ? Exits{ExitReason::tpr_below_threshold} : takes_accesses() ? Exits{} : exits_of_others());
	EXPECT_EQ(taken_by(vcpus_[0]), 0x45);
}

// A vCPU in another mode must not find memory there, so nobody finds the page.
TEST_P(ApicAccess, ModesThatDiffer)
{
	warm_up(vcpus_[0]);
	constexpr u64 x2apic = 1 << 10, enabled = 1 << 11;
	const u64 base = *vcpus_[1].msr(msr::apic_base);
	for (const u64 other : {base | x2apic, base & ~enabled, base - page_size}) {
		SCOPED_TRACE(other);
		ASSERT_EQ(vcpus_[1].set_msr(msr::apic_base, other), 1);
		EXPECT_EQ(read(vcpus_[0], 0x30, {ExitReason::ept_violation}) & 0xff, 0x14u);
		EXPECT_EQ(read(vcpus_[0], 0x30, {ExitReason::ept_violation}) & 0xff, 0x14u);
		vcpus_[1].enter_protected_mode(code);
		// Where its registers are elsewhere there is a device of the VMM's; else there is nothing.
		EXPECT_EQ(vcpus_[1].run([&](Guest &g) {
			if (g.get(field::guest_rip) == behind)
				return GuestExit::of(ExitReason::triple_fault);
			const auto exit = move(g, apic + 0x30, true);
			EXPECT_TRUE(exit && exit->reason.basic() == ExitReason::ept_violation);
			return exit.value_or(GuestExit::of(ExitReason::triple_fault));
		}),
			0);
		const bool elsewhere = other < apic;
		EXPECT_EQ(vcpus_[1].shared().exit_reason, elsewhere ? u32{KVM_EXIT_MMIO} : u32{KVM_EXIT_SHUTDOWN});
		ASSERT_EQ(vcpus_[1].set_msr(msr::apic_base, base & ~enabled), 1);
		ASSERT_EQ(vcpus_[1].set_msr(msr::apic_base, base), 1);
		warm_up(vcpus_[0]);
		set_register(vcpus_[1], 0xf0, 0x1ff);
		EXPECT_EQ(read(vcpus_[1], 0xf0, exits_of_read()), 0x1ffu);
	}
}

TEST_P(ApicAccess, ABaseElsewhereIsEmulated)
{
	warm_up(vcpus_[0]);
	constexpr u32 elsewhere = apic - page_size;
	ASSERT_EQ(vcpus_[0].set_msr(msr::apic_base, elsewhere | 0x900), 1);
	Exits exits;
	EXPECT_EQ(execute(vcpus_[0], elsewhere + 0x30, true, 0, exits) & 0xff, 0x14u);
	EXPECT_EQ(exits, Exits{ExitReason::ept_violation});
	// What is there now is the VMM's.
	EXPECT_EQ(vcpus_[0].run([&](Guest &g) { return *move(g, apic + 0x30, true); }), 0);
	EXPECT_EQ(vcpus_[0].shared().exit_reason, u32{KVM_EXIT_MMIO});
	EXPECT_EQ(vcpus_[0].shared().mmio.phys_addr, u64{apic} + 0x30);
}

TEST_P(ApicAccess, MemoryOfTheVmmComesBeforeIt)
{
	const sim::UserMemory memory{3};
	memory.at<u32>(page_size + 0x30) = 0x12345678;
	warm_up(vcpus_[0]);
	ASSERT_EQ(vm_->set_slot(1, apic - page_size, memory, KVM_MEM_LOG_DIRTY_PAGES), 0);
	EXPECT_EQ(read(vcpus_[0], 0x30, {ExitReason::ept_violation}), 0x12345678u);
	EXPECT_EQ(read(vcpus_[0], 0x30, {}), 0x12345678u);
	ASSERT_EQ(vm_->set_slot(1, apic - page_size, memory.address(), 0), 0);
	warm_up(vcpus_[0]);
	// A ROM: reads are its own, and writes go to what there is beside it.
	ASSERT_EQ(vm_->set_slot(1, apic - page_size, memory, KVM_MEM_READONLY), 0);
	EXPECT_EQ(read(vcpus_[0], 0x30, {ExitReason::ept_violation}), 0x12345678u);
	write(vcpus_[0], 0x80, 0x20, {ExitReason::ept_violation});
	EXPECT_EQ(read(vcpus_[0], 0x30, {}), 0x12345678u);
	ASSERT_EQ(vm_->set_slot(1, apic - page_size, memory.address(), 0), 0);
	warm_up(vcpus_[0]);
	// One that moves there.
	ASSERT_EQ(vm_->set_slot(1, apic - 4 * page_size, memory), 0);
	EXPECT_EQ(read(vcpus_[0], 0x30, exits_of_read()) & 0xff, 0x14u);
	ASSERT_EQ(vm_->set_slot(1, apic - page_size, memory), 0);
	EXPECT_EQ(read(vcpus_[0], 0x30, {ExitReason::ept_violation}), 0x12345678u);
	ASSERT_EQ(vm_->set_slot(1, apic - 4 * page_size, memory), 0);
	warm_up(vcpus_[0]);
	// The last of its pages being taken back is not the APIC's affair.
	ASSERT_EQ(vm_->set_slot(1, apic - 4 * page_size, memory.address(), 0), 0);
	EXPECT_EQ(read(vcpus_[0], 0x30, exits_of_read()) & 0xff, 0x14u);
}

// A word of the VMM's stands for TPR, which is looked at with each exit.
TEST_P(ApicAccess, ATaskPriorityInMemory)
{
	warm_up(vcpus_[0]);
	kvm_vapic_addr request{.vapic_addr = 0x3000};
	ASSERT_EQ(vcpus_[0].ioctl(KVM_SET_VAPIC_ADDR, &request), 0);
	write(vcpus_[0], 0x80, 0x30, {ExitReason::ept_violation});
	EXPECT_EQ(get_register(vcpus_[0], 0x80), 0x30u);
	request.vapic_addr = 0;
	ASSERT_EQ(vcpus_[0].ioctl(KVM_SET_VAPIC_ADDR, &request), 0);
	warm_up(vcpus_[0]);
	// Accesses that do not exit are no affair of the VMM's either.
	EXPECT_EQ(vm_->ioctl(KVM_CHECK_EXTENSION, u64{KVM_CAP_VAPIC}), takes_accesses() ? 0 : 1);
}

// SMM has tables of its own, and finds the page in them; nor does it when others must not.
TEST_P(ApicRegisters, InSystemManagementMode)
{
	const sim::UserMemory smram{16};
	ASSERT_EQ(vm_->set_slot(1 << 16, 0x30000, smram), 0);
	warm_up(vcpus_[0]);
	const auto read_version = [&](bool shown) {
		unsigned entries = 0;
		EXPECT_EQ(vcpus_[0].run([&](Guest &g) {
			u32 version = 0;
			const auto exit = g.read(apic + 0x30, &version, sizeof(version));
			EXPECT_EQ(exit.has_value(), !shown || entries == 0);
			EXPECT_TRUE(exit || (version & 0xff) == 0x14);
			return ++entries == 1 && shown && exit ? *exit : GuestExit::of(ExitReason::triple_fault);
		}),
			0);
		EXPECT_TRUE(vcpus_[0].shared().flags & KVM_RUN_X86_SMM);
	};
	ASSERT_EQ(sim::ioctl(vcpus_[0].fd(), KVM_SMI), 0);
	read_version(true);
	const u64 base = *vcpus_[1].msr(msr::apic_base);
	ASSERT_EQ(vcpus_[1].set_msr(msr::apic_base, base | 1 << 10), 1);
	read_version(false);
}

// An operation that exits behind its write to the page leaves there what the guest wrote, and the module does not
// hear of it.
TEST_P(ApicRegisters, ValuesThatNobodyHasLookedAt)
{
	warm_up(vcpus_[0]);
	for (const u32 value : {0xffffffffu, 0xfff8ffffu, 0u, 0x700u, 0x40400u}) {
		EXPECT_EQ(vcpus_[0].run([&](Guest &g) {
			for (const u32 offset : {0x20, 0xd0, 0xe0, 0xf0, 0x280, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380,
				     0x3e0}) {
				EXPECT_TRUE(g.write(apic + offset, &value, sizeof(value)));
			}
			return GuestExit::of(ExitReason::triple_fault);
		}),
			0);
		for (const u32 level : {1u, 0u}) {
			kvm_irq_level line{{2}, level};
			EXPECT_EQ(vm_->ioctl(KVM_IRQ_LINE, &line), 0);
		}
		EXPECT_EQ(sim::ioctl(vcpus_[0].fd(), KVM_NMI), 0);
		sim::clock().advance(1'000'000'000);
		send_msi(0x45);
		(void)taken_by(vcpus_[0]);
		(void)state(vcpus_[0]);
	}
	// The next write puts one right.
	write(vcpus_[0], 0xf0, 0x1ff, exits_of_write());
	write(vcpus_[0], 0x320, 0xfffc00fe, exits_of_write());
	EXPECT_EQ(get_register(vcpus_[0], 0x320), 0x400feu);
}

// The stack is in the APIC: nothing that a guest does, but the event must not be lost.
TEST_P(ApicAccessExits, AnEventThatItsDeliveryLeadsThere)
{
	warm_up(vcpus_[0]);
	ASSERT_EQ(vcpus_[0].run([](Guest &) {
		GuestExit exit = GuestExit::of(ExitReason::apic_access, 3 << 12 | 0x84);
		exit.vectoring = EventInfo::of(EventType::external_interrupt, 0x45);
		return exit;
	}),
		0);
	kvm_run &run = vcpus_[0].shared();
	ASSERT_EQ(run.exit_reason, u32{KVM_EXIT_INTERNAL_ERROR});
	EXPECT_EQ(run.internal.suberror, u32{KVM_INTERNAL_ERROR_DELIVERY_EV});
	EXPECT_EQ(run.internal.data[3], u64{apic} + 0x84);
	kvm_vcpu_events events{};
	ASSERT_EQ(vcpus_[0].ioctl(KVM_GET_VCPU_EVENTS, &events), 0);
	EXPECT_TRUE(events.interrupt.injected);
	EXPECT_EQ(events.interrupt.nr, 0x45);
}

// Neither the first access nor a change of mode may go wrong for want of memory.
TEST_P(ApicAccess, MemoryIsShort)
{
	Exits exits;
	sim::with_each_failing(static_cast<u32>(sim::Fallible::allocation), [&](unsigned) {
		bool begun = false;
		const long result = vcpus_[0].run([&](Guest &g) {
			if (std::exchange(begun, true) && g.get(field::guest_rip) == behind)
				return GuestExit::of(ExitReason::triple_fault);
			return move(g, apic + 0x30, true).value_or(GuestExit::of(ExitReason::triple_fault));
		});
		EXPECT_TRUE(result == 0 || result == -ENOMEM) << result;
	});
	EXPECT_EQ(vcpus_[0].regs().rax & 0xff, 0x14u);
}

std::string name(const testing::TestParamInfo<Level> &one)
{
	constexpr const char *names[] = {"Nothing", "Accesses", "Registers", "Delivery"};
	return names[static_cast<unsigned>(one.param)];
}

INSTANTIATE_TEST_SUITE_P(Processors, ApicAccess,
	testing::Values(Level::nothing, Level::accesses, Level::registers, Level::delivery), name);
INSTANTIATE_TEST_SUITE_P(Processors, ApicAccessExits,
	testing::Values(Level::accesses, Level::registers, Level::delivery), name);
INSTANTIATE_TEST_SUITE_P(Processors, ApicRegisters, testing::Values(Level::registers, Level::delivery), name);

} // namespace
} // namespace kvmpp::tests
