// SPDX-License-Identifier: GPL-2.0-only
// Two guests of the same state, one of which runs in software alone (the module's parameter
// force_emulation): whatever they execute, they must come out alike.
#pragma once

#include <iterator>
#include "guest.h"

namespace kvmpp::selftests
{

// The same numbers in every run, so that a difference can be looked at again.
struct Random {
	u64 state;

	u64 next()
	{
		state = state * 6364136223846793005u + 1442695040888963407u;
		return state >> 33 ^ state >> 17;
	}
	u64 wide() { return next() << 32 ^ next(); }
	u64 below(u64 limit) { return next() % limit; }
	bool one_in(u64 count) { return below(count) == 0; }

	template <typename T, u64 count>
	T any_of(const T (&values)[count])
	{
		return values[below(count)];
	}
};

// Machine code under construction.
struct Instruction {
	u8 bytes[16];
	unsigned size = 0;

	void put(u64 value, unsigned count = 1)
	{
		for (unsigned i = 0; i < count; ++i)
			bytes[size++] = static_cast<u8>(value >> 8 * i);
	}
};

// Bits of RFLAGS.
namespace flag
{
inline constexpr u64 cf = 1, fixed = 2, pf = 4, af = 0x10, zf = 0x40, sf = 0x80, tf = 0x100,
		     interrupt = 0x200, df = 0x400, of = 0x800, iopl = 0x3000, nt = 0x4000,
		     rf = 0x10000, vm = 0x20000, ac = 0x40000, vif = 0x80000, vip = 0x100000,
		     id = 0x200000;
inline constexpr u64 status = cf | pf | af | zf | sf | of;
} // namespace flag

// MSRs that belong to a state.
namespace msr
{
inline constexpr u32 star = 0xc000'0081, lstar = 0xc000'0082, syscall_mask = 0xc000'0084,
		     kernel_gs_base = 0xc000'0102, tsc_aux = 0xc000'0103, sysenter_cs = 0x174,
		     sysenter_esp = 0x175, sysenter_eip = 0x176, pat = 0x277;
inline constexpr u32 compared[] = {star, lstar, syscall_mask, kernel_gs_base, tsc_aux, sysenter_cs,
	sysenter_esp, sysenter_eip, pat};
} // namespace msr

// All of a vCPU that is compared.
struct State {
	kvm_regs regs{};
	kvm_sregs sregs{};
	kvm_debugregs debug{};
	u64 msrs[std::size(msr::compared)]{};

	u64 &value_of(u32 index);
};

class Twins {
public:
	static constexpr u64 watched = 0x14000; // so much memory is given, and compared

	explicit Twins(Mode mode);

	// Executes from `start`, with `image` in memory, to an exit that is not for a device. A
	// register of a device reads as 0. `undefined`: flags that may differ.
	bool alike(const State &start, u64 undefined = 0);
	// Puts an instruction at at::code, a HLT behind it.
	void set_code(const Instruction &code);
	// Too many differences to go on.
	bool hopeless() const { return different_ >= 20; }
	// The count of what was compared, as a line of the test's output.
	void summarize(unsigned forms, const char *of_what) const;

	template <typename T>
	T &value(u64 address)
	{
		return *reinterpret_cast<T *>(image + address);
	}

	u8 image[watched]; // as the mode begins, at first
	State start;	   // likewise
	u32 why = 0;	   // the exit, of both if they were alike
	State end;	   // the state there
	// Memory at that time.
	template <typename T>
	const T &left(u64 address) const
	{
		return native_.value<T>(address);
	}

private:
	struct Twin : Guest {
		Twin(Mode mode, bool emulated);
		void load(const State &state, const u8 *image);
		State save() const;
		u32 execute();

		u64 ports = 0; // all that was asked of them, folded
	};

	Twin native_, forced_;
	Instruction code_;
	unsigned states_ = 0, different_ = 0;
};

} // namespace kvmpp::selftests
