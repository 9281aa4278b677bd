// SPDX-License-Identifier: GPL-2.0-only
// An interrupt message, as local APICs, the I/O APIC and MSIs send it, and who it is for.
#pragma once

#include "host/types.h"

namespace kvmpp::x86
{

// SDM vol. 3, 11.5.1 and 11.6.1. The remaining encoding (3) was remote read, long gone.
enum class Delivery : u8 { fixed, lowest_priority, smi, remote_read, nmi, init, startup, extint };

enum class Shorthand : u8 { none, self, all, others };

struct Message {
	u32 destination = 0;
	u8 vector = 0;
	Delivery delivery = Delivery::fixed;
	Shorthand shorthand = Shorthand::none;
	bool logical : 1 = false;
	bool level : 1 = false;	  // trigger mode; edge otherwise
	bool asserted : 1 = true; // false: INIT level de-assert
	// The destination is eight bits wide, so that 0xff means everyone, to an x2APIC too.
	bool narrow : 1 = false;

	constexpr bool operator==(const Message &) const = default;
};
static_assert(sizeof(Message) == 8, "passed in a register");

// What a delivery came to, in the numbers of KVM_IRQ_LINE_STATUS.
inline constexpr int delivery_ignored = -1; // masked, or nobody there
inline constexpr int delivery_coalesced = 0;

// The message behind a write of `data` to `address` (SDM vol. 3, 11.11). With `wide`, bits 63:40
// of the address hold bits 31:8 of the destination, as KVM_X2APIC_API_USE_32BIT_IDS defines.
constexpr Message msi_message(u64 address, u32 data, bool wide)
{
	Message message{
		.destination = static_cast<u32>(address >> 12 & 0xff),
		.vector = static_cast<u8>(data),
		.delivery = static_cast<Delivery>(data >> 8 & 7),
		.logical = (address & bit(2)) != 0,
		.level = (data & bit(15)) != 0,
		.narrow = true,
	};
	if (wide)
		message.destination |= static_cast<u32>(address >> 32) & 0xffffff00;
	// The redirection hint asks for one processor of many, the one of lowest priority.
	if ((address & bit(3)) && message.delivery == Delivery::fixed)
		message.delivery = Delivery::lowest_priority;
	return message;
}

// What decides whether a local APIC accepts a message, in one word: other threads read it while
// its owner changes it.
struct Identity {
	u32 id = 0; // x2APIC ID; in xAPIC mode the processor's initial one
	u8 xapic_id = 0;
	u8 logical_id = 0; // of xAPIC mode: LDR[31:24]
	u8 model = 0;	   // of xAPIC mode: DFR[31:28]
	bool x2apic : 1 = false;
	bool hardware_enabled : 1 = false; // IA32_APIC_BASE[11]
	bool software_enabled : 1 = false; // SVR[8]

	constexpr bool operator==(const Identity &) const = default;
};
static_assert(sizeof(Identity) == 8);

// The logical destination register of an x2APIC follows from its ID (SDM vol. 3, 11.12.10.2).
constexpr u32 x2apic_logical_id(u32 id)
{
	return id >> 4 << 16 | 1u << (id & 15);
}

constexpr bool is_broadcast(const Message &message)
{
	return message.destination == ~u32{0} || (message.narrow && message.destination == 0xff);
}

constexpr bool matches_physical(const Identity &apic, u32 destination)
{
	if (apic.x2apic)
		return destination == apic.id;
	// INIT and SIPI from an x2APIC must reach processors whose ID does not fit into an xAPIC's.
	return destination == 0xff || destination == apic.xapic_id ||
	       (apic.id > 0xff && destination == apic.id);
}

// SDM vol. 3, 11.6.2.2 for xAPIC, 11.12.10.2 for x2APIC.
constexpr bool matches_logical(const Identity &apic, u32 destination)
{
	constexpr u8 flat = 0xf, cluster = 0;
	if (apic.x2apic) {
		const u32 own = x2apic_logical_id(apic.id);
		return own >> 16 == destination >> 16 && (own & destination & 0xffff);
	}
	if (destination == 0xff)
		return true;
	if (destination > 0xff)
		return false;
	if (apic.model == flat)
		return apic.logical_id & destination;
	if (apic.model == cluster)
		return apic.logical_id >> 4 == destination >> 4 &&
		       (apic.logical_id & destination & 0xf);
	return false;
}

// Whether a message without shorthand names this APIC.
constexpr bool matches(const Identity &apic, const Message &message)
{
	if (!apic.hardware_enabled)
		return false;
	if (is_broadcast(message))
		return true;
	return message.logical ? matches_logical(apic, message.destination)
			       : matches_physical(apic, message.destination);
}

// Whether it names this APIC by its shorthand, if it has one, seen from the sender's ID.
constexpr bool addresses(const Identity &apic, const Message &message, u32 sender)
{
	switch (message.shorthand) {
	case Shorthand::none: return matches(apic, message);
	case Shorthand::self: return apic.hardware_enabled && apic.id == sender;
	case Shorthand::all: return apic.hardware_enabled;
	case Shorthand::others: return apic.hardware_enabled && apic.id != sender;
	}
	return false;
}

// Finds the one of several candidates that a lowest-priority message goes to: the one whose task
// priority class is lowest (what modern chipsets know of a processor, SDM vol. 3, 11.6.2.4) and
// among equals one that depends on the vector, so that an interrupt stays where its data are in
// the cache while different ones spread.
class Arbitration {
public:
	constexpr explicit Arbitration(u8 vector) : vector_{vector} {}

	constexpr void offer(u32 id, u8 task_priority)
	{
		const u64 spread =
			(u64{id} ^ u64{vector_} * 0x9e3779b1u) * 0x85ebca6bu & 0xffffffff;
		const u64 rank = u64{task_priority} >> 4 << 32 | spread;
		if (found_ && rank >= rank_)
			return;
		found_ = true;
		rank_ = rank;
		winner_ = id;
	}

	constexpr bool found() const { return found_; }
	constexpr u32 winner() const { return winner_; }

private:
	u64 rank_ = 0;
	u32 winner_ = 0;
	u8 vector_;
	bool found_ = false;
};

} // namespace kvmpp::x86
