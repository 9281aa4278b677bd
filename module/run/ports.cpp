// SPDX-License-Identifier: GPL-2.0-only
// IN and OUT. SDM vol. 3, table 28-5.
#include "run/ports.h"

#include <bit>
#include "host/trace.h"
#include "machine/vm.h"
#include "run/emulation.h"
#include "run/handlers.h"

namespace kvmpp::run
{
namespace
{

using machine::IoState;
using x86::Gpr;

struct IoQualification {
	u64 raw;

	// 1, 2 or 4. A processor never sets the third bit; if it did, no buffer would be overrun.
	u8 size() const { return (raw & 3) + 1; }
	bool in() const { return raw & (1 << 3); }
	bool string() const { return raw & (1 << 4); }
	u16 port() const { return static_cast<u16>(raw >> 16); }
};

// Apart: the array on its stack would cost those who have no such device.
[[gnu::noinline]] bool write_at_once(Exit &exit, IoQualification io)
{
	Vcpu &vcpu = exit.vcpu;
	std::array<u8, 4> data{};
	__builtin_memcpy(data.data(), &vcpu.gpr(Gpr::rax), io.size());
	{
		machine::ReadSection section{vcpu.reader};
		if (!vcpu.vm.ports.write_at_once(section, io.port(), {data.data(), io.size()}))
			return false;
	}
	KVMPP_TRACE(port, vcpu.id, true, io.port(), io.size(), 1, std::bit_cast<u32>(data));
	exit.complete();
	return true;
}

} // namespace

void set_port_result(Vcpu &vcpu, const void *data, u8 size)
{
	u64 &rax = vcpu.gpr(Gpr::rax);
	// 32 bits clear the upper half; fewer keep the rest.
	if (size == 4)
		rax = 0;
	__builtin_memcpy(&rax, data, size);
}

void exit_for_port(Vcpu &vcpu, bool in, u16 port, u8 size, u32 count)
{
	kvm_run &run = vcpu.run();
	run.exit_reason = KVM_EXIT_IO;
	run.io.direction = in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run.io.size = size;
	run.io.port = port;
	run.io.count = count;
	run.io.data_offset = Vcpu::port_page_index * page_size;
}

bool answer_port_write(Exit &exit)
{
	Vcpu &vcpu = exit.vcpu;
	const IoQualification io{exit.qualification()};
	if (io.string() || io.in() || !vcpu.vm.ports.may_write_at_once(io.port()))
		return false;
	return write_at_once(exit, io);
}

Result<After> handle_io(Exit &exit)
{
	const IoQualification io{exit.qualification()};
	if (io.string())
		return emulate(exit.vcpu, exit.vmcs);

	Vcpu &vcpu = exit.vcpu;
	const u8 size = io.size();
	bool served;
	std::array<u8, 4> data{};
	{
		machine::ReadSection section{vcpu.reader};
		if (io.in()) {
			served = vcpu.vm.ports.read(section, io.port(), {data.data(), size});
		} else {
			__builtin_memcpy(data.data(), &vcpu.gpr(Gpr::rax), size);
			served = vcpu.vm.ports.write(section, io.port(), {data.data(), size});
		}
	}
	// What the VMM is to answer is traced with its answer.
	if (!io.in() || served)
		KVMPP_TRACE(port, vcpu.id, !io.in(), io.port(), size, 1, std::bit_cast<u32>(data));
	if (served) {
		if (io.in())
			set_port_result(vcpu, data.data(), size);
		return exit.complete();
	}

	exit_for_port(vcpu, io.in(), io.port(), size, 1);
	if (io.in()) {
		vcpu.io.waiting = IoState::Waiting::port_in;
		vcpu.io.rip = exit.rip();
		vcpu.io.instruction_length = static_cast<u8>(exit.instruction_length());
		vcpu.io.port = io.port();
		vcpu.io.size = size;
	} else {
		// An OUT is complete for the guest; what the VMM makes of it comes before the next
		// instruction.
		__builtin_memcpy(vcpu.port_data(), data.data(), size);
		exit.complete();
	}
	return After::exit_to_user;
}

} // namespace kvmpp::run
