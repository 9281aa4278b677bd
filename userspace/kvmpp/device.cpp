// SPDX-License-Identifier: GPL-2.0-only
// What can stand between a user and the device, in words.
#include "kvmpp/device.h"

#include <unistd.h>
#include "kvmpp/refusal.h"
#include "uapi/kvmpp.h"

namespace kvmpp::command
{

namespace
{

std::string why_not(const std::string &path, const lib::Error &error)
{
	const std::string module = path == KVMPP_DEVICE_PATH ? "kvmpp" : "kvm_intel";
	if (error.is(ENOENT))
		return path + " does not exist: is the module loaded (modprobe " + module +
		       ")? `kvmpp status` tells whether it would load";
	if (error.is(EACCES) || error.is(EPERM))
		return "no permission for " + path +
		       ": join the group kvm (usermod -aG kvm NAME, then log in again)";
	if (error.is(ENOTTY))
		return path + " is not a KVM device";
	return error.message();
}

} // namespace

std::string default_device()
{
	const bool only_kvm =
		::access(KVMPP_DEVICE_PATH, F_OK) < 0 && ::access("/dev/kvm", F_OK) == 0;
	return only_kvm ? "/dev/kvm" : KVMPP_DEVICE_PATH;
}

lib::System open_device(const std::string &path)
{
	auto system = lib::System::open(path);
	if (!system)
		throw Refusal{why_not(path, system.error())};
	return std::move(*system);
}

lib::Machine create_machine(const lib::System &system)
{
	auto machine = system.create_machine();
	if (!machine && machine.error().is(EBUSY))
		throw Refusal{"another hypervisor holds VT-x; `kvmpp status` tells whether it is "
			      "kvm_intel"};
	return need(std::move(machine));
}

} // namespace kvmpp::command
