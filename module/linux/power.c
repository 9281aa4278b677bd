// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ends and pauses of a machine's life: CPUs that come and go, suspend and resume, reboot, crash.
 * VT-x must be off when any of them passes the processor on: in VMX operation it ignores INIT, and
 * faults when CR4 is loaded without VMXE.
 */
#include <linux/cpuhotplug.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/reboot.h>
#include <linux/syscore_ops.h>
#include <asm/reboot.h>
#include "api/entry.h"
#include "host/seam.h"
#include "linux/parts.h"

/* ---- CPUs ---- */

static enum cpuhp_state hotplug_state;

static int bring_up(unsigned int cpu)
{
	return kvmpp_cpu_online();
}

static int take_down(unsigned int cpu)
{
	kvmpp_cpu_offline();
	return 0;
}

/* ---- suspend: the last CPU, with interrupts off; the others were taken down ---- */

static __u64 tsc_at_suspend;

static int suspend(void)
{
	tsc_at_suspend = kvmpp_tsc();
	kvmpp_cpu_offline();
	return 0;
}

static void resume(void)
{
	/* Deep sleep resets the counter; guests' must go on from where they were. */
	kvmpp_tsc_continue_from(tsc_at_suspend);
	kvmpp_cpu_online();
}

static struct syscore_ops syscore_operations = {
	.suspend = suspend,
	.resume = resume,
};

/* ---- reboot ---- */

static int reboot(struct notifier_block *notifier, unsigned long event, void *nothing)
{
	kvmpp_shutdown();
	return NOTIFY_OK;
}

static struct notifier_block reboot_notifier = { .notifier_call = reboot };

/*
 * ---- crash: every CPU calls this, in whatever state it was ----
 *
 * The kernel has one place for such a callback, and kvm_intel takes it for as long as it is loaded.
 * Its callback switches VT-x off whoever had switched it on, so then ours is not needed. Otherwise
 * the place is ours, and we leave it before kvm_intel comes.
 */

static bool holds_emergency;
static DEFINE_MUTEX(emergency_lock);

static void hold_emergency(bool hold)
{
	mutex_lock(&emergency_lock);
	if (hold && !holds_emergency)
		cpu_emergency_register_virt_callback(kvmpp_cpu_emergency);
	else if (!hold && holds_emergency)
		cpu_emergency_unregister_virt_callback(kvmpp_cpu_emergency);
	holds_emergency = hold;
	mutex_unlock(&emergency_lock);
}

static bool peer_is_loaded(void)
{
	struct kobject *peer = kset_find_obj(THIS_MODULE->mkobj.kobj.kset, "kvm_intel");

	kobject_put(peer);
	return peer;
}

static int module_changed(struct notifier_block *notifier, unsigned long state, void *data)
{
	const struct module *module = data;

	if (strcmp(module->name, "kvm_intel"))
		return NOTIFY_DONE;
	if (state == MODULE_STATE_COMING)
		hold_emergency(false);
	else if (state == MODULE_STATE_GOING)
		hold_emergency(true);
	return NOTIFY_OK;
}

static struct notifier_block module_notifier = { .notifier_call = module_changed };

int __init kvmpp_power_init(void)
{
	int result = cpuhp_setup_state_nocalls(CPUHP_AP_ONLINE_DYN, "kvmpp:online", bring_up,
					       take_down);

	if (result < 0)
		return result;
	hotplug_state = result;
	register_syscore_ops(&syscore_operations);
	register_reboot_notifier(&reboot_notifier);
	register_module_notifier(&module_notifier);
	if (!peer_is_loaded())
		hold_emergency(true);
	return 0;
}

void kvmpp_power_exit(void)
{
	unregister_module_notifier(&module_notifier);
	hold_emergency(false);
	unregister_reboot_notifier(&reboot_notifier);
	unregister_syscore_ops(&syscore_operations);
	cpuhp_remove_state_nocalls(hotplug_state);
}
