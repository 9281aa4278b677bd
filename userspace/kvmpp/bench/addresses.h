/* SPDX-License-Identifier: GPL-2.0-only */
/* What the guest of `kvmpp bench` and the bench agree on; the assembler reads it too. */
#pragma once

/* Written when a routine has ended. */
#define BENCH_DONE_PORT 0xf0
/* Nothing is there: who reads or writes it exits to userspace. */
#define BENCH_NO_MEMORY 0xd0000000
#define BENCH_NO_DEVICE 0x1f0
/* For memory that comes and goes. */
#define BENCH_EXTRA_MEMORY 0x40000000
#define BENCH_EVENT_PORT 0x510
/* Registers of the local APIC (SDM vol. 3, 11.4.1). */
#define BENCH_APIC_VERSION 0xfee00030
#define BENCH_APIC_EOI 0xfee000b0
