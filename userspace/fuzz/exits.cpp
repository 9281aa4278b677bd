// SPDX-License-Identifier: GPL-2.0-only
// Exit streams: arbitrary exit information against the handlers, and arbitrary answers of the VMM.
#include <linux/kvm.h>
#include "fuzz/machine.h"
#include "sim/clock.h"
#include "sim/user/files.h"
#include "sim/user/memory.h"

using namespace kvmpp;

namespace
{

struct Cpuid {
	kvm_cpuid2 header{.nent = 128, .padding = 0, .entries = {}};
	kvm_cpuid_entry2 entries[128]{};
};

kvm_segment flat(u16 selector, u8 type, bool wide)
{
	kvm_segment segment{};
	segment.limit = 0xffffffff;
	segment.selector = selector;
	segment.type = type;
	segment.present = segment.s = segment.g = 1;
	segment.db = !wide;
	segment.l = wide;
	return segment;
}

// Real mode as after reset, flat 32-bit mode, or 64-bit mode.
void enter_mode(int vcpu, unsigned mode)
{
	kvm_sregs sregs{};
	sim::ioctl(vcpu, KVM_GET_SREGS, &sregs);
	if (mode > 0) {
		sregs.cs = flat(8, 11, mode == 2);
		sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = flat(16, 3, false);
		sregs.cr0 = 0x31;
	} else {
		sregs.cs.base = sregs.cs.selector = 0;
	}
	if (mode == 2) {
		sregs.cr0 |= 0x80000000;
		sregs.cr3 = 0x8000;
		sregs.cr4 |= 0x20;
		sregs.efer = 0x500;
	}
	sim::ioctl(vcpu, KVM_SET_SREGS, &sregs);
	kvm_regs regs{};
	regs.rip = 0x1000;
	regs.rsp = 0x7000;
	regs.rflags = 2;
	sim::ioctl(vcpu, KVM_SET_REGS, &regs);
}

void run(fuzz::Input &input)
{
	const u8 setup = input.take<u8>();
	const int vm = static_cast<int>(sim::system_ioctl(KVM_CREATE_VM));
	if (setup & 4)
		sim::ioctl(vm, KVM_CREATE_IRQCHIP);
	if (setup & 8) {
		kvm_pit_config config{};
		sim::ioctl(vm, KVM_CREATE_PIT2, &config);
	}
	sim::UserMemory ram{16};
	// Page tables for 64-bit mode; code and stack are the input's.
	input.take_into(ram.data() + 0x1000, std::min<usize>(input.size() / 4, 0x1000));
	ram.at<u64>(0x8000) = 0x9007;
	ram.at<u64>(0x9000) = 0x87;
	ram.at<u64>(0x9018) = 0xc0000087;
	kvm_userspace_memory_region region{};
	region.memory_size = ram.size();
	region.userspace_addr = ram.address();
	region.flags = setup & 16 ? KVM_MEM_LOG_DIRTY_PAGES : 0;
	sim::ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
	const int vcpu = static_cast<int>(sim::ioctl(vm, KVM_CREATE_VCPU, 0ul));
	static Cpuid cpuid;
	cpuid.header.nent = 128;
	sim::system_ioctl(KVM_GET_SUPPORTED_CPUID, &cpuid);
	sim::ioctl(vcpu, KVM_SET_CPUID2, &cpuid);
	enter_mode(vcpu, setup & 3);

	sim::set_guest_program([&](sim::Guest &guest) { return fuzz::arbitrary_exit(input, guest); });
	auto &shared = *static_cast<kvm_run *>(sim::mapped_page(vcpu, 0));
	// A VMM that goes on after any exit.
	for (unsigned i = 0; i < 1000 && !input.empty(); ++i) {
		sim::ioctl(vcpu, KVM_RUN);
		fuzz::count_ioctl();
		sim::this_thread().signal = false;
		if (shared.exit_reason == KVM_EXIT_MMIO || shared.exit_reason == KVM_EXIT_IO) {
			input.take_into(shared.mmio.data, 8);
			input.take_into(sim::mapped_page(vcpu, 1), 8);
		} else {
			sim::clock().advance(input.take<u16>() * 64);
		}
		const u8 whim = input.take<u8>();
		shared.immediate_exit = whim == 1;
		shared.request_interrupt_window = whim == 2;
		if (whim == 3) {
			kvm_interrupt interrupt{.irq = input.take<u8>()};
			sim::ioctl(vcpu, KVM_INTERRUPT, &interrupt);
		} else if (whim == 4) {
			kvm_irq_level level{{input.choose(24)}, input.choose(2)};
			sim::ioctl(vm, KVM_IRQ_LINE, &level);
		} else if (whim == 5) {
			sim::ioctl(vcpu, KVM_NMI);
		}
	}
	sim::close(vcpu);
	sim::close(vm);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, usize size)
{
	fuzz::Input input{data, size};
	fuzz::Machine machine;
	run(input);
	return 0;
}
