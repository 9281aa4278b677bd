// SPDX-License-Identifier: GPL-2.0-only
// The interrupt controllers and the timer by their registers, with time that passes in any steps and
// states that a VMM restores.
#include <linux/kvm.h>
#include "fuzz/machine.h"
#include "sim/clock.h"
#include "sim/user/files.h"
#include "sim/user/memory.h"

using namespace kvmpp;
using fuzz::Input;
using sim::GuestExit;
using x86::Gpr;

namespace
{

constexpr u64 code = 0x1000;

struct Devices {
	explicit Devices(Input &input_) : input{input_} {}

	Input &input;
	sim::UserMemory ram{4};
	int vm = -1, vcpu[2] = {-1, -1};

	void create(u8 setup)
	{
		vm = static_cast<int>(sim::system_ioctl(KVM_CREATE_VM));
		sim::ioctl(vm, KVM_CREATE_IRQCHIP);
		kvm_pit_config config{};
		config.flags = setup & 1;
		sim::ioctl(vm, KVM_CREATE_PIT2, &config);
		kvm_userspace_memory_region region{};
		region.memory_size = ram.size();
		region.userspace_addr = ram.address();
		sim::ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
		for (unsigned i = 0; i < 2; ++i) {
			vcpu[i] = static_cast<int>(sim::ioctl(vm, KVM_CREATE_VCPU, static_cast<u64>(i)));
			kvm_mp_state state{.mp_state = KVM_MP_STATE_RUNNABLE};
			sim::ioctl(vcpu[i], KVM_SET_MP_STATE, &state);
			kvm_sregs sregs{};
			sim::ioctl(vcpu[i], KVM_GET_SREGS, &sregs);
			// Flat and unpaged: the guest's addresses are what the exits say.
			sregs.cr0 = 0x31;
			for (kvm_segment *segment : {&sregs.cs, &sregs.ds, &sregs.es, &sregs.ss}) {
				segment->base = 0;
				segment->limit = 0xffffffff;
				segment->g = segment->db = 1;
			}
			sim::ioctl(vcpu[i], KVM_SET_SREGS, &sregs);
		}
	}

	~Devices()
	{
		for (const int fd : vcpu)
			sim::close(fd);
		sim::close(vm);
	}

	// MOV between EAX and [EBX], of 1, 2 or 4 bytes.
	GuestExit memory_access(sim::Guest &guest, u64 address)
	{
		const u8 kind = input.take<u8>();
		static constexpr u8 moves[8][3] = {{0x89, 0x03, 0x90}, {0x8b, 0x03, 0x90}, {0x88, 0x03, 0x90},
			{0x8a, 0x03, 0x90}, {0x66, 0x89, 0x03}, {0x66, 0x8b, 0x03}, {0x01, 0x03, 0x90},
			{0x87, 0x03, 0x90}};
		std::memcpy(ram.data() + code, moves[kind & 7], 3);
		guest.gprs[Gpr::rbx] = address;
		guest.gprs[Gpr::rax] = input.number();
		guest.set(vmx::field::guest_rip, code);
		GuestExit exit = GuestExit::of(vmx::ExitReason::ept_violation, kind & 1 ? 0x181 : 0x182);
		exit.guest_physical = address;
		return exit;
	}

	GuestExit act(sim::Guest &guest)
	{
		fuzz::count_exit();
		if (input.empty())
			return GuestExit::of(vmx::ExitReason::triple_fault);
		// A handler's IRET.
		if (input.choose(2)) {
			guest.set(vmx::field::guest_rflags, guest.get(vmx::field::guest_rflags) | 0x200);
			guest.set(vmx::field::guest_interruptibility, 0);
		}
		static constexpr u16 ports[] = {0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61};
		const u16 port = ports[input.take<u8>() % std::size(ports)];
		switch (input.choose(8)) {
		case 0: return guest.in(port, input.one_of({1u, 2u, 4u}));
		case 1: return guest.out(port, input.one_of({1u, 1u, 2u}), input.take<u16>());
		case 2: return guest.rdmsr(0x800 + input.take<u8>() % 0x48);
		case 3: return guest.wrmsr(input.one_of<u32>({0x6e0, 0x1b, 0x10, 0x3b}), input.number());
		case 4: return guest.wrmsr(0x800 + input.take<u8>() % 0x48, input.number());
		case 5: return memory_access(guest, 0xfee00000 + (input.take<u16>() & 0xfff));
		case 6: return memory_access(guest, 0xfec00000 + (input.take<u8>() & 0x1f));
		default: return guest.hlt();
		}
	}

	template <class T>
	void restore(int fd, unsigned get, unsigned set)
	{
		static T state;
		std::memset(&state, 0, sizeof(state));
		if constexpr (std::is_same_v<T, kvm_irqchip>)
			state.chip_id = input.choose(4);
		sim::ioctl(fd, get, &state);
		for (unsigned i = input.choose(8); i > 0; --i)
			reinterpret_cast<u8 *>(&state)[input.take<u16>() % sizeof(state)] = input.take<u8>();
		sim::ioctl(fd, set, &state);
		fuzz::count_ioctl();
	}

	void step()
	{
		const int one = vcpu[input.choose(2)];
		switch (input.choose(10)) {
		case 0: sim::clock().advance(input.take<u16>() * u64{1} << input.choose(16)); break;
		case 1: sim::clock().jump(input.take<u32>() * u64{1} << input.choose(12)); break;
		case 2: {
			kvm_irq_level level{{input.choose(26)}, input.choose(2)};
			sim::ioctl(vm, KVM_IRQ_LINE_STATUS, &level);
			break;
		}
		case 3: {
			kvm_msi msi{};
			msi.address_lo = 0xfee00000 | input.take<u16>() << 4;
			msi.data = input.take<u16>();
			sim::ioctl(vm, KVM_SIGNAL_MSI, &msi);
			break;
		}
		case 4: restore<kvm_lapic_state>(one, KVM_GET_LAPIC, KVM_SET_LAPIC); break;
		case 5: restore<kvm_irqchip>(vm, KVM_GET_IRQCHIP, KVM_SET_IRQCHIP); break;
		case 6: restore<kvm_pit_state2>(vm, KVM_GET_PIT2, KVM_SET_PIT2); break;
		default:
			sim::set_guest_program([this](sim::Guest &guest) { return act(guest); });
			fuzz::count_ioctl();
			(void)sim::ioctl(one, KVM_RUN);
			sim::this_thread().signal = false;
		}
	}
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, usize size)
{
	Input input{data, size};
	fuzz::Machine machine;
	Devices devices{input};
	devices.create(input.take<u8>());
	while (!input.empty())
		devices.step();
	return 0;
}
