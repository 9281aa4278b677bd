/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the host's file operations enter the core. Read by C and C++. Results are what the system
 * call returns: a negative errno or what KVM's API documents. All may sleep.
 */
#ifndef KVMPP_API_ENTRY_H
#define KVMPP_API_ENTRY_H

#ifdef __cplusplus
extern "C" {
#endif

/* At load: checks the machine. -EOPNOTSUPP with the reason in the log. `exclusive`: VT-x is kept from
 * the first VM to the last, rather than taken while a vCPU is on a CPU. At unload, without VMs. */
int kvmpp_start(int exclusive);
void kvmpp_stop(void);

long kvmpp_system_ioctl(unsigned int command, unsigned long argument);
long kvmpp_vm_ioctl(void *vm, unsigned int command, unsigned long argument);
long kvmpp_vcpu_ioctl(void *vcpu, unsigned int command, unsigned long argument);
/* The same from a 32-bit caller; the other two need nothing of the kind. */
long kvmpp_vm_ioctl_compat(void *vm, unsigned int command, unsigned long argument);

/* The last descriptor of the file was closed. */
void kvmpp_vm_release(void *vm);
void kvmpp_vcpu_release(void *vcpu);

/* The page that a vCPU's mmap shows at that index, or NULL. It lives as long as the file. */
void *kvmpp_vcpu_page(void *vcpu, unsigned long index);
/* Whether one of these pages belongs to its dirty ring, which is mapped shared and not executable only. */
int kvmpp_vcpu_shows_dirty_ring(void *vcpu, unsigned long first, unsigned long count);

/* A file of KVM_GET_STATS_FD: what was read, and the offset moved on; or a negative errno. */
long kvmpp_statistics_read(void *statistics, unsigned long buffer, unsigned long size,
	long long *offset);
void kvmpp_statistics_release(void *statistics);

/* On a CPU that comes up or is about to go down. A failure of online keeps it down. */
int kvmpp_cpu_online(void);
void kvmpp_cpu_offline(void);
/* The machine goes down: VT-x is off on every CPU when this returns, and stays off. */
void kvmpp_shutdown(void);
/* The kernel has crashed: switches VT-x off on this CPU, in any context. */
void kvmpp_cpu_emergency(void);

#ifdef __cplusplus
}
#endif

#endif
