// SPDX-License-Identifier: GPL-2.0-only
// The routines of bench/guest.S.
#pragma once

#include <cstddef>
#include <span>

extern "C" {
extern const std::byte kvmpp_bench_guest[], kvmpp_bench_guest_end[];
extern const std::byte kvmpp_bench_cpuid[], kvmpp_bench_vmcall[], kvmpp_bench_rdmsr[],
	kvmpp_bench_wrmsr[], kvmpp_bench_port_write[], kvmpp_bench_port_read[],
	kvmpp_bench_mmio_write[], kvmpp_bench_mmio_read[], kvmpp_bench_apic_read[],
	kvmpp_bench_apic_eoi[], kvmpp_bench_touch[], kvmpp_bench_halt[];
}

namespace kvmpp::command
{

inline std::span<const std::byte> guest_code()
{
	return {kvmpp_bench_guest, kvmpp_bench_guest_end};
}

} // namespace kvmpp::command
