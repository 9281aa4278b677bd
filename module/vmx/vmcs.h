// SPDX-License-Identifier: GPL-2.0-only
// One virtual-machine control structure, and the token that says it is current. SDM vol. 3, ch. 25.
#pragma once

#include <atomic>
#include "host/lock.h"
#include "host/memory.h"
#include "vmx/field.h"
#include "vmx/instructions.h"
#include "vmx/world.h"

namespace kvmpp::vmx
{

class Engine;

// A VMCS with the registers that it does not hold. At any time it is clear, or loaded on one CPU
// (perhaps as the current one), which keeps it in a list. Interrupts off for all that moves it.
class Vmcs : host::Pinned {
    public:
	explicit Vmcs(host::Page page) : page_{std::move(page)} {}

	Hpa physical() const { return page_.physical(); }
	World world{};

    private:
	friend class Engine;

	static constexpr unsigned nowhere = ~0u;

	host::Page page_;
	std::atomic<unsigned> cpu_ = nowhere;
	Vmcs *next_ = nullptr; // in the list of the CPU it is loaded on
	Vmcs **link_ = nullptr;
};

// The VMCS of the calling thread's vCPU is current on whatever CPU the thread runs, from load to
// put: preemption notifiers see to it. Reads and writes fields by their types. A processor that
// refuses (because VT-x was taken away) reads as zero and is reported.
class Current {
    public:
	template <class F>
	typename F::Value read(F) const
	{
		return F::from_register(instruction::vmread(F::encoding));
	}

	template <class F>
	void write(F, typename F::Value value) const
	{
		static_assert(F::writable, "VM-exit information is read-only");
		instruction::vmwrite(F::encoding, F::to_register(value));
	}

    private:
	friend class Engine;
	Current() = default;
};

// A control word with its value in memory, so that a word that stays the same is never written.
template <class Const>
class Shadowed {
	using F = std::remove_const_t<Const>;

    public:
	typename F::Value get() const { return value_; }
	void set(Current vmcs, typename F::Value value)
	{
		if (value == value_)
			return;
		value_ = value;
		vmcs.write(F{}, value);
	}
	void set_bits(Current vmcs, typename F::Value mask, bool on)
	{
		set(vmcs, on ? value_ | mask : value_ & ~mask);
	}
	// Whatever the VMCS holds now.
	void initialize(Current vmcs, typename F::Value value)
	{
		value_ = value;
		vmcs.write(F{}, value);
	}

    private:
	typename F::Value value_{};
};

} // namespace kvmpp::vmx
