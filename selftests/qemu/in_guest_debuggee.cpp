// SPDX-License-Identifier: GPL-2.0-only
#include "in_guest.h"

#include <cstdio>
#include <unistd.h>

extern "C" {
void debuggee();
extern volatile unsigned long debuggee_datum;
}

// Instructions of several lengths, in which a debugger steps.
asm(R"(
	.pushsection .text
	.globl debuggee
debuggee:
	nop
	lea 1(%rdi), %rax
	xchg %rax, %rdx
	movabs $0x1122334455667788, %rax
	incq debuggee_datum(%rip)
	ret
	.popsection
	.pushsection .data
	.globl debuggee_datum
	.balign 8
debuggee_datum: .quad 0
	.popsection
)");

namespace kvmpp::qemu
{

bool call_until(const char *path)
{
	stay_on(1);
	printf("function %p datum %p\n", reinterpret_cast<void *>(debuggee),
		const_cast<unsigned long *>(&debuggee_datum));
	fflush(stdout);
	unsigned long calls = 0;
	for (; access(path, F_OK) != 0; ++calls) {
		debuggee();
		usleep(50'000);
	}
	return calls > 0 && debuggee_datum == calls;
}

} // namespace kvmpp::qemu
