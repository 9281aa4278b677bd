// SPDX-License-Identifier: GPL-2.0-only
// Why a vCPU came back from KVM_RUN, each reason with what belongs to it.
#pragma once

#include <span>
#include <variant>
#include "lib/types.h"

namespace kvmpp::lib
{

namespace exits
{

// Spans point into the vCPU's shared page: good until it runs again. What a guest reads is written
// to them.
struct Io {
	u16 port;
	u8 size;		   // 1, 2 or 4
	bool write;		   // by the guest
	std::span<std::byte> data; // size bytes, times the count of a string instruction
};

struct Mmio {
	u64 address;
	bool write;
	std::span<std::byte> data;
};

struct Halt {};
struct Shutdown {}; // a triple fault
struct IrqWindowOpen {};
struct Interrupted {}; // a signal, immediate_exit, or a start of this vCPU: run it again

struct SystemEvent {
	u32 type; // KVM_SYSTEM_EVENT_*
};

struct IoapicEoi {
	u8 vector;
};

struct Debug {
	u32 exception;
	u64 address;
};

struct FailedEntry {
	u64 hardware_reason;
};

struct InternalError {
	u32 suberror; // KVM_INTERNAL_ERROR_*
	std::span<const u64> data;
};

// Any reason this library has no type for.
struct Other {
	u32 reason; // KVM_EXIT_*
};

} // namespace exits

using Exit = std::variant<exits::Io, exits::Mmio, exits::Halt, exits::Shutdown,
	exits::IrqWindowOpen, exits::Interrupted, exits::SystemEvent, exits::IoapicEoi,
	exits::Debug, exits::FailedEntry, exits::InternalError, exits::Other>;

// Turns functions, one per exit that is of interest, into the visitor of an Exit.
template <class... Functions>
struct Handlers : Functions... {
	using Functions::operator()...;
};

} // namespace kvmpp::lib
