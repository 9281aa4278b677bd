// SPDX-License-Identifier: GPL-2.0-only
// Exceptions and NMIs that end a guest's run. SDM vol. 3, 25.6.3, 28.2.1.
#include "run/debugger.h"
#include "run/handlers.h"

namespace kvmpp::run
{

using x86::Exception;
using x86::Vector;

Result<After> handle_exception(Exit &exit)
{
	const vmx::EventInfo event = exit.event();
	Vcpu &vcpu = exit.vcpu;

	if (event.nmi_unblocked_by_iret())
		exit.undo_nmi_unblocking();

	if (event.type() == vmx::EventType::nmi)
		return After::reenter; // the host's, and served

	switch (static_cast<Vector>(event.vector())) {
	case Vector::machine_check: return After::reenter; // likewise
	case Vector::invalid_opcode: return handle_invalid_opcode(exit);
	case Vector::breakpoint: return debug_exit(vcpu, exit.vmcs, Vector::breakpoint, 0);
	case Vector::debug: {
		// The qualification has what DR6 would have got (SDM vol. 3, table 28-1).
		constexpr u64 sticky = 0xe00f, breakpoints = 0xf;
		if (vcpu.debugger.takes_debug_exceptions())
			return debug_exit(vcpu, exit.vmcs, Vector::debug, exit.qualification() & sticky);
		vcpu.debug.dr6 = (vcpu.debug.dr6 & ~breakpoints) | (exit.qualification() & sticky);
		// INT1 is a trap, but the exit shows where it stands (SDM vol. 3, 28.3.3).
		if (event.type() == vmx::EventType::privileged_software_exception)
			exit.complete();
		return exit.raise(Exception::plain(Vector::debug));
	}
	default: {
		const u32 code = event.has_error_code()
					 ? exit.vmcs.read(vmx::field::exit_event_error_code)
					 : 0;
		return exit.raise({static_cast<Vector>(event.vector()), event.has_error_code(), code, 0});
	}
	}
}

} // namespace kvmpp::run
