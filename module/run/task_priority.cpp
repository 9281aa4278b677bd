// SPDX-License-Identifier: GPL-2.0-only
#include "run/task_priority.h"

namespace kvmpp::run
{

void take_task_priority(machine::Vcpu &vcpu)
{
	// A page that is not there says nothing.
	if (const auto word = vcpu.paravirtual_memory.read<u32>(vcpu.task_priority.shared))
		vcpu.lapic->set_task_priority(static_cast<u8>(*word));
}

void show_task_priority(machine::Vcpu &vcpu)
{
	const u32 in_service = vcpu.lapic->highest_in_service() & 0xf0;
	const u32 word = vcpu.lapic->task_priority() | in_service << 8 |
			 u32{vcpu.lapic->highest_requested()} << 24;
	(void)vcpu.paravirtual_memory.write(vcpu.task_priority.shared, &word, sizeof(word)).has_value();
}

} // namespace kvmpp::run
