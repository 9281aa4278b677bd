// SPDX-License-Identifier: GPL-2.0-only
// Sequences of ioctls on several VMs and vCPUs, in any order, between runs of guests that exit for any
// reason, changes of the VMM's memory and failures of the host.
#include <memory>
#include <linux/kvm.h>
#include "fuzz/ioctls.h"
#include "fuzz/machine.h"
#include "sim/clock.h"
#include "sim/faults.h"
#include "sim/user/files.h"

using namespace kvmpp;
using fuzz::Input;
using fuzz::Ioctl;

namespace
{

class Session {
public:
	explicit Session(Input &input) : input_{input}
	{
		for (int &eventfd : eventfds_) {
			eventfd = sim::make_eventfd();
			around_.descriptors.push_back(eventfd);
		}
		// Every page begins with RSM, as an SMI's handler.
		for (u64 i = 0; i < ram_.pages(); ++i)
			ram_.at<u16>(i * page_size) = 0xaa0f;
		// Most begin with a VM that can run.
		const u8 setup = input.take<u8>();
		if (setup & 1)
			return;
		const Ioctl make_vm{.on = fuzz::On::system, .command = KVM_CREATE_VM};
		const Ioctl make_vcpu{.on = fuzz::On::vm, .command = KVM_CREATE_VCPU};
		note(make_vm, sim::system_ioctl(KVM_CREATE_VM));
		if (setup & 2)
			sim::ioctl(vms_[0], KVM_CREATE_IRQCHIP);
		for (u64 id = 0; id < 2; ++id)
			note(make_vcpu, sim::ioctl(vms_[0], KVM_CREATE_VCPU, id));
		kvm_userspace_memory_region region{};
		region.memory_size = ram_.size();
		region.userspace_addr = ram_.address();
		sim::ioctl(vms_[0], KVM_SET_USER_MEMORY_REGION, &region);
		region.slot = 1 << 16;
		region.guest_phys_addr = 0x38000;
		if (setup & 4)
			sim::ioctl(vms_[0], KVM_SET_USER_MEMORY_REGION, &region);
	}
	~Session()
	{
		for (const int fd : around_.descriptors)
			sim::close(fd);
	}

	void step()
	{
		const u8 what = input_.take<u8>();
		switch (what & 15) {
		default: call(); break;
		case 8:
		case 9:
		case 10: run(); break;
		case 11:
			sim::clock().advance(input_.take<u16>() * 256);
			break;
		case 12: change_memory(); break;
		case 13:
			if (around_.descriptors.size() > 8)
				close_one();
			else
				sim::signal_eventfd(eventfds_[input_.choose(eventfd_count)]);
			break;
		case 14: scribble(); break;
		case 15:
			if (what & 16)
				sim::fail_after(input_.take<u8>() % 32, sim::everything_of_the_host);
			else
				sim::preempt_every(input_.choose(4) ? 0 : 3);
			break;
		}
	}

private:
	static constexpr unsigned eventfd_count = 3;

	int one_of(const std::vector<int> &fds)
	{
		return fds.empty() ? -1 : fds[input_.choose(static_cast<unsigned>(fds.size()))];
	}
	int descriptor_for(const Ioctl &ioctl)
	{
		switch (ioctl.on) {
		case fuzz::On::system: return sim::system_descriptor;
		case fuzz::On::vm: return one_of(vms_);
		default: return one_of(vcpus_);
		}
	}

	void call()
	{
		const auto all = fuzz::all_ioctls();
		const Ioctl &ioctl = all[input_.take<u8>() % all.size()];
		const int fd = descriptor_for(ioctl);
		fuzz::count_ioctl();
		if (ioctl.by_value) {
			// Numbers of vCPUs and kin are small, and a VM has one type.
			const u8 value = input_.take<u8>();
			const u64 argument = value < 224 ? value % 4 : input_.number();
			const bool creates = ioctl.command == KVM_CREATE_VM;
			if (creates && vms_.size() == 3)
				return;
			note(ioctl, sim::ioctl(fd, ioctl.command, creates && value < 224 ? 0 : argument));
			return;
		}
		const usize fixed = _IOC_SIZE(ioctl.command);
		const usize items = ioctl.item_size ? input_.choose(9) : 0;
		// Exactly as long as it may be, so that the sanitizer sees what goes beyond.
		const usize size = fixed + items * ioctl.item_size;
		const auto bytes = std::make_unique<u8[]>(size);
		input_.take_into(bytes.get(), std::min<usize>(size, 320));
		if (ioctl.item_size) {
			// Says as many as there are, or not.
			const u32 count = input_.choose(8) ? static_cast<u32>(items) : input_.take<u32>();
			std::memcpy(bytes.get() + ioctl.count_place, &count, sizeof(count));
		}
		if (ioctl.refine)
			ioctl.refine({bytes.get(), size}, input_, around_);
		(void)sim::ioctl_with_argument(fd, ioctl.command, bytes.get(), size);
	}

	void note(const Ioctl &ioctl, long result)
	{
		if (result < 0)
			return;
		const int fd = static_cast<int>(result);
		switch (ioctl.command) {
		case KVM_CREATE_VM: vms_.push_back(fd); break;
		case KVM_CREATE_VCPU: vcpus_.push_back(fd); break;
		case KVM_GET_STATS_FD: {
			u8 buffer[100];
			(void)sim::read(fd, buffer, sizeof(buffer));
			break;
		}
		default: return;
		}
		around_.descriptors.push_back(fd);
	}

	void run()
	{
		const int fd = one_of(vcpus_);
		sim::set_guest_program(
			[this](sim::Guest &guest) { return fuzz::arbitrary_exit(input_, guest); });
		fuzz::count_ioctl();
		(void)sim::ioctl(fd, KVM_RUN);
		sim::this_thread().signal = false;
	}

	void change_memory()
	{
		const u64 first = input_.choose(8);
		around_.ram.change(first, 1 + input_.choose(static_cast<unsigned>(8 - first)),
			input_.one_of({sim::PageState::mapped, sim::PageState::mapped,
				sim::PageState::read_only, sim::PageState::unmapped,
				sim::PageState::poisoned}));
		(void)around_.ram.young(first, 1, first & 1);
	}

	void close_one()
	{
		const usize i = input_.choose(static_cast<unsigned>(around_.descriptors.size()));
		const int fd = around_.descriptors[i];
		for (const int eventfd : eventfds_)
			if (fd == eventfd)
				return;
		sim::close(fd);
		std::erase(around_.descriptors, fd);
		std::erase(vms_, fd);
		std::erase(vcpus_, fd);
	}

	// The VMM writes what it likes into the pages that it shares with the module.
	void scribble()
	{
		void *page = sim::mapped_page(one_of(vcpus_), input_.choose(4));
		if (page)
			input_.take_into(static_cast<u8 *>(page) + input_.take<u16>() % 4000, 16);
	}

	Input &input_;
	std::vector<int> vms_, vcpus_;
	sim::UserMemory ram_{8};
	fuzz::Surroundings around_{ram_, {}};
	int eventfds_[eventfd_count];
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, usize size)
{
	Input input{data, size};
	fuzz::Machine machine;
	Session session{input};
	while (!input.empty())
		session.step();
	sim::fail_nothing();
	sim::set_guest_program({});
	return 0;
}
