// SPDX-License-Identifier: GPL-2.0-only
// What the emulator asks of the processor and the machine whose instruction it executes.
#pragma once

#include <expected>
#include "host/result.h"
#include "host/types.h"
#include "x86/registers.h"

namespace kvmpp::x86::emulator
{

// Why an instruction did not complete. Nothing of the guest has changed then, but for what an
// instruction that is restartable in the middle (REP) has completed.
enum class Stop : u8 {
	exception, // Guest::raise has been called
	pending, // an access waits for userspace; execute the instruction again when it is answered
	unknown, // not an instruction that the emulator knows
};

template <class T = void>
using Outcome = std::expected<T, Stop>;

// How memory is accessed, for the page walk: user-mode rights follow from CPL unless `implicit`.
enum class Access : u8 {
	read,
	write,
	read_for_write, // the read of a read-modify-write: needs write permission already
	fetch,
	implicit_read, // by the processor itself as supervisor: descriptor tables, TSS, IDT
	implicit_write,
};

// Registers that nearly every instruction uses, in memory while the emulator works. The caller
// fills it before and stores rip and rflags back after a completed instruction.
struct Registers {
	Gprs &gpr;
	u64 rip;
	u64 rflags;
};

// Implemented by run/ over a vCPU and by the tests over plain memory. `Outcome` results carry
// exception, pending or unknown as above; an implementation that returns `exception` has raised it.
class Guest {
public:
	// --- processor state -------------------------------------------------------------------
	virtual Mode mode() = 0;
	virtual unsigned cpl() = 0;
	virtual Segment segment(SegmentName name) = 0;
	// Loads selector, base, limit and rights as they are: checks are the emulator's.
	virtual void set_segment(SegmentName name, const Segment &segment) = 0;
	virtual DescriptorTable gdt() = 0;
	virtual DescriptorTable idt() = 0;
	virtual void set_gdt(const DescriptorTable &table) = 0;
	virtual void set_idt(const DescriptorTable &table) = 0;
	// CR0, 2, 3, 4, 8. Setting checks the value and raises #GP for one that is not allowed.
	virtual u64 control(unsigned number) = 0;
	virtual Outcome<> set_control(unsigned number, u64 value) = 0;
	virtual u64 debug(unsigned number) = 0;
	virtual Outcome<> set_debug(unsigned number, u64 value) = 0;
	virtual u64 efer() = 0;
	virtual Outcome<u64> read_msr(u32 index) = 0;
	virtual Outcome<> write_msr(u32 index, u64 value) = 0;
	virtual Outcome<u64> read_pmc(u32 index) = 0;
	virtual u64 tsc() = 0;
	virtual u64 tsc_aux() = 0;
	// CPUID as the guest sees it.
	virtual void cpuid(u32 leaf, u32 subleaf, u32 (&registers)[4]) = 0;
	virtual Outcome<> set_xcr(u32 index, u64 value) = 0;
	virtual u64 xcr0() = 0;
	// Extended state, inside a host FPU section that these open and close themselves. Vectors
	// are read and written from byte 0 on, 4 to 32 bytes; `clear_above` zeroes the register's
	// rest to its very end, as VEX-encoded instructions do.
	virtual void read_vector(unsigned number, void *value, unsigned size) = 0;
	virtual void write_vector(
		unsigned number, const void *value, unsigned size, bool clear_above) = 0;
	// Either puts the x87 stack into MMX state, as any MMX instruction does.
	virtual void read_mmx(unsigned number, u64 &value) = 0;
	virtual void write_mmx(unsigned number, u64 value) = 0;
	// The 512-byte image of FXSAVE.
	virtual void fxsave(void *image) = 0;
	virtual Outcome<> fxrstor(const void *image) = 0;

	// --- memory, by linear address -----------------------------------------------------------
	// At most 64 bytes, wherever they lie: the implementation splits at pages and at the edge
	// between RAM and devices. A read answers `pending` until all its bytes are there; a write
	// to a device is queued and reports success. A fault changes nothing.
	virtual Outcome<> read(Gva address, void *data, unsigned size, Access access) = 0;
	virtual Outcome<> write(Gva address, const void *data, unsigned size, Access access) = 0;
	// Atomic when RAM holds it, 1, 2, 4, 8 or 16 bytes. True: it equalled `expected`, and is
	// replaced; false: `expected` received what is there. `access` is write or implicit_write.
	virtual Outcome<bool> compare_exchange(
		Gva address, void *expected, const void *desired, unsigned size, Access access) = 0;
	// Whether such an access would fault, without making it.
	virtual Outcome<> probe(Gva address, unsigned size, Access access) = 0;
	// Up to `size` bytes of code; the count that could be read without a fault, at least 1, or
	// the fault of the first.
	virtual Outcome<unsigned> fetch(Gva address, u8 *bytes, unsigned size) = 0;
	// INVLPG.
	virtual void invalidate_page(Gva address) = 0;

	// --- ports -------------------------------------------------------------------------------
	// The permission check is the emulator's. A read may be pending; `count` elements of `size`
	// bytes at once where the implementation can, at least one: the count that was transferred.
	virtual Outcome<unsigned> port_read(
		u16 port, unsigned size, void *data, unsigned count) = 0;
	virtual Outcome<unsigned> port_write(
		u16 port, unsigned size, const void *data, unsigned count) = 0;

	// --- events
	// --------------------------------------------------------------------------------
	virtual void raise(const Exception &exception) = 0;
	virtual void halt() = 0;
	virtual void write_back_caches() = 0;
	// STI and MOV SS: interrupts stay blocked for one more instruction.
	virtual void block_interrupts(bool by_mov_ss) = 0;
	virtual void unblock_nmi() = 0; // IRET
	// RSM: everything, `registers` included, becomes what it was before system management mode; if no
	// processor can be so, it shuts down. False: it is not in that mode.
	virtual bool resume(Registers &registers) = 0;
	// VMCALL or VMMCALL; the implementation finds the registers where the emulator put them and
	// changes them there.
	virtual Outcome<> hypercall() = 0;
	// One iteration of a repeated string instruction is complete and in Registers: answered
	// reads are used up, from here it would start anew. False: stop before the next one.
	virtual bool next_iteration() = 0;

protected:
	~Guest() = default;
};

} // namespace kvmpp::x86::emulator
