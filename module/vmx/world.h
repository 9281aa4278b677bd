/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the world switch (enter.S) moves between the processor and memory: the registers that a VMCS
 * does not hold. Read by C++ and by the assembler.
 */
#ifndef KVMPP_VMX_WORLD_H
#define KVMPP_VMX_WORLD_H

#define KVMPP_WORLD_GPR(n) ((n) * 8)
#define KVMPP_WORLD_HOST_RSP 128
#define KVMPP_WORLD_SPEC_CTRL 136
#define KVMPP_WORLD_SAVE_SPEC_CTRL 140
#define KVMPP_WORLD_LAUNCHED 141

/* VMCS field encoding of the host's RSP, for VMWRITE. */
#define KVMPP_FIELD_HOST_RSP 0x6c14

#ifndef __ASSEMBLY__

#include <cstddef>
#include "vmx/fields.h"
#include "x86/registers.h"

namespace kvmpp::vmx
{

struct World {
	x86::Gprs gprs{};
	u64 host_rsp = 0;	     // what the VMCS holds, so that the same value is not written again
	u32 spec_ctrl = 0;	     // the guest's IA32_SPEC_CTRL
	bool save_spec_ctrl = false; // the guest writes it without an exit
	bool launched = false;	     // the VMCS was launched since it was cleared: VMRESUME
};

static_assert(offsetof(World, gprs) == KVMPP_WORLD_GPR(0));
static_assert(offsetof(World, host_rsp) == KVMPP_WORLD_HOST_RSP);
static_assert(offsetof(World, spec_ctrl) == KVMPP_WORLD_SPEC_CTRL);
static_assert(offsetof(World, save_spec_ctrl) == KVMPP_WORLD_SAVE_SPEC_CTRL);
static_assert(offsetof(World, launched) == KVMPP_WORLD_LAUNCHED);
static_assert(decltype(field::host_rsp)::encoding == KVMPP_FIELD_HOST_RSP);

} // namespace kvmpp::vmx

extern "C" {
// Runs the guest of the current VMCS until it exits. 0, or 1 when VMLAUNCH or VMRESUME itself
// failed. Interrupts off, between kvmpp_guest_begin and kvmpp_guest_end.
int kvmpp_world_switch(kvmpp::vmx::World *world);
// Where the processor continues after a VM exit: the VMCS's host RIP. Not to be called.
void kvmpp_world_exit();
}

#endif
#endif
