/* SPDX-License-Identifier: GPL-2.0-only */
/* What module.c and the other files of this folder need of one another. */
#ifndef KVMPP_LINUX_PARTS_H
#define KVMPP_LINUX_PARTS_H

#include <linux/init.h>
#include <linux/types.h>

struct file_operations;

void kvmpp_memory_init(void);
void kvmpp_guest_switch_init(void);
int kvmpp_user_return_init(void);
void kvmpp_user_return_exit(void);

int kvmpp_page_in_init(void);
void kvmpp_page_in_exit(void);

/* Hotplug, suspend, reboot, crash: from here the core hears of them. */
int kvmpp_power_init(void);
void kvmpp_power_exit(void);
/* After a sleep that reset the TSC: kvmpp_tsc() goes on from this value. Interrupts off. */
void kvmpp_tsc_continue_from(__u64 tsc);

void kvmpp_debugfs_init(void);
void kvmpp_debugfs_exit(void);

/* The device node: appears last, disappears first. */
int kvmpp_device_register(int minor);
void kvmpp_device_unregister(void);

#endif
