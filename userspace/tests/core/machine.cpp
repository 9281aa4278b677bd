// SPDX-License-Identifier: GPL-2.0-only
#include "tests/core/machine.h"

namespace kvmpp::tests
{
namespace
{

kvm_segment flat(u16 selector, u8 type, bool wide)
{
	return {.base = 0,
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.dpl = 0,
		.db = !wide,
		.s = 1,
		.l = wide,
		.g = 1,
		.avl = 0,
		.unusable = 0,
		.padding = 0};
}

void enter(const Vcpu &vcpu, u64 rip, bool wide, u64 cr3)
{
	kvm_sregs sregs = vcpu.sregs();
	sregs.cs = flat(0x8, 11, wide);
	const kvm_segment data = flat(0x10, 3, false);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE;
	sregs.tr.type = 11;
	if (wide) {
		sregs.cr0 |= X86_CR0_PG;
		sregs.cr4 |= X86_CR4_PAE;
		sregs.efer = x86::efer::lme | x86::efer::lma;
		sregs.cr3 = cr3;
	}
	ASSERT_EQ(vcpu.ioctl(KVM_SET_SREGS, &sregs), 0);
	kvm_regs regs{};
	regs.rip = rip;
	regs.rsp = 0x8000;
	regs.rflags = 2;
	ASSERT_EQ(vcpu.ioctl(KVM_SET_REGS, &regs), 0);
}

} // namespace

void Vcpu::enter_protected_mode(u64 rip) const
{
	enter(*this, rip, false, 0);
}

void Vcpu::enter_long_mode(u64 rip, u64 cr3) const
{
	enter(*this, rip, true, cr3);
}

std::unique_ptr<CpuidTable> supported_cpuid(bool with_deadline)
{
	auto table = std::make_unique<CpuidTable>();
	EXPECT_EQ(sim::system_ioctl(KVM_GET_SUPPORTED_CPUID, table.get()), 0);
	for (auto &entry : table->entries)
		if (with_deadline && entry.function == 1)
			entry.ecx |= 1 << 24;
	return table;
}

long Vcpu::set_supported_cpuid() const
{
	return ioctl(KVM_SET_CPUID2, supported_cpuid().get());
}

namespace
{

struct OneMsr {
	kvm_msrs header{.nmsrs = 1, .pad = 0, .entries = {}};
	kvm_msr_entry entry{};
};

} // namespace

long Vcpu::set_msr(u32 index, u64 value) const
{
	OneMsr msr;
	msr.entry = {.index = index, .reserved = 0, .data = value};
	return ioctl(KVM_SET_MSRS, &msr);
}

std::optional<u64> Vcpu::msr(u32 index) const
{
	OneMsr msr;
	msr.entry.index = index;
	if (ioctl(KVM_GET_MSRS, &msr) != 1)
		return {};
	return msr.entry.data;
}

Guest32::Guest32() : vcpu{vm.create_vcpu()}
{
	EXPECT_EQ(vm.set_slot(0, 0, ram), 0);
	EXPECT_EQ(vcpu.set_supported_cpuid(), 0);
	vcpu.enter_protected_mode(code_address);
}

} // namespace kvmpp::tests
