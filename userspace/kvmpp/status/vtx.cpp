// SPDX-License-Identifier: GPL-2.0-only
// Reading VT-x capabilities: from the MSRs where they can be read, from /proc/cpuinfo otherwise.
#include "kvmpp/status/vtx.h"

#include <algorithm>
#include <cpuid.h>
#include <fcntl.h>
#include <iterator>
#include <optional>
#include <sched.h>
#include <sstream>
#include "host/seam.h"
#include "lib/file_descriptor.h"
#include "vmx/capabilities.h"

namespace kvmpp::command
{

namespace
{

// The MSRs of the CPU under examination, for the seam below.
const lib::FileDescriptor *examined = nullptr;

// This thread on one CPU: CPUID tells of the CPU it runs on.
class OnCpu {
public:
	explicit OnCpu(unsigned cpu)
	{
		::sched_getaffinity(0, sizeof(before_), &before_);
		cpu_set_t only;
		CPU_ZERO(&only);
		CPU_SET(cpu, &only);
		moved_ = ::sched_setaffinity(0, sizeof(only), &only) == 0;
	}
	~OnCpu() { ::sched_setaffinity(0, sizeof(before_), &before_); }
	explicit operator bool() const { return moved_; }

private:
	cpu_set_t before_;
	bool moved_;
};

std::vector<std::string> features_of(const vmx::Capabilities &found)
{
	const u32 pin = found.pin.allowed, secondary = found.secondary.allowed;
	const struct {
		u64 there; // or 0
		const char *name;
	} features[] = {
		{secondary & vmx::secondary::ept, "EPT"},
		{found.ept_2m(), "EPT 2M"},
		{found.ept_1g(), "EPT 1G"},
		{found.ept_accessed_dirty(), "EPT A/D"},
		{secondary & vmx::secondary::unrestricted_guest, "unrestricted guest"},
		{secondary & vmx::secondary::vpid, "VPID"},
		{pin & vmx::pin::virtual_nmis, "virtual NMIs"},
		{pin & vmx::pin::preemption_timer, "preemption timer"},
		{pin & vmx::pin::posted_interrupts, "posted interrupts"},
		{found.primary.allowed & vmx::primary::tpr_shadow, "TPR shadow"},
		{secondary & vmx::secondary::virtual_apic_accesses, "APIC accesses"},
		{secondary & vmx::secondary::apic_register_virtualization, "APIC registers"},
		{secondary & vmx::secondary::virtual_interrupt_delivery, "interrupt delivery"},
		{secondary & vmx::secondary::pause_loop_exiting, "PAUSE loops"},
		{secondary & vmx::secondary::pml, "PML"},
		{secondary & vmx::secondary::xsaves, "XSAVES"},
		{secondary & vmx::secondary::tsc_scaling, "TSC scaling"},
	};
	std::vector<std::string> names;
	for (const auto &feature : features) {
		if (feature.there)
			names.emplace_back(feature.name);
	}
	return names;
}

// One CPU after the other, as the module does when it is loaded.
VtxReport examine_msrs(const HostFiles &files, const std::vector<std::string> &cpus)
{
	VtxReport report{.source = "the MSRs of each CPU", .features = {}, .missing = {}};
	std::optional<vmx::Capabilities> first;
	for (const std::string &cpu : cpus) {
		const lib::FileDescriptor msrs{::open(
			files.path("dev/cpu/" + cpu + "/msr").c_str(), O_RDONLY | O_CLOEXEC)};
		const OnCpu here{static_cast<unsigned>(std::stoul(cpu))};
		if (!msrs || !here)
			continue; // offline, or not ours to run on
		examined = &msrs;
		const auto found = vmx::read_capabilities();
		if (!found) {
			report.missing = found.error().missing;
			return report;
		}
		if (!first) {
			first = *found;
			report.features = features_of(*found);
			const auto controls = vmx::choose_controls(*found);
			if (!controls)
				report.missing = controls.error().missing;
		} else if (*found != *first) {
			report.missing = "the same VT-x on every CPU: CPU " + cpu + " differs";
		}
	}
	return report;
}

// Linux names what it found there, but not everything that the module asks for.
VtxReport examine_cpuinfo(const HostFiles &files)
{
	const auto words = [&](const std::string &key) {
		std::istringstream text{files.cpuinfo(key)};
		return std::vector<std::string>{std::istream_iterator<std::string>{text}, {}};
	};
	VtxReport report{.source = "/proc/cpuinfo (the MSRs cannot be read: as root, modprobe msr)",
		.features = words("vmx flags"),
		.missing = {},
		.certain = false};
	const auto has = [](const std::vector<std::string> &list, const char *word) {
		return std::ranges::find(list, word) != list.end();
	};
	if (!has(words("flags"), "vmx"))
		report.missing = "VT-x, or the firmware switched it off";
	else if (!has(report.features, "ept"))
		report.missing = "extended page tables";
	report.certain = !report.missing.empty();
	return report;
}

} // namespace

VtxReport examine_vtx(const HostFiles &files)
{
	std::vector<std::string> cpus = files.names("dev/cpu");
	std::erase_if(cpus, [&](const std::string &name) {
		return !std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; }) ||
		       ::access(files.path("dev/cpu/" + name + "/msr").c_str(), R_OK) < 0;
	});
	return cpus.empty() ? examine_cpuinfo(files) : examine_msrs(files, cpus);
}

} // namespace kvmpp::command

// The part of the seam that vmx/capabilities.cpp asks for.

extern "C" int kvmpp_msr_read(__u32 index, __u64 *value)
{
	using kvmpp::command::examined;
	return ::pread(examined->number(), value, sizeof(*value), index) == sizeof(*value) ? 0
											   : -EIO;
}

extern "C" void kvmpp_cpuid(__u32 leaf, __u32 subleaf, __u32 registers[4])
{
	__cpuid_count(leaf, subleaf, registers[0], registers[1], registers[2], registers[3]);
}
