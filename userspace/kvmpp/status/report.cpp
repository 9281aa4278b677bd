// SPDX-License-Identifier: GPL-2.0-only
// Putting the lines of `kvmpp status` together.
#include "kvmpp/status/report.h"

#include <cstdio>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>
#include "uapi/kvmpp.h"

namespace kvmpp::command
{

namespace
{

const std::string module_path = "sys/module/" KVMPP_DEVICE_NAME;

std::string joined(const std::vector<std::string> &words)
{
	std::string text;
	for (const std::string &word : words)
		text += (text.empty() ? "" : ", ") + word;
	return text;
}

std::string processor(const HostFiles &files)
{
	const std::string model = files.cpuinfo("model name");
	const auto online = files.text("sys/devices/system/cpu/online");
	return (model.empty() ? "unknown" : model) + (online ? ", CPUs " + *online : "");
}

// Why this kernel would take no module that it does not know the signature of; empty if it would.
std::string signature_rule(const HostFiles &files)
{
	const auto lockdown = files.text("sys/kernel/security/lockdown");
	if (lockdown && lockdown->find("[none]") == lockdown->npos)
		return "the kernel is locked down (Secure Boot): only signed modules are loaded";
	if (files.text("sys/module/module/parameters/sig_enforce") == "Y")
		return "this kernel loads only signed modules";
	return {};
}

std::string module_state(const HostFiles &files, const VtxReport &vtx)
{
	if (files.has(module_path)) {
		const std::string version = files.text(module_path + "/version").value_or("");
		const std::string users = files.text(module_path + "/refcnt").value_or("0");
		return "loaded" + (version.empty() ? "" : ", version " + version) +
		       (users == "0" ? ", not in use" : ", in use " + users + " times");
	}
	if (!vtx.missing.empty())
		return "not loaded; it would refuse: this machine lacks " + vtx.missing;
	const std::string rule = signature_rule(files);
	return std::string{"not loaded; it would load"} +
	       (vtx.certain ? "" : ", as far as can be told from there") +
	       (rule.empty() ? "" : " if it is signed: " + rule);
}

// Linux's own module takes VT-x with its first machine, newer ones from their loading on.
std::string kvm_intel_state(const HostFiles &files)
{
	if (!files.has("sys/module/kvm_intel"))
		return "not loaded";
	if (files.text("sys/module/kvm/parameters/enable_virt_at_load") == "Y")
		return "loaded, holds VT-x: rmmod kvm_intel, or load kvm with "
		       "enable_virt_at_load=0";
	const std::string users = files.text("sys/module/kvm_intel/refcnt").value_or("0");
	if (users == "0")
		return "loaded, does not hold VT-x: it has no machine";
	return "loaded, in use " + users +
	       " times: as long as it has a machine, it holds VT-x and kvmpp answers EBUSY";
}

// From a file like /etc/passwd. (A static program has no other way that needs no library.)
std::string name_of(const HostFiles &files, const std::string &list, unsigned id)
{
	std::istringstream lines{files.text(list).value_or("")};
	for (std::string line; std::getline(lines, line);) {
		const auto first = line.find(':'), second = line.find(':', first + 1);
		const auto third = line.find(':', second + 1);
		if (third != line.npos &&
			line.substr(second + 1, third - second - 1) == std::to_string(id))
			return line.substr(0, first);
	}
	return std::to_string(id);
}

std::string device_state(const HostFiles &files, const std::string &name)
{
	const auto path = files.path("dev/" + name);
	struct stat status;
	if (::stat(path.c_str(), &status) < 0)
		return "does not exist";
	char mode[8];
	std::snprintf(mode, sizeof(mode), "%04o", status.st_mode & 07777);
	const bool allowed = ::access(path.c_str(), R_OK | W_OK) == 0;
	return std::string{mode} + " " + name_of(files, "etc/passwd", status.st_uid) + ":" +
	       name_of(files, "etc/group", status.st_gid) +
	       (allowed ? ", you may open it" : ", not for you: join the group that owns it");
}

// Those of the host's mitigations that concern the way into a guest and back.
void add_mitigations(std::vector<Line> &lines, const HostFiles &files)
{
	if (const auto applied = files.text(module_path + "/parameters/mitigations")) {
		lines.push_back({"mitigations", *applied + " (applied by the module)"});
		return;
	}
	for (const char *name : {"l1tf", "mds", "mmio_stale_data", "reg_file_data_sampling",
		     "spectre_v2", "retbleed", "spec_store_bypass", "vmscape"}) {
		const auto state =
			files.text(std::string{"sys/devices/system/cpu/vulnerabilities/"} + name);
		if (state)
			lines.push_back({name, *state});
	}
}

} // namespace

Status report(const HostFiles &files, const VtxReport &vtx)
{
	Status status{.lines = {}, .usable = files.has(module_path) || vtx.missing.empty()};
	auto &lines = status.lines;
	lines.push_back({"processor", processor(files)});
	lines.push_back({"VT-x", (vtx.features.empty() ? "none" : joined(vtx.features))});
	lines.push_back({"", "from " + vtx.source});
	lines.push_back({"kvmpp", module_state(files, vtx)});
	lines.push_back({"kvm_intel", kvm_intel_state(files)});
	for (const char *name : {KVMPP_DEVICE_NAME, "kvm"})
		lines.push_back({std::string{"/dev/"} + name, device_state(files, name)});
	add_mitigations(lines, files);
	return status;
}

} // namespace kvmpp::command
