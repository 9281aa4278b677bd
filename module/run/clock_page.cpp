// SPDX-License-Identifier: GPL-2.0-only
#include "run/clock_page.h"

#include "machine/vm.h"
#include "x86/pvclock.h"

namespace kvmpp::run
{
namespace
{

// The guest takes nothing while the version is odd, so it brackets the change.
template <class T>
void publish(machine::Vcpu &vcpu, Gpa address, T value)
{
	const auto version = vcpu.paravirtual_memory.read<u32>(address);
	if (!version)
		return;
	value.version = *version | 1;
	// Three writes: odd version with the old contents, then the contents, then the even version.
	if (!vcpu.paravirtual_memory.write(address, &value.version, sizeof(value.version)))
		return;
	const auto *body = reinterpret_cast<const u8 *>(&value) + sizeof(value.version);
	if (!vcpu.paravirtual_memory.write(
		    address + sizeof(value.version), body, sizeof(value) - sizeof(value.version)))
		return;
	++value.version;
	// A page that is unmapped meanwhile needs no version.
	(void)vcpu.paravirtual_memory.write(address, &value.version, sizeof(value.version)).has_value();
}

} // namespace

void update_clock_page(machine::Vcpu &vcpu)
{
	constexpr u64 enabled = 1;
	if (!(vcpu.msrs.system_time & enabled))
		return;
	machine::Clock &clock = vcpu.vm.clock;
	const auto at = clock.reading();
	const auto scale = machine::TscScale::from_khz(vcpu.tsc.real_khz());
	const Gpa page{vcpu.msrs.system_time & ~enabled};
	u8 flags = clock.stable() ? x86::PvclockTime::tsc_stable : 0;
	// The guest takes the mark away by itself.
	const auto shown = vcpu.paravirtual_memory.read<u8>(page + offsetof(x86::PvclockTime, flags));
	flags |= shown.value_or(0) & x86::PvclockTime::guest_stopped;
	if (std::exchange(vcpu.msrs.was_stopped, false))
		flags |= x86::PvclockTime::guest_stopped;
	x86::PvclockTime time{.tsc_timestamp = vcpu.tsc.at(at.tsc),
		.system_time = at.system_time,
		.tsc_to_system_mul = scale.mul,
		.tsc_shift = scale.shift,
		.flags = flags};
	publish(vcpu, page, time);
}

void write_wall_clock(machine::Vcpu &vcpu, Gpa address)
{
	constexpr u64 second = 1'000'000'000;
	const u64 zero = kvmpp_realtime_ns() - vcpu.vm.clock.now();
	publish(vcpu, address,
		x86::PvclockWall{.seconds = static_cast<u32>(zero / second),
			.nanoseconds = static_cast<u32>(zero % second)});
}

} // namespace kvmpp::run
