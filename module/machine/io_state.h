// SPDX-License-Identifier: GPL-2.0-only
// Accesses to devices that the VMM serves: what it has answered, and what it still has to be told.
// Everything is kept by value across the exit to userspace. Belongs to the vCPU's thread.
#pragma once

#include <array>
#include <optional>
#include "host/types.h"

namespace kvmpp::machine
{

// A piece of a memory access that one exit can carry.
struct IoFragment {
	Gpa address{};
	u8 size = 0;
	std::array<u8, 8> data{};
};

// A small queue without allocation.
template <class T, unsigned capacity_>
class FixedQueue {
    public:
	static constexpr unsigned capacity = capacity_;
	bool full() const { return size_ == capacity; }
	bool empty() const { return size_ == 0; }
	unsigned size() const { return size_; }
	T &operator[](unsigned i) { return items_[i]; }
	T &front() { return items_[0]; }
	void push(const T &item) { items_[size_++] = item; }
	void pop()
	{
		--size_;
		for (unsigned i = 0; i < size_; ++i)
			items_[i] = items_[i + 1];
	}
	void clear() { size_ = 0; }

    private:
	std::array<T, capacity> items_{};
	unsigned size_ = 0;
};

struct IoState {
	// What the VMM does before the guest goes on.
	enum class Waiting : u8 {
		nothing,
		port_in,     // IN: the answer goes to RAX, and the instruction is complete
		port_string, // INS under emulation: the answer is in the port page
		read,	     // a device read under emulation; the instruction runs again with the answer
		msr_read, msr_write, // refused here; the VMM says what comes of it
		written,     // a device write was taken; there may be more
	};
	Waiting waiting = Waiting::nothing;
	// Where the guest was: if the VMM has moved it meanwhile, the answer is void.
	u64 rip = 0;
	u8 instruction_length = 0;
	u16 port = 0;
	u8 size = 0;
	u32 count = 0;

	// The reads of the instruction under emulation that devices have answered, in order. It is
	// executed again from its start for each answer, and takes them from here.
	FixedQueue<IoFragment, 16> answered;
	unsigned taken = 0; // of these, by the current execution
	bool port_string_answered = false;
	// An interrupt that the guest has finished and the VMM's I/O APIC has to hear of.
	std::optional<u8> ended_vector;
	// Writes of completed instructions that the VMM has not seen yet.
	FixedQueue<IoFragment, 16> writes;

	// The current instruction, or iteration, is complete: its answers are used up.
	void forget_answers()
	{
		answered.clear();
		taken = 0;
		port_string_answered = false;
	}
	void reset()
	{
		waiting = Waiting::nothing;
		forget_answers();
		writes.clear();
	}
};

} // namespace kvmpp::machine
