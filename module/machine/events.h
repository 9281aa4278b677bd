// SPDX-License-Identifier: GPL-2.0-only
// What waits to be delivered to a guest through its IDT, apart from interrupts that the local APIC
// still holds. Belongs to the vCPU's thread.
#pragma once

#include <optional>
#include <linux/kvm.h>
#include "vmx/event.h"
#include "x86/registers.h"

namespace kvmpp::machine
{

// An event as an entry injects it.
struct Delivery {
	vmx::EventInfo info{};
	u32 error_code = 0;
	u8 instruction_length = 0; // of INT n and its kind
};

struct Events {
	// What the next entry carries.
	std::optional<Delivery> next;
	// An exit interrupted its delivery: it is repeated until it succeeds, after any exception
	// that the attempt has raised.
	std::optional<Delivery> begun;
	// Raised by an instruction that was executed in software.
	std::optional<x86::Exception> exception;
	// An interrupt of a VM without irqchip (KVM_INTERRUPT).
	std::optional<u8> user_interrupt;
	// NMIs that wait; one more than the one being handled is remembered.
	u8 nmis = 0;
	// A system-management interrupt waits. There is no second one.
	bool smi = false;

	// Combines with an exception that is on its way already: a double fault, or a triple one.
	void raise(const x86::Exception &exception);
	bool triple_fault = false;

	void nmi()
	{
		if (nmis < 2)
			++nmis;
	}
};

} // namespace kvmpp::machine
