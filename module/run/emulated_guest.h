// SPDX-License-Identifier: GPL-2.0-only
// A vCPU as the emulator sees it, for the execution of one instruction.
#pragma once

#include "machine/vcpu.h"
#include "run/device_access.h"
#include "x86/emulator/emulator.h"

namespace kvmpp::run
{

class EmulatedGuest final : public x86::emulator::Guest {
	template <class T = void>
	using Outcome = x86::emulator::Outcome<T>;
	using Access = x86::emulator::Access;

    public:
	EmulatedGuest(machine::Vcpu &vcpu, vmx::Current vmcs)
		: vcpu_{vcpu}, vmcs_{vmcs}, paging_{vcpu.paging(vmcs)}, devices_{vcpu}
	{
	}

	// The VMM's memory failed: KVM_RUN returns this.
	std::optional<Errno> host_error() const { return host_error_; }
	// What the instruction did to interrupts, to be applied once it is complete.
	std::optional<u32> blocking() const { return blocking_; }
	bool halted() const { return halted_; }
	bool exits_for_port() const { return port_output_; }
	DeviceAccess::TprAccess tpr_access() const { return devices_.tpr_access(); }
	bool unblocks_nmis() const { return unblocks_nmis_; }

	x86::Mode mode() override { return vcpu_.mode(vmcs_); }
	unsigned cpl() override { return vcpu_.state.cpl(vmcs_); }
	x86::Segment segment(x86::SegmentName name) override { return vcpu_.state.segment(vmcs_, name); }
	void set_segment(x86::SegmentName name, const x86::Segment &segment) override;
	x86::DescriptorTable gdt() override { return vcpu_.state.gdt(vmcs_); }
	x86::DescriptorTable idt() override { return vcpu_.state.idt(vmcs_); }
	void set_gdt(const x86::DescriptorTable &table) override { vcpu_.state.set_gdt(table); }
	void set_idt(const x86::DescriptorTable &table) override { vcpu_.state.set_idt(table); }
	u64 control(unsigned number) override;
	Outcome<> set_control(unsigned number, u64 value) override;
	u64 debug(unsigned number) override;
	Outcome<> set_debug(unsigned number, u64 value) override;
	u64 efer() override { return vcpu_.state.efer(); }
	Outcome<u64> read_msr(u32 index) override;
	Outcome<> write_msr(u32 index, u64 value) override;
	Outcome<u64> read_pmc(u32 index) override;
	u64 tsc() override { return vcpu_.tsc.now(); }
	u64 tsc_aux() override { return vcpu_.residency.msrs().tsc_aux; }
	void cpuid(u32 leaf, u32 subleaf, u32 (&registers)[4]) override;
	Outcome<> set_xcr(u32 index, u64 value) override;
	u64 xcr0() override { return vcpu_.xcr0; }
	void read_vector(unsigned number, void *value, unsigned size) override;
	void write_vector(unsigned number, const void *value, unsigned size, bool clear_above) override;
	void read_mmx(unsigned number, u64 &value) override;
	void write_mmx(unsigned number, u64 value) override;
	void fxsave(void *image) override { kvmpp_fpu_fxsave(image); }
	Outcome<> fxrstor(const void *image) override;

	Outcome<> read(Gva address, void *data, unsigned size, Access access) override;
	Outcome<> write(Gva address, const void *data, unsigned size, Access access) override;
	Outcome<bool> compare_exchange(Gva address, void *expected, const void *desired, unsigned size,
		Access access) override;
	Outcome<> probe(Gva address, unsigned size, Access access) override;
	Outcome<unsigned> fetch(Gva address, u8 *bytes, unsigned size) override;
	void invalidate_page(Gva address) override;

	Outcome<unsigned> port_read(u16 port, unsigned size, void *data, unsigned count) override;
	Outcome<unsigned> port_write(u16 port, unsigned size, const void *data, unsigned count) override;

	void raise(const x86::Exception &exception) override { vcpu_.events.raise(exception); }
	void halt() override { halted_ = true; }
	void write_back_caches() override {} // they are coherent
	void block_interrupts(bool by_mov_ss) override;
	void unblock_nmi() override { unblocks_nmis_ = true; }
	bool resume(x86::emulator::Registers &registers) override;
	Outcome<> hypercall() override;
	bool next_iteration() override;

    private:
	// One access is at most 64 bytes, so it lies in one page or two.
	struct Pieces {
		struct Piece {
			Gpa address;
			unsigned offset, size;
		};
		std::array<Piece, 2> piece;
		unsigned count = 0;
	};
	Outcome<Gpa> translate(Gva address, Access access);
	Outcome<Pieces> locate(Gva address, unsigned size, Access access);
	std::unexpected<x86::emulator::Stop> stop(const x86::Exception &exception);
	std::unexpected<x86::emulator::Stop> host_failed(Errno error);
	void trace_port(bool write, u16 port, unsigned size, u32 count, const void *data) const;

	machine::Vcpu &vcpu_;
	const vmx::Current vmcs_;
	x86::Paging paging_;
	DeviceAccess devices_;
	std::optional<Errno> host_error_;
	std::optional<u32> blocking_;
	bool halted_ = false, unblocks_nmis_ = false;
	bool port_output_ = false;
};

} // namespace kvmpp::run
