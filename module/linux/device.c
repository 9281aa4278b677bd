// SPDX-License-Identifier: GPL-2.0-only
/* The device node /dev/kvmpp, and the events that tell user space of VMs. */
#include <linux/fs.h>
#include <linux/kobject.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include "api/entry.h"
#include "host/seam.h"
#include "linux/parts.h"

static long device_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	return kvmpp_system_ioctl(command, argument);
}

static const struct file_operations device_operations = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = device_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice device = {
	.name = "kvmpp",
	.fops = &device_operations,
	.mode = 0660,
};

int kvmpp_device_register(int minor)
{
	device.minor = minor < 0 ? MISC_DYNAMIC_MINOR : minor;
	return misc_register(&device);
}

void kvmpp_device_unregister(void)
{
	misc_deregister(&device);
}

/* The variables are those of KVM's own events. Best effort: without memory nobody is told. */
void kvmpp_uevent(int created, __u64 live, __u64 total, __s32 pid)
{
	struct kobj_uevent_env *env = kzalloc(sizeof(*env), GFP_KERNEL_ACCOUNT);

	if (!env)
		return;
	add_uevent_var(env, "CREATED=%llu", total);
	add_uevent_var(env, "COUNT=%llu", live);
	add_uevent_var(env, "EVENT=%s", created ? "create" : "destroy");
	add_uevent_var(env, "PID=%d", pid);
	kobject_uevent_env(&device.this_device->kobj, KOBJ_CHANGE, env->envp);
	kfree(env);
}
