// SPDX-License-Identifier: GPL-2.0-only
// A guest for the emulator's tests: registers in plain members, memory in regions of whole pages,
// devices that answer when the test says so, and a record of everything that happened.
#pragma once

#include <initializer_list>
#include <map>
#include <optional>
#include <span>
#include <vector>
#include "x86/emulator/emulator.h"

namespace kvmpp::x86::emulator::test
{

struct Region {
	u64 base = 0;
	u64 size = 0;
	u8 *bytes = nullptr; // none: a device
	bool write = true;
	bool user = true;
	bool execute = true;
};

struct DeviceAccess {
	u64 address = 0;
	u64 value = 0;
	unsigned size = 0;

	bool operator==(const DeviceAccess &) const = default;
};

struct PortAccess {
	u16 port = 0;
	u32 value = 0;
	unsigned size = 0;

	bool operator==(const PortAccess &) const = default;
};

// FXSAVE's layout, as far as tests look into it.
struct alignas(16) ExtendedState {
	u16 control = 0x37f, status = 0;
	u8 tags = 0, reserved = 0;
	u16 opcode = 0;
	u64 instruction = 0, operand = 0;
	u32 mxcsr = 0x1f80, mxcsr_mask = 0xffff;
	u8 st[8][16] = {};
	u8 xmm[16][16] = {};
	u8 rest[96] = {};

	bool operator==(const ExtendedState &) const = default;
};
static_assert(sizeof(ExtendedState) == 512);

class MadeUpGuest final : public Guest {
public:
	// --- state that tests set and look at ---------------------------------------------------
	Mode current_mode = Mode::long64;
	unsigned current_cpl = 0;
	Gprs gpr{};
	u64 rip = 0;
	u64 rflags = flag_fixed;
	Segment segments[segment_count]{};
	DescriptorTable gdtr{}, idtr{};
	u64 cr[9]{};
	u64 dr[8]{};
	u64 efer_value = 0;
	u64 xcr0_value = 7;
	std::map<u32, u64> msrs;
	// CPUID by leaf; a leaf that is not there has every bit set.
	std::map<u32, std::array<u32, 4>> cpuid_leaves;
	ExtendedState extended{};
	u8 upper[16][16]{}; // of YMM registers
	std::vector<Region> regions;

	// Device reads are pending until the second execution if this is set.
	bool devices_pend = false;
	std::map<u64, u8> device_bytes;
	std::map<u16, std::vector<u32>> port_input; // taken from the front; 0xff... when empty
	unsigned ports_at_once = 1;
	bool ports_pend = false;
	bool lose_exchange = false; // the next compare_exchange meets another processor
	unsigned iterations_allowed = ~0u;

	// --- what happened ----------------------------------------------------------------------
	std::vector<Exception> raised;
	std::vector<DeviceAccess> device_reads, device_writes;
	std::vector<PortAccess> port_reads, port_writes;
	std::vector<u64> invalidated;
	std::optional<bool> blocked_by_mov_ss;
	// What RSM brings; none outside SMM.
	struct BeforeSmm {
		Gprs gpr;
		u64 rip, rflags;
	};
	std::optional<BeforeSmm> before_smm;
	unsigned halts = 0, cache_writes = 0, nmi_unblocks = 0, hypercalls = 0, iterations = 0;
	unsigned bytes_fetched = 0;

	// --- running ----------------------------------------------------------------------------
	Executed executed{};
	// Executes the instruction at rip.
	Outcome<> step();
	// Puts an instruction at rip and executes it.
	Outcome<> run(std::initializer_list<u8> code);
	Outcome<> deliver_event(const Event &event);
	// Empties the record of what happened.
	void forget();

	// --- memory -----------------------------------------------------------------------------
	// RAM that this object holds.
	Region &add_ram(u64 base, u64 size);
	Region &add_device(u64 base, u64 size);
	// Without regard to rights; the bytes must be there.
	u64 peek(u64 address, unsigned size) const;
	void poke(u64 address, u64 value, unsigned size);
	void poke(u64 address, std::span<const u8> bytes);

	// --- Guest ------------------------------------------------------------------------------
	Mode mode() override { return current_mode; }
	unsigned cpl() override { return current_cpl; }
	Segment segment(SegmentName name) override { return segments[static_cast<u8>(name)]; }
	void set_segment(SegmentName name, const Segment &segment) override;
	DescriptorTable gdt() override { return gdtr; }
	DescriptorTable idt() override { return idtr; }
	void set_gdt(const DescriptorTable &table) override { gdtr = table; }
	void set_idt(const DescriptorTable &table) override { idtr = table; }
	u64 control(unsigned number) override { return cr[number]; }
	Outcome<> set_control(unsigned number, u64 value) override;
	u64 debug(unsigned number) override { return dr[number]; }
	Outcome<> set_debug(unsigned number, u64 value) override;
	u64 efer() override { return efer_value; }
	Outcome<u64> read_msr(u32 index) override;
	Outcome<> write_msr(u32 index, u64 value) override;
	Outcome<u64> read_pmc(u32 index) override { return 0x100 + index; }
	u64 tsc() override { return 0x1122334455667788; }
	u64 tsc_aux() override { return 0x5a; }
	void cpuid(u32 leaf, u32 subleaf, u32 (&registers)[4]) override;
	Outcome<> set_xcr(u32 index, u64 value) override;
	u64 xcr0() override { return xcr0_value; }
	void read_vector(unsigned number, void *value, unsigned size) override;
	void write_vector(
		unsigned number, const void *value, unsigned size, bool clear_above) override;
	void read_mmx(unsigned number, u64 &value) override;
	void write_mmx(unsigned number, u64 value) override;
	void fxsave(void *image) override { __builtin_memcpy(image, &extended, 512); }
	Outcome<> fxrstor(const void *image) override;
	Outcome<> read(Gva address, void *data, unsigned size, Access access) override;
	Outcome<> write(Gva address, const void *data, unsigned size, Access access) override;
	Outcome<bool> compare_exchange(Gva address, void *expected, const void *desired,
		unsigned size, Access access) override;
	Outcome<> probe(Gva address, unsigned size, Access access) override;
	Outcome<unsigned> fetch(Gva address, u8 *bytes, unsigned size) override;
	void invalidate_page(Gva address) override { invalidated.push_back(address.value); }
	Outcome<unsigned> port_read(u16 port, unsigned size, void *data, unsigned count) override;
	Outcome<unsigned> port_write(
		u16 port, unsigned size, const void *data, unsigned count) override;
	void raise(const Exception &exception) override { raised.push_back(exception); }
	void halt() override { ++halts; }
	void write_back_caches() override { ++cache_writes; }
	void block_interrupts(bool by_mov_ss) override { blocked_by_mov_ss = by_mov_ss; }
	void unblock_nmi() override { ++nmi_unblocks; }
	bool resume(Registers &registers) override;
	Outcome<> hypercall() override;
	bool next_iteration() override;

	static constexpr u64 flag_fixed = 2;

private:
	struct Piece {
		const Region *region;
		u64 address;
		unsigned offset, size;
	};
	struct Pieces {
		Piece piece[2];
		unsigned count = 0;
	};
	const Region *find(u64 address) const;
	std::unexpected<Stop> stop(const Exception &exception);
	Outcome<const Region *> translate(u64 address, Access access);
	Outcome<Pieces> locate(u64 address, unsigned size, Access access);

	std::vector<std::vector<u8>> storage_;
	unsigned answers_ = 0, answers_taken_ = 0; // of device_reads
	unsigned answers_begin_ = 0;
	bool port_answered_ = false;
};

} // namespace kvmpp::x86::emulator::test
