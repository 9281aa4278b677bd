// SPDX-License-Identifier: GPL-2.0-only
/* Loading and unloading. */
#include <linux/module.h>
#include <linux/preempt.h>
#include "api/entry.h"
#include "host/seam.h"
#include "linux/parts.h"

static int minor = -1;
module_param(minor, int, 0444);
MODULE_PARM_DESC(minor, "minor number of /dev/kvmpp; -1 (default): any");

static bool exclusive = true;
module_param(exclusive, bool, 0444);
MODULE_PARM_DESC(exclusive, "keep VT-x from the first VM to the last (default); 0: only while a vCPU runs");

static bool force_emulation;
module_param(force_emulation, bool, 0644);
MODULE_PARM_DESC(force_emulation, "for tests: VMs that are created while it is 1 run in the instruction emulator alone");

int kvmpp_force_emulation(void)
{
	return READ_ONCE(force_emulation);
}

static struct kvmpp_halt_polling halt_polling = {
	.most = 200000,
	.grow = 2,
	.grow_start = 10000,
};
module_param_named(halt_poll_ns, halt_polling.most, uint, 0644);
MODULE_PARM_DESC(halt_poll_ns, "how long at most a halted vCPU keeps its CPU looking for work; 0: not at all");
module_param_named(halt_poll_ns_grow, halt_polling.grow, uint, 0644);
MODULE_PARM_DESC(halt_poll_ns_grow, "factor by which it looks longer after a halt that was short; 0: no longer");
module_param_named(halt_poll_ns_grow_start, halt_polling.grow_start, uint, 0644);
MODULE_PARM_DESC(halt_poll_ns_grow_start, "how long it looks at first");
module_param_named(halt_poll_ns_shrink, halt_polling.shrink, uint, 0644);
MODULE_PARM_DESC(halt_poll_ns_shrink, "divisor after a halt that was long; 0: it looks no more");

struct kvmpp_halt_polling kvmpp_halt_polling_parameters(void)
{
	return (struct kvmpp_halt_polling){
		.most = READ_ONCE(halt_polling.most),
		.grow = READ_ONCE(halt_polling.grow),
		.grow_start = READ_ONCE(halt_polling.grow_start),
		.shrink = READ_ONCE(halt_polling.shrink),
	};
}

static int apicv = -1;
module_param(apicv, int, 0444);
MODULE_PARM_DESC(apicv, "what the processor does of local APICs: 0 task priority only, 1 all it can, -1 (default) delivery only if it has posted interrupts too");

int kvmpp_apicv(void)
{
	return apicv;
}

static bool pml = true;
module_param(pml, bool, 0444);
MODULE_PARM_DESC(pml, "let the processor log the pages that guests write while the VMM wants to know them, where it can; otherwise they are write-protected");

int kvmpp_pml(void)
{
	return pml;
}

/* Read by `kvmpp status`: the mitigations that the world switch applies on this host. */
static int show_mitigations(char *buffer, const struct kernel_param *parameter)
{
	static const struct {
		enum kvmpp_mitigation bit;
		const char *name;
	} names[] = {
		{ KVMPP_L1TF_FLUSH_COND, "l1tf-flush-conditional" },
		{ KVMPP_L1TF_FLUSH_ALWAYS, "l1tf-flush-always" },
		{ KVMPP_L1TF_FLUSH_MSR, "l1tf-flush-by-msr" },
		{ KVMPP_CLEAR_CPU_BUFFERS, "verw" },
		{ KVMPP_CLEAR_CPU_BUFFERS_MMIO, "verw-mmio" },
		{ KVMPP_SPEC_CTRL, "spec-ctrl" },
		{ KVMPP_RSB_FILL, "rsb-fill" },
		{ KVMPP_RSB_FILL_ONE, "rsb-fill-one" },
		{ KVMPP_CLEAR_BRANCH_HISTORY, "bhb-clear" },
		{ KVMPP_IBPB_ON_SWITCH, "ibpb-switch" },
		{ KVMPP_IBPB_ON_USER_EXIT, "ibpb-user-exit" },
		{ KVMPP_SMALL_CODE_PAGES, "small-code-pages" },
	};
	const __u32 active = kvmpp_mitigations();
	int length = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (active & names[i].bit)
			length += sysfs_emit_at(buffer, length, "%s%s", length ? " " : "",
						names[i].name);
	return length + sysfs_emit_at(buffer, length, "%s\n", length ? "" : "none");
}

static const struct kernel_param_ops mitigations_operations = { .get = show_mitigations };
module_param_cb(mitigations, &mitigations_operations, NULL, 0444);
MODULE_PARM_DESC(mitigations, "speculation mitigations in force around guest entry and exit");

static int __init kvmpp_init(void)
{
	int error;

	kvmpp_memory_init();
	kvmpp_guest_switch_init();
	error = kvmpp_user_return_init();
	if (error)
		return error;
	error = kvmpp_page_in_init();
	if (error)
		goto no_page_in;
	error = kvmpp_start(exclusive);
	if (error)
		goto no_core;
	error = kvmpp_power_init();
	if (error)
		goto no_power;
	preempt_notifier_inc();
	kvmpp_debugfs_init();
	/* Last: from here VMs can be created. */
	error = kvmpp_device_register(minor);
	if (error)
		goto no_device;
	return 0;

no_device:
	kvmpp_debugfs_exit();
	preempt_notifier_dec();
	kvmpp_power_exit();
no_power:
	kvmpp_stop();
no_core:
	kvmpp_page_in_exit();
no_page_in:
	kvmpp_user_return_exit();
	return error;
}

/* Every descriptor holds the module, so no VM is left. */
static void __exit kvmpp_exit(void)
{
	kvmpp_device_unregister();
	kvmpp_debugfs_exit();
	preempt_notifier_dec();
	kvmpp_power_exit();
	kvmpp_stop();
	kvmpp_page_in_exit();
	kvmpp_user_return_exit();
}

module_init(kvmpp_init);
module_exit(kvmpp_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("KVM API on Intel VT-x, as a module of its own");
MODULE_VERSION(KVMPP_VERSION);
