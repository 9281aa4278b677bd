// SPDX-License-Identifier: GPL-2.0-only
// Small guests in machine code: a virtual machine with a megabyte or two, one vCPU in the wanted
// mode, and a program written in assembly beside the test that runs it.
#pragma once

#include <cstring>
#include "kvm.h"

namespace kvmpp::selftests
{

struct Code {
	const u8 *begin, *end;

	u64 size() const { return static_cast<u64>(end - begin); }
};

#if __SIZEOF_POINTER__ == 8
#define KVMPP_OWN_CODE ".code64\n"
#else
#define KVMPP_OWN_CODE ".code32\n"
#endif

// GUEST_CODE(name, 64, "..."): a Code of that name. It runs wherever it is loaded, so it jumps
// relatively only, and its labels are numbers.
#define GUEST_CODE(name, bits, text)                                          \
	asm(".pushsection .rodata.guest, \"a\"\n"                             \
	    ".code" #bits "\n" #name "_begin:\n" text "\n" #name "_end:\n"    \
	    KVMPP_OWN_CODE ".popsection\n");                                   \
	extern "C" const ::kvmpp::selftests::u8 name##_begin[], name##_end[]; \
	static const ::kvmpp::selftests::Code name                            \
	{                                                                     \
		name##_begin, name##_end                                      \
	}

enum class Mode {
	real,		// CS, DS, ES, SS and all bases 0
	protected_mode, // 32 bits, flat, without paging
	long_mode,	// 64 bits, the first 4 GiB mapped as they are, in pages of 2 MiB
};

// Where things lie in a guest's memory. Tests use what is left from `data` on.
namespace at
{
inline constexpr u64 code = 0x1000, handlers = 0x3000, idt = 0x5000, gdt = 0x6000, tss = 0x6800,
		     stack_top = 0x8000, page_tables = 0x8000, data = 0x10000;
}

namespace selector
{
inline constexpr u16 code64 = 0x08, data = 0x10, code32 = 0x18, user_data = 0x20 | 3,
		     user_code64 = 0x28 | 3, tss = 0x30, code16 = 0x40;
}

class Guest {
public:
	static constexpr u64 memory_size = 0x200000;

	// What the VM has from before its vCPU on.
	enum With { without, with_irqchip, with_dirty_rings };
	static constexpr u64 dirty_ring_bytes = 16384;

	Guest(Mode mode, const Code &code, With what = without);

	void load(u64 address, const Code &code) const;
	// In long mode: code for a vector, put at its own address among the handlers.
	void set_handler(u8 vector, const Code &code);
	// Brings another vCPU into the same mode, at that address and with that stack.
	void set_up(const Vcpu &cpu, Mode mode, u64 rip, u64 rsp = at::stack_top) const;

	template <typename T>
	T &value(u64 address) const
	{
		return *reinterpret_cast<T *>(memory.bytes() + address);
	}

	// Runs until userspace is needed, and says why.
	u32 run() const;
	// Runs to a write of that port; the value that was written.
	u32 run_to_out(u16 port) const;
	// Runs to the halt that ends a guest without irqchip.
	void run_to_halt() const;

	System system;
	Vm vm{system};
	Backing memory{memory_size};
	Vcpu vcpu;

private:
	u64 next_handler_ = at::handlers;
};

// A kvm_segment that is flat, of that type and privilege.
kvm_segment flat_segment(u16 selector, u8 type);

const char *name_of_exit(u32 reason);

#define CHECK_EXIT(guest, reason)                                                \
	do {                                                                     \
		u32 why_ = (guest).run();                                        \
		if (!CHECK_EQ(why_, static_cast<u32>(reason))) {                 \
			::kvmpp::selftests::note("exit %s", name_of_exit(why_)); \
			::kvmpp::selftests::end_test();                          \
		}                                                                \
	} while (false)

// A second thread of the test, which is joined when it goes out of scope.
class Thread {
public:
	Thread(void (*body)(void *), void *argument);
	~Thread();
	void join();
	// Makes a system call of that thread end with EINTR.
	void interrupt() const;

private:
	struct Start {
		void (*body)(void *);
		void *argument;
	} start_;
	unsigned long handle_ = 0;
	bool joined_ = false;
};

// Signals that Thread::interrupt() sends do nothing else.
void ignore_interruptions();

} // namespace kvmpp::selftests
