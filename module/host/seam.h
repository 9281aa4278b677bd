/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The seam: everything the core asks of its host, as one flat C interface. module/linux implements
 * it with the kernel, userspace/sim with threads and plain memory. The classes in this folder are
 * what the core uses; nothing above module/host calls these functions.
 *
 * Conventions: int results are 0 or a negative errno. "May sleep" means process context with
 * interrupts and preemption on; "any context" includes hard interrupts. Sizes are bytes, times are
 * nanoseconds. Objects named *_storage live inside C++ objects; their owner sees that they outlive
 * their use.
 */
#ifndef KVMPP_HOST_SEAM_H
#define KVMPP_HOST_SEAM_H

#include <linux/types.h>
#include "host/lock_order.h"
#include "host_layout.h"

#ifdef __cplusplus
#include <stddef.h>
extern "C" {
#endif

/* For code that runs while the CPU counts as the guest's: no tracer may look into it. */
#define KVMPP_NOINSTR                                                                              \
	__attribute__((noinline, no_instrument_function, section(".noinstr.text")))

#define KVMPP_STORAGE(name, NAME)                                                                  \
	struct kvmpp_##name {                                                                      \
		unsigned char bytes[KVMPP_SIZEOF_##NAME];                                          \
	} __attribute__((aligned(KVMPP_ALIGNOF_##NAME)))

KVMPP_STORAGE(mutex, MUTEX);
KVMPP_STORAGE(spinlock, SPINLOCK);
KVMPP_STORAGE(rwlock, RWLOCK);
KVMPP_STORAGE(waiter, WAITER);
KVMPP_STORAGE(timer, TIMER);
KVMPP_STORAGE(mm_watch, MM_WATCH);
KVMPP_STORAGE(switch_watch, SWITCH_WATCH);
KVMPP_STORAGE(eventfd_watch, EVENTFD_WATCH);
KVMPP_STORAGE(fpu, FPU);

/* ---- memory ------------------------------------------------------------------------------- */

/* Zeroed memory, charged to the caller's memory cgroup. May sleep. NULL when there is none. */
void *kvmpp_alloc(size_t size);
/* Frees what kvmpp_alloc returned; NULL is allowed. May sleep. */
void kvmpp_free(void *memory);

/* One zeroed page near the given NUMA node (-1: anywhere), charged likewise. May sleep. */
void *kvmpp_page_alloc(int node);
/* 2^order physically contiguous pages, not zeroed. May sleep. */
void *kvmpp_pages_alloc(unsigned int order);
/* Any context. */
void kvmpp_pages_free(void *pages, unsigned int order);

/* Virtual minus physical address of every page above. Set before the core's first call. */
extern __u64 kvmpp_direct_map;

/* ---- user memory of the calling thread's address space. May sleep (page faults). ------------ */

/* Both return the number of bytes that could not be copied. */
size_t kvmpp_user_read(void *to, __u64 from, size_t size);
size_t kvmpp_user_write(__u64 to, const void *from, size_t size);
/* Whether [address, address + size) can be user memory at all. Any context. */
int kvmpp_user_range_ok(__u64 address, __u64 size);
/* The same, but they fail on a page that is not present instead of sleeping. Any context. */
size_t kvmpp_user_read_atomic(void *to, __u64 from, size_t size);
size_t kvmpp_user_write_atomic(__u64 to, const void *from, size_t size);
/*
 * Replaces the naturally aligned 1, 2, 4 or 8 bytes at `address` by `desired` if they equal
 * *expected, which receives the old value. 0, -EAGAIN when they differed, -EFAULT.
 */
int kvmpp_user_compare_exchange(__u64 address, unsigned int size, __u64 *expected, __u64 desired);

struct kvmpp_user_page {
	__u64 pfn;
	__u8 writable;
	__u8 counted; /* referenced; memory of a device is not, and goes with its mapping */
	__u8 device;  /* not RAM: uncacheable */
	__u8 reserved[5];
};
/*
 * Finds and references the page behind a user address, faulting it in. `write` asks for a writable
 * one; without it a page that happens to be writable says so. -EFAULT: nothing usable is mapped
 * there; -EINTR: a signal came; -EHWPOISON. Without `wait` -EBUSY for a page that somebody has to
 * bring first: a disk, another process.
 */
int kvmpp_user_page_get(__u64 address, int write, int wait, struct kvmpp_user_page *page);
/* As above without sleeping: -EAGAIN when the page is not there yet. */
int kvmpp_user_page_get_fast(__u64 address, int write, struct kvmpp_user_page *page);
void kvmpp_user_page_put(const struct kvmpp_user_page *page, int dirty);
/*
 * A thread of the host's brings in a page of the calling thread's address space, and then calls
 * done(context), which must not sleep, whether there is such a page or not. It starts at once, or not at
 * all: -ENOMEM; -EAGAIN, too many are under way. Who has started it forgets it in the end: after that
 * done() neither runs nor will be called. Forget does not wait for the page; NULL is allowed.
 */
struct kvmpp_page_in;
int kvmpp_page_in_start(__u64 address, int write, void (*done)(void *context), void *context,
	struct kvmpp_page_in **page_in);
void kvmpp_page_in_forget(struct kvmpp_page_in *page_in);
/*
 * log2 of the size with which the host maps `address` right now: 12, 21 or 30. Valid only while
 * no invalidation of that range has begun (see kvmpp_mm_watch_start). Does not sleep.
 */
unsigned int kvmpp_user_mapping_shift(__u64 address);

/*
 * Watches the calling thread's address space. From start to stop, kvmpp_mm_invalidate_begin/end
 * (below) are called with `owner` around every change of its mappings. Start may sleep; stop waits
 * for running calls.
 */
int kvmpp_mm_watch_start(struct kvmpp_mm_watch *watch, void *owner);
void kvmpp_mm_watch_stop(struct kvmpp_mm_watch *watch);
/* Whether the calling thread runs in the watched address space. */
int kvmpp_mm_is_current(const struct kvmpp_mm_watch *watch);

/* ---- locks ------------------------------------------------------------------------------- */

/* Each lock has its place in the order of lock_order.h. */
void kvmpp_mutex_init(struct kvmpp_mutex *mutex, enum kvmpp_lock_class which);
void kvmpp_mutex_lock(struct kvmpp_mutex *mutex);
/* 0, or -EINTR when a fatal signal came first. */
int kvmpp_mutex_lock_killable(struct kvmpp_mutex *mutex);
/* Whether it was free, and is the caller's now. */
int kvmpp_mutex_try_lock(struct kvmpp_mutex *mutex);
void kvmpp_mutex_unlock(struct kvmpp_mutex *mutex);

/* Interrupts are off while a spinlock is held; any context. The result of lock goes to unlock. */
void kvmpp_spin_init(struct kvmpp_spinlock *lock, enum kvmpp_lock_class which);
unsigned long kvmpp_spin_lock(struct kvmpp_spinlock *lock);
void kvmpp_spin_unlock(struct kvmpp_spinlock *lock, unsigned long flags);

/* Process context; the holder does not sleep. */
void kvmpp_rwlock_init(struct kvmpp_rwlock *lock, enum kvmpp_lock_class which);
void kvmpp_read_lock(struct kvmpp_rwlock *lock);
void kvmpp_read_unlock(struct kvmpp_rwlock *lock);
void kvmpp_write_lock(struct kvmpp_rwlock *lock);
void kvmpp_write_unlock(struct kvmpp_rwlock *lock);
/* Whether the holder should make room: someone waits for the lock or the CPU. */
int kvmpp_rwlock_needs_break(struct kvmpp_rwlock *lock);

/* ---- the calling thread --------------------------------------------------------------------- */

int kvmpp_signal_pending(void);
/* A reschedule, signal or other work that must be seen before entering the guest. Any context. */
int kvmpp_work_pending(void);
/* Does that work. May sleep. -EINTR when a signal is pending. */
int kvmpp_work_handle(void);
void kvmpp_cond_resched(void);
/* Sleeps for a few tens of microseconds. */
void kvmpp_pause(void);
__s32 kvmpp_process_id(void);
/* For how long the calling thread has been runnable without a CPU, since it began. Any context. */
__u64 kvmpp_run_delay_ns(void);

/* Whether no other thread waits for this CPU. */
int kvmpp_alone_on_cpu(void);
/* One turn of a loop that waits for another CPU. */
void kvmpp_cpu_relax(void);
/* KVM's module parameters for it, as they are now. ns; 0 for grow and shrink: not at all, and to nothing. */
struct kvmpp_halt_polling {
	__u32 most, grow, grow_start, shrink;
};
struct kvmpp_halt_polling kvmpp_halt_polling_parameters(void);

/* Names of threads, counted. Any context, but for yield_to: process context, no spinlock held. */
struct kvmpp_thread;
struct kvmpp_thread *kvmpp_thread_current(void); /* counted */
struct kvmpp_thread *kvmpp_thread_get(struct kvmpp_thread *thread);
void kvmpp_thread_put(struct kvmpp_thread *thread); /* NULL is allowed */
int kvmpp_thread_is_current(const struct kvmpp_thread *thread);
/* Lets a thread that waits for a CPU run before the calling one. 0: it does not, or may not. */
int kvmpp_thread_yield_to(struct kvmpp_thread *thread);

/* Replaces the signal mask (8 bytes) for the time of one KVM_RUN, and puts the old one back. */
void kvmpp_signal_mask_set(__u64 mask);
void kvmpp_signal_mask_restore(void);

/*
 * Blocks the calling thread, interruptibly, until ready(context), which must not sleep, or a signal.
 * One thread at a time waits on a waiter. Wake: any context; a wake between the check and the sleep
 * is not lost.
 */
void kvmpp_waiter_init(struct kvmpp_waiter *waiter);
void kvmpp_wait(struct kvmpp_waiter *waiter, int (*ready)(void *context), void *context);
void kvmpp_wake(struct kvmpp_waiter *waiter);

/* Calls kvmpp_switched_in/out (below) whenever the calling thread is scheduled in or out. */
void kvmpp_switch_watch_start(struct kvmpp_switch_watch *watch, void *owner);
void kvmpp_switch_watch_stop(struct kvmpp_switch_watch *watch);

/* ---- processors ----------------------------------------------------------------------------- */

unsigned int kvmpp_cpu_limit(void); /* processor numbers are below this */
unsigned int kvmpp_cpu_current(void);
int kvmpp_cpu_node(unsigned int cpu);
/* Runs function(argument) with interrupts off on every online CPU at once; waits for all. */
void kvmpp_cpu_run_on_all(void (*function)(void *argument), void *argument);
/* The same on one CPU; nothing happens, and -ENXIO, if it is offline. */
int kvmpp_cpu_run_on(unsigned int cpu, void (*function)(void *argument), void *argument);
/* Makes a CPU that runs a guest leave it. Any context. */
void kvmpp_cpu_kick(unsigned int cpu);
/* Makes every CPU named by the bitmap (of KVMPP_MAX_CPUS) leave its guest and waits until it did. */
#define KVMPP_MAX_CPUS 8192
void kvmpp_cpu_kick_and_wait(const unsigned long *cpus);
/* CPU hotplug is held off between these two. May sleep. */
void kvmpp_cpu_hotplug_lock(void);
void kvmpp_cpu_hotplug_unlock(void);

unsigned long kvmpp_irq_save(void);
void kvmpp_irq_restore(unsigned long flags);
void kvmpp_irq_disable(void);
void kvmpp_irq_enable(void);
void kvmpp_preempt_disable(void);
void kvmpp_preempt_enable(void);

/* -EIO when the processor raises #GP. */
int kvmpp_msr_read(__u32 index, __u64 *value);
int kvmpp_msr_write(__u32 index, __u64 value);
void kvmpp_cpuid(__u32 leaf, __u32 subleaf, __u32 registers[4]);
__u64 kvmpp_cr4_read(void);
void kvmpp_cr4_set_vmxe(int on);

/* ---- time ------------------------------------------------------------------------------------ */

/* The TSC, made to go on where a sleep has set it back: the processor's plus the adjustment, which
 * changes in suspend only. */
__u64 kvmpp_tsc(void);
__u64 kvmpp_tsc_adjustment(void);
__u32 kvmpp_tsc_khz(void);
/* Whether the TSCs of all CPUs tick in step at one rate through every power state. */
int kvmpp_tsc_reliable(void);
__u64 kvmpp_monotonic_ns(void);
__u64 kvmpp_boottime_ns(void);
__u64 kvmpp_realtime_ns(void);

/* The callback runs in hard interrupt context and returns the next expiry, or 0 to stop. */
typedef __u64 (*kvmpp_timer_callback)(void *context, __u64 now);
void kvmpp_timer_init(struct kvmpp_timer *timer, kvmpp_timer_callback callback, void *context);
/* Fires at `expiry` on the monotonic clock; replaces an earlier expiry. Not from the callback. */
void kvmpp_timer_start(struct kvmpp_timer *timer, __u64 expiry);
/* Waits for a running callback. */
void kvmpp_timer_cancel(struct kvmpp_timer *timer);

/* ---- eventfds -------------------------------------------------------------------------------- */

/* A referenced eventfd, for signalling; NULL and *error for a bad descriptor. */
void *kvmpp_eventfd_get(int fd, int *error);
void kvmpp_eventfd_put(void *eventfd);
void kvmpp_eventfd_signal(void *eventfd); /* any context, but with PREEMPT_RT it may sleep */
extern const __s32 kvmpp_eventfd_signals_atomically;

/* Calls signalled(context) whenever the eventfd is signalled, with interrupts off, and hung_up from
 * process context when its last descriptor is closed. Start also reports a count that is already
 * there. Stop waits for running calls, so hung_up itself ends its watch instead. */
struct kvmpp_eventfd_calls {
	void (*signalled)(void *context);
	void (*hung_up)(void *context);
};
int kvmpp_eventfd_watch_start(struct kvmpp_eventfd_watch *watch, int fd,
	const struct kvmpp_eventfd_calls *calls, void *context);
void kvmpp_eventfd_watch_stop(struct kvmpp_eventfd_watch *watch);
/* The same from hung_up itself, whose storage may go then. */
void kvmpp_eventfd_watch_end(struct kvmpp_eventfd_watch *watch);

/* ---- floating point and extended state --------------------------------------------------------- */

int kvmpp_fpu_init(struct kvmpp_fpu *fpu); /* may sleep */
void kvmpp_fpu_destroy(struct kvmpp_fpu *fpu);
/* Puts the guest's state into the processor, the thread's aside; and back. */
void kvmpp_fpu_enter(struct kvmpp_fpu *fpu);
void kvmpp_fpu_leave(struct kvmpp_fpu *fpu);
/* XSAVE image in its standard format; a 512-byte FXSAVE area suffices where there is no XSAVE. */
void kvmpp_fpu_get(struct kvmpp_fpu *fpu, void *xsave, size_t size);
/* -EINVAL for an image that the processor would refuse. */
int kvmpp_fpu_set(struct kvmpp_fpu *fpu, const void *xsave, size_t size, __u64 xcr0);
/*
 * Single registers of it, between enter and leave: `size` bytes of vector register 0 to 15 from its
 * lowest on, at most 32; clear_above zeroes the rest of the register. The FXSAVE image is 16-byte
 * aligned; fxrstor: -EINVAL for one that the processor refuses.
 */
void kvmpp_fpu_read_vector(unsigned int number, void *value, unsigned int size);
void kvmpp_fpu_write_vector(unsigned int number, const void *value, unsigned int size,
	int clear_above);
void kvmpp_fpu_read_mmx(unsigned int number, __u64 *value);
void kvmpp_fpu_write_mmx(unsigned int number, __u64 value);
void kvmpp_fpu_fxsave(void *image);
int kvmpp_fpu_fxrstor(const void *image);
/* Components (XCR0 bits) that a guest may use; 0 where the host has no XSAVE. */
__u64 kvmpp_fpu_xcr0_supported(void);
__u64 kvmpp_fpu_xcr0(void);
void kvmpp_xcr0_write(__u64 value);

/* ---- around the world switch -------------------------------------------------------------------- */

/* What a VMCS's host-state area needs to know of the running kernel. */
struct kvmpp_host_tables {
	__u64 gdt_base, idt_base, tss_base, gs_base;
	__u64 sysenter_esp, sysenter_eip;
	__u64 efer, pat;
	__u32 sysenter_cs;
	__u16 cs, ss, tss_selector;
};
void kvmpp_host_tables_get(struct kvmpp_host_tables *tables); /* preemption off */
/* IA32_DEBUGCTL of this CPU, which a VM exit clears. */
__u64 kvmpp_debugctl(void);

/* The thread's user segments, which a guest overwrites and a VM exit does not restore. */
struct kvmpp_user_segments {
	__u64 fs_base, kernel_gs_base;
	__u16 ds, es, fs, gs, ldt;
};
void kvmpp_user_segments_save(struct kvmpp_user_segments *segments);
/*
 * Restores those that a VM exit left wrong: selectors other than null, the GDT limit, and
 * KERNEL_GS_BASE. Interrupts or preemption off.
 */
void kvmpp_user_segments_restore(const struct kvmpp_user_segments *segments);

/*
 * MSRs that only user mode needs back (STAR and its kind): set for the guest, restored when the
 * CPU next returns to user mode. register: the slot number or -ENXIO. Any other call: interrupts or
 * preemption off.
 */
int kvmpp_user_return_msr_register(__u32 index);
void kvmpp_user_return_msr_set(unsigned int slot, __u64 value, __u64 mask);
void kvmpp_user_return_msrs_restore(void);

/*
 * Brackets the stretch in which the CPU belongs to the guest; interrupts off. Begin puts the
 * guest's FPU state in place if a context switch took it away, and tells RCU and time accounting.
 * While interrupts stay off the guest may be entered again after an end. Where kvmpp_guest_tracked is
 * zero the kernel wants to know neither of that nor of any end: begin alone is called.
 */
void kvmpp_guest_begin(void);
void kvmpp_guest_again(void);
void kvmpp_guest_end(void);
extern __s32 kvmpp_guest_tracked; /* set before the first VM is made, and never changed */
/* After the end: lets pending interrupts in, ends the guest's time, and leaves interrupts on. */
void kvmpp_guest_leave(void);
/* Hands an NMI or machine check that caused a VM exit to the kernel; interrupts off. */
void kvmpp_deliver_nmi(void);
void kvmpp_deliver_machine_check(void);

/*
 * Debug registers. A VM exit clears DR7 alone; breakpoints that the host had set are restored where
 * active() says so. Interrupts off.
 */
int kvmpp_debug_registers_active(void);
void kvmpp_debug_registers_restore(void);
/* DR0 to DR3 and DR6 of the processor. */
void kvmpp_debug_registers_write(const __u64 address[4], __u64 dr6);
__u64 kvmpp_dr6_read(void);

/* Speculation mitigations of the host that the world switch must apply (SDM and kernel names). */
enum kvmpp_mitigation {
	KVMPP_L1TF_FLUSH_COND = 1 << 0, /* flush the L1 data cache when the exit path was unsafe */
	KVMPP_L1TF_FLUSH_ALWAYS = 1 << 1,
	KVMPP_L1TF_FLUSH_MSR = 1 << 2, /* by IA32_FLUSH_CMD; otherwise by reading 64 KiB */
	KVMPP_CLEAR_CPU_BUFFERS = 1 << 3, /* VERW before entry: MDS, TAA, RFDS */
	KVMPP_CLEAR_CPU_BUFFERS_MMIO = 1 << 4, /* only for a VM with a device's MMIO: stale data */
	KVMPP_SPEC_CTRL = 1 << 5, /* switch IA32_SPEC_CTRL */
	KVMPP_RSB_FILL = 1 << 6, /* fill the return stack after exit */
	KVMPP_RSB_FILL_ONE = 1 << 7, /* one entry suffices (enhanced IBRS) */
	KVMPP_CLEAR_BRANCH_HISTORY = 1 << 8, /* BHI: clear the branch history after exit */
	KVMPP_IBPB_ON_SWITCH = 1 << 9, /* barrier when another vCPU takes the CPU */
	KVMPP_IBPB_ON_USER_EXIT = 1 << 10, /* VMSCAPE: barrier before the VMM runs */
	KVMPP_SMALL_CODE_PAGES = 1 << 11, /* iTLB multihit: guests execute from pages of 4 KiB only */
};
__u32 kvmpp_mitigations(void);
/* For tests: whether a VM that is created now is to run in the emulator alone. */
int kvmpp_force_emulation(void);
/* What the processor does of local APICs besides the task priority: 0 nothing, 1 all it can, -1 all it can,
 * but it delivers interrupts only where it has posted interrupts too. */
int kvmpp_apicv(void);
/* Whether a guest may wait in MWAIT: it wakes from there as it should, and the host's timers go on. */
int kvmpp_mwait_usable(void);
/* Whether the processor may log the pages that guests write, where it can. */
int kvmpp_pml(void);
/* Whether a host interrupt ran since the last call on this CPU: the L1 cache may hold secrets. */
int kvmpp_l1d_flush_wanted(void);
__u64 kvmpp_spec_ctrl_host(void);
void kvmpp_branch_barrier(void); /* IBPB */
void kvmpp_branch_barrier_on_user_exit(void);

/* ---- descriptors ------------------------------------------------------------------------------------ */

/* A file and the descriptor reserved for it, close-on-exec. The owner is handed to the entry points of
 * api/entry.h; the file's last close releases it there. */
struct kvmpp_new_file {
	int fd;
	void *file;
};
int kvmpp_file_prepare_vm(struct kvmpp_new_file *file, void *vm);
int kvmpp_file_prepare_vcpu(struct kvmpp_new_file *file, void *vcpu, __u32 id);
/* One that is read: kvmpp_statistics_read of api/entry.h serves it. */
int kvmpp_file_prepare_statistics(struct kvmpp_new_file *file, const char *name, void *statistics);
void kvmpp_file_install(const struct kvmpp_new_file *file);
/* Gives both back without releasing the owner. */
void kvmpp_file_abandon(const struct kvmpp_new_file *file);

/* ---- outside world ------------------------------------------------------------------------------- */

/* One line in the kernel log, without newline; limited in rate. */
enum kvmpp_log_level { KVMPP_LOG_ERROR, KVMPP_LOG_INFO };
__attribute__((format(printf, 2, 3))) void kvmpp_log(enum kvmpp_log_level level,
	const char *format, ...);
/* As snprintf. */
__attribute__((format(printf, 3, 4))) void kvmpp_format(char *to, size_t size, const char *format,
	...);
/* KOBJ_CHANGE event of the device: EVENT=create or destroy, with COUNT, CREATED and PID. */
void kvmpp_uevent(int created, __u64 live, __u64 total, __s32 pid);

/* ---- what can be watched --------------------------------------------------------------------------- */

/* Above zero while any tracepoint is in use. */
extern __s32 kvmpp_tracing;
void kvmpp_note_entry(__u32 vcpu, __u64 rip);
void kvmpp_note_exit(__u32 vcpu, __u32 reason, __u64 rip, __u64 qualification);
void kvmpp_note_injection(__u32 vcpu, __u8 vector, __u8 type);
void kvmpp_note_page_fault(__u32 vcpu, __u64 rip, __u64 address, __u64 qualification);
void kvmpp_note_port(__u32 vcpu, int write, __u16 port, __u8 size, __u32 count, __u32 value);
void kvmpp_note_mmio(__u32 vcpu, int write, __u64 address, __u8 size, __u64 value);
void kvmpp_note_msr(__u32 vcpu, int write, __u32 index, __u64 value, int fault);
void kvmpp_note_cpuid(__u32 vcpu, __u32 leaf, __u32 subleaf, const __u32 registers[4]);

/* Counters with their names, somewhere in an object that outlives their use. */
struct kvmpp_counters {
	const char *const *names;
	const __u64 *values;
	unsigned int count;
};
/* A directory in debugfs, and files of counters in it. May sleep; failures show nothing. */
void *kvmpp_debugfs_directory(const char *name);
void kvmpp_debugfs_counters(void *directory, const char *name,
	const struct kvmpp_counters *counters);
/* With all that is in it; waits for readers. */
void kvmpp_debugfs_remove(void *directory);

/* ---- what the core offers to its host ------------------------------------------------------------- */

/* [start, end) of the watched address space is about to change / has changed. Returns -EAGAIN from
 * begin only if !may_block and it would have to. */
int kvmpp_mm_invalidate_begin(void *owner, __u64 start, __u64 end, int may_block);
void kvmpp_mm_invalidate_end(void *owner, __u64 start, __u64 end);
/* Whether the guest touched [start, end) since the last `clear`. */
int kvmpp_mm_young(void *owner, __u64 start, __u64 end, int clear);

void kvmpp_switched_in(void *owner, unsigned int cpu);
void kvmpp_switched_out(void *owner);

#ifdef __cplusplus
}
#endif

#endif
