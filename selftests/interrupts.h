// SPDX-License-Identifier: GPL-2.0-only
// Pieces of guest code around a local APIC: its registers, handlers that count in RBX, and waiting.
#pragma once

#include "guest.h"

#define APIC_WRITE(offset, value)         \
	"mov $0xfee00" #offset ", %edi\n" \
	"movl $" #value ", (%rdi)\n"
#define APIC_ENABLE APIC_WRITE(0f0, 0x1ff)

#define MSR_WRITE(index, low, high) \
	"mov $" #index ", %ecx\n"   \
	"mov $" #low ", %eax\n"     \
	"mov $" #high ", %edx\n"    \
	"wrmsr\n"
#define X2APIC_ENABLE MSR_WRITE(0x1b, 0xfee00d00, 0) MSR_WRITE(0x80f, 0x1ff, 0)

// Halts until so many interrupts have been counted. STI lets none in before the HLT behind it.
#define WAIT_FOR_INTERRUPTS(count) \
	"7: cli\n"                 \
	"cmp $" #count ", %rbx\n"  \
	"jae 8f\n"                 \
	"sti\n"                    \
	"hlt\n"                    \
	"jmp 7b\n"                 \
	"8:\n"

// Tells userspace that all is done.
#define REPORT "out %al, $0x99\n"

#define COUNTING_HANDLER(acknowledge)         \
	"push %rax\n"                         \
	"push %rcx\n"                         \
	"push %rdx\n"                         \
	"push %rdi\n"                         \
	"inc %rbx\n" acknowledge "pop %rdi\n" \
	"pop %rdx\n"                          \
	"pop %rcx\n"                          \
	"pop %rax\n"                          \
	"iretq\n"

namespace kvmpp::selftests
{

inline constexpr u16 report_port = 0x99;

GUEST_CODE(xapic_handler, 64, COUNTING_HANDLER(APIC_WRITE(0b0, 0)));
GUEST_CODE(x2apic_handler, 64, COUNTING_HANDLER(MSR_WRITE(0x80b, 0, 0)));
GUEST_CODE(pic_handler, 64, COUNTING_HANDLER("mov $0x20, %al\n out %al, $0x20\n"));

} // namespace kvmpp::selftests
