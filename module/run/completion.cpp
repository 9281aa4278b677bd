// SPDX-License-Identifier: GPL-2.0-only
#include "run/completion.h"

#include <bit>
#include "host/trace.h"
#include "run/emulation.h"
#include "run/handlers.h"
#include "run/ports.h"

namespace kvmpp::run
{
namespace
{

using machine::IoState;

void trace_port_answer(Vcpu &vcpu)
{
	u32 value = 0;
	__builtin_memcpy(&value, vcpu.port_data(), vcpu.io.size);
	kvmpp_note_port(vcpu.id, false, vcpu.io.port, vcpu.io.size, 1, value);
}

} // namespace

Result<After> complete_io(Vcpu &vcpu, vmx::Current vmcs)
{
	IoState &io = vcpu.io;
	const auto waiting = io.waiting;
	io.waiting = IoState::Waiting::nothing;

	if (waiting == IoState::Waiting::written) {
		io.writes.pop();
		return exit_for_writes(vcpu);
	}
	if (waiting == IoState::Waiting::nothing)
		return After::reenter;
	if (vcpu.state.rip(vmcs) != io.rip) {
		io.reset();
		return After::reenter;
	}

	switch (waiting) {
	case IoState::Waiting::port_in:
		if (host::tracing()) [[unlikely]]
			trace_port_answer(vcpu);
		set_port_result(vcpu, vcpu.port_data(), io.size);
		pass_instruction(vcpu, vmcs, io.instruction_length);
		return After::reenter;
	case IoState::Waiting::msr_read:
	case IoState::Waiting::msr_write: return complete_msr(vcpu, vmcs, waiting);
	case IoState::Waiting::port_string: io.port_string_answered = true; break;
	default: {
		// The VMM may change the page at any time: copied once, and only the data.
		auto &fragment = io.answered[io.answered.size() - 1];
		__builtin_memcpy(fragment.data.data(), vcpu.run().mmio.data, fragment.data.size());
		KVMPP_TRACE(mmio, vcpu.id, false, fragment.address.value, fragment.size,
			std::bit_cast<u64>(fragment.data));
		break;
	}
	}
	return emulate(vcpu, vmcs);
}

} // namespace kvmpp::run
