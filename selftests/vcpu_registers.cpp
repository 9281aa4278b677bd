// SPDX-License-Identifier: GPL-2.0-only
// State of a vCPU that userspace gets and sets: what comes back, and what is refused. Control
// registers and segments are in vcpu_sregs.cpp, MSRs and CPUID in vcpu_msrs.cpp.
#include <cerrno>
#include <cstring>
#include "kvm.h"

using namespace kvmpp::selftests;

namespace
{

struct Fixture {
	System system;
	Vm vm{system};
	Vcpu vcpu{system, vm};
};

// The same with a local APIC, for the states that only it can give a vCPU.
struct ApicFixture {
	System system;
	Vm vm = [](const System &host) {
		Vm made{host};
		REQUIRE_EQ(made.call(KVM_CREATE_IRQCHIP), 0);
		return made;
	}(system);
	Vcpu vcpu{system, vm};
};

template <typename State>
State get(const Vcpu &vcpu, unsigned long request)
{
	State state;
	memset(&state, 0, sizeof state);
	REQUIRE_EQ(vcpu.call(request, &state), 0);
	return state;
}

// XSAVE's area is memory of a host with XSAVE; its legacy part is there without it too.
constexpr unsigned xsave_mxcsr = 24 / 4, xsave_header = 512 / 4;

} // namespace

TEST(every_state_faults_at_a_bad_pointer)
{
	ApicFixture fixture;
	const struct {
		const char *name;
		unsigned long request;
	} requests[] = {
		{"GET_REGS", KVM_GET_REGS},
		{"SET_REGS", KVM_SET_REGS},
		{"GET_SREGS", KVM_GET_SREGS},
		{"SET_SREGS", KVM_SET_SREGS},
		{"GET_FPU", KVM_GET_FPU},
		{"SET_FPU", KVM_SET_FPU},
		{"GET_MSRS", KVM_GET_MSRS},
		{"SET_MSRS", KVM_SET_MSRS},
		{"GET_CPUID2", KVM_GET_CPUID2},
		{"SET_CPUID2", KVM_SET_CPUID2},
		{"GET_MP_STATE", KVM_GET_MP_STATE},
		{"SET_MP_STATE", KVM_SET_MP_STATE},
		{"GET_VCPU_EVENTS", KVM_GET_VCPU_EVENTS},
		{"SET_VCPU_EVENTS", KVM_SET_VCPU_EVENTS},
		{"GET_DEBUGREGS", KVM_GET_DEBUGREGS},
		{"SET_DEBUGREGS", KVM_SET_DEBUGREGS},
		{"GET_LAPIC", KVM_GET_LAPIC},
		{"SET_LAPIC", KVM_SET_LAPIC},
		{"SET_SIGNAL_MASK", KVM_SET_SIGNAL_MASK},
		{"INTERRUPT", KVM_INTERRUPT},
	};
	for (auto &[name, request] : requests)
		if (!CHECK_EQ(fixture.vcpu.call(request, bad_pointer), -EFAULT))
			note("KVM_%s", name);
}

TEST(reset_state_is_the_processor_s)
{
	Fixture fixture;
	kvm_regs regs = fixture.vcpu.regs();
	CHECK_EQ(regs.rip, 0xfff0u);
	CHECK_EQ(regs.rflags, 2u);
	CHECK_EQ(regs.rax, 0u);
	CHECK_EQ(regs.rsp, 0u);
	kvm_sregs sregs = fixture.vcpu.sregs();
	CHECK_EQ(sregs.cs.selector, 0xf000);
	CHECK_EQ(sregs.cs.base, 0xffff0000u);
	CHECK_EQ(sregs.cs.limit, 0xffffu);
	CHECK_EQ(sregs.ds.base, 0u);
	CHECK_EQ(sregs.cr0, 0x60000010u);
	CHECK_EQ(sregs.cr4, 0u);
	CHECK_EQ(sregs.efer, 0u);
	CHECK_EQ(sregs.apic_base, 0xfee00900u);
}

TEST(only_the_first_vcpu_is_the_bootstrap_processor)
{
	Fixture fixture;
	Vcpu second{fixture.system, fixture.vm, 1};
	CHECK_EQ(fixture.vcpu.sregs().apic_base & 0x100, 0x100u);
	CHECK_EQ(second.sregs().apic_base & 0x100, 0u);
}

TEST(general_registers_come_back)
{
	Fixture fixture;
	kvm_regs regs{};
	auto *values = reinterpret_cast<__u64 *>(&regs);
	for (unsigned i = 0; i < 17; ++i) // RAX to R15, RIP
		values[i] = 0x0123456789abcdefull * (i + 1);
	regs.rip = 0xfffffff012345678;
	regs.rflags = 0x246;
	fixture.vcpu.set(regs);
	kvm_regs back = fixture.vcpu.regs();
	CHECK(memcmp(&back, &regs, sizeof regs) == 0);
}

TEST(rflags_keeps_its_fixed_bit)
{
	Fixture fixture;
	kvm_regs regs = fixture.vcpu.regs();
	regs.rflags = 0;
	fixture.vcpu.set(regs);
	CHECK_EQ(fixture.vcpu.regs().rflags, 2u);
}

TEST(fpu_comes_back)
{
	Fixture fixture;
	kvm_fpu fpu{};
	memset(fpu.fpr, 0x5a, sizeof fpu.fpr);
	for (auto &value : fpu.fpr) // 80 bits of each
		memset(value + 10, 0, 6);
	memset(fpu.xmm, 0xa5, sizeof fpu.xmm);
	fpu.fcw = 0x27f;
	fpu.fsw = 0x3800;
	fpu.ftwx = 0xff;
	fpu.last_opcode = 0x123;
	fpu.last_ip = 0x1234;
	fpu.last_dp = 0x5678;
	fpu.mxcsr = 0x1f80;
	REQUIRE_EQ(fixture.vcpu.call(KVM_SET_FPU, &fpu), 0);
	auto back = get<kvm_fpu>(fixture.vcpu, KVM_GET_FPU);
	CHECK(memcmp(back.fpr, fpu.fpr, sizeof fpu.fpr) == 0);
	CHECK(memcmp(back.xmm, fpu.xmm, sizeof fpu.xmm) == 0);
	CHECK_EQ(back.fcw, fpu.fcw);
	CHECK_EQ(back.fsw, fpu.fsw);
	CHECK_EQ(back.ftwx, fpu.ftwx);
	CHECK_EQ(back.last_opcode, fpu.last_opcode);
	CHECK_EQ(back.last_ip, fpu.last_ip);
	CHECK_EQ(back.last_dp, fpu.last_dp);
}

TEST(xsave_comes_back_and_shows_the_fpu)
{
	Fixture fixture;
	NEED(fixture.system, KVM_CAP_XSAVE);
	auto xsave = get<kvm_xsave>(fixture.vcpu, KVM_GET_XSAVE);
	xsave.region[0] = 0x27f;
	xsave.region[xsave_mxcsr] = 0x1fa0;
	memset(&xsave.region[160 / 4], 0x3c, 256); // XMM registers
	xsave.region[xsave_header] |= 3;	   // x87 and SSE are in use
	REQUIRE_EQ(fixture.vcpu.call(KVM_SET_XSAVE, &xsave), 0);
	auto back = get<kvm_xsave>(fixture.vcpu, KVM_GET_XSAVE);
	CHECK_EQ(back.region[0] & 0xffff, 0x27fu);
	CHECK_EQ(back.region[xsave_mxcsr], 0x1fa0u);
	CHECK(memcmp(&back.region[160 / 4], &xsave.region[160 / 4], 256) == 0);
	auto fpu = get<kvm_fpu>(fixture.vcpu, KVM_GET_FPU);
	CHECK_EQ(fpu.fcw, 0x27f);
	CHECK(memcmp(fpu.xmm, &xsave.region[160 / 4], sizeof fpu.xmm) == 0);
}

TEST(xsave_refuses_unknown_components_and_mxcsr_bits)
{
	Fixture fixture;
	NEED(fixture.system, KVM_CAP_XSAVE);
	auto xsave = get<kvm_xsave>(fixture.vcpu, KVM_GET_XSAVE);
	auto changed = xsave;
	changed.region[xsave_header + 1] |= 1u << 30; // component 62
	CHECK_EQ(fixture.vcpu.call(KVM_SET_XSAVE, &changed), -EINVAL);
	changed = xsave;
	changed.region[xsave_header] |= 3;
	changed.region[xsave_mxcsr] = ~0u;
	CHECK_EQ(fixture.vcpu.call(KVM_SET_XSAVE, &changed), -EINVAL);
	CHECK_EQ(fixture.vcpu.call(KVM_SET_XSAVE, bad_pointer), -EFAULT);
	CHECK_EQ(fixture.vcpu.call(KVM_GET_XSAVE, bad_pointer), -EFAULT);
}

TEST(xcr0_comes_back_and_must_be_possible)
{
	Fixture fixture;
	NEED(fixture.system, KVM_CAP_XCRS);
	REQUIRE_EQ(fixture.vcpu.set(supported_cpuid()), 0);
	auto xcrs = get<kvm_xcrs>(fixture.vcpu, KVM_GET_XCRS);
	REQUIRE_EQ(xcrs.nr_xcrs, 1u);
	CHECK_EQ(xcrs.xcrs[0].value, 1u);
	for (u64 possible : {3ull, 1ull}) {
		xcrs.xcrs[0].value = possible;
		CHECK_EQ(fixture.vcpu.call(KVM_SET_XCRS, &xcrs), 0);
		CHECK_EQ(get<kvm_xcrs>(fixture.vcpu, KVM_GET_XCRS).xcrs[0].value, possible);
	}
	for (u64 impossible : {0ull, 2ull, 5ull, 1ull | 1ull << 62}) {
		xcrs.xcrs[0].value = impossible;
		if (!CHECK_EQ(fixture.vcpu.call(KVM_SET_XCRS, &xcrs), -EINVAL))
			note("XCR0 %#jx", uintmax_t{impossible});
	}
	xcrs.xcrs[0].value = 1;
	xcrs.flags = 1;
	CHECK_EQ(fixture.vcpu.call(KVM_SET_XCRS, &xcrs), -EINVAL);
	xcrs.flags = 0;
	xcrs.nr_xcrs = KVM_MAX_XCRS + 1;
	CHECK_EQ(fixture.vcpu.call(KVM_SET_XCRS, &xcrs), -EINVAL);
}

TEST(debug_registers_come_back)
{
	Fixture fixture;
	NEED(fixture.system, KVM_CAP_DEBUGREGS);
	auto debug = get<kvm_debugregs>(fixture.vcpu, KVM_GET_DEBUGREGS);
	CHECK_EQ(debug.dr6, 0xffff0ff0u);
	CHECK_EQ(debug.dr7, 0x400u);
	for (u64 i = 0; i < 4; ++i)
		debug.db[i] = 0x1000 * (i + 1);
	debug.dr6 = 0xffff0ff1;
	debug.dr7 = 0x755;
	REQUIRE_EQ(fixture.vcpu.call(KVM_SET_DEBUGREGS, &debug), 0);
	auto back = get<kvm_debugregs>(fixture.vcpu, KVM_GET_DEBUGREGS);
	CHECK(memcmp(&back, &debug, sizeof debug) == 0);
}

TEST(debug_registers_have_32_bits_and_no_flags)
{
	Fixture fixture;
	NEED(fixture.system, KVM_CAP_DEBUGREGS);
	auto debug = get<kvm_debugregs>(fixture.vcpu, KVM_GET_DEBUGREGS);
	auto changed = debug;
	changed.dr6 |= 1ull << 32;
	CHECK_EQ(fixture.vcpu.call(KVM_SET_DEBUGREGS, &changed), -EINVAL);
	changed = debug;
	changed.dr7 |= 1ull << 32;
	CHECK_EQ(fixture.vcpu.call(KVM_SET_DEBUGREGS, &changed), -EINVAL);
	changed = debug;
	changed.flags = 1;
	CHECK_EQ(fixture.vcpu.call(KVM_SET_DEBUGREGS, &changed), -EINVAL);
}

TEST(events_come_back)
{
	Fixture fixture;
	NEED(fixture.system, KVM_CAP_VCPU_EVENTS);
	auto events = get<kvm_vcpu_events>(fixture.vcpu, KVM_GET_VCPU_EVENTS);
	CHECK_EQ(events.exception.injected, 0);
	CHECK_EQ(events.interrupt.injected, 0);
	CHECK_EQ(events.nmi.pending, 0);
	events.nmi.pending = 1;
	events.nmi.masked = 1;
	events.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	REQUIRE_EQ(fixture.vcpu.call(KVM_SET_VCPU_EVENTS, &events), 0);
	auto back = get<kvm_vcpu_events>(fixture.vcpu, KVM_GET_VCPU_EVENTS);
	CHECK_EQ(back.nmi.pending, 1);
	CHECK_EQ(back.nmi.masked, 1);
	CHECK_EQ(back.interrupt.shadow, KVM_X86_SHADOW_INT_STI);
}

TEST(events_must_be_possible)
{
	Fixture fixture;
	NEED(fixture.system, KVM_CAP_VCPU_EVENTS);
	auto events = get<kvm_vcpu_events>(fixture.vcpu, KVM_GET_VCPU_EVENTS);
	auto changed = events;
	changed.flags |= 1u << 31;
	CHECK_EQ(fixture.vcpu.call(KVM_SET_VCPU_EVENTS, &changed), -EINVAL);
	for (u8 vector : {2, 32, 255}) {
		changed = events;
		changed.exception.injected = 1;
		changed.exception.nr = vector;
		if (!CHECK_EQ(fixture.vcpu.call(KVM_SET_VCPU_EVENTS, &changed), -EINVAL))
			note("exception %u", vector);
	}
}

TEST(mp_state_without_apic_is_runnable)
{
	Fixture fixture;
	NEED(fixture.system, KVM_CAP_MP_STATE);
	CHECK_EQ(get<kvm_mp_state>(fixture.vcpu, KVM_GET_MP_STATE).mp_state, KVM_MP_STATE_RUNNABLE);
	for (u32 other : {KVM_MP_STATE_UNINITIALIZED, KVM_MP_STATE_INIT_RECEIVED,
		     KVM_MP_STATE_HALTED, KVM_MP_STATE_SIPI_RECEIVED}) {
		kvm_mp_state state{other};
		CHECK_EQ(fixture.vcpu.call(KVM_SET_MP_STATE, &state), -EINVAL);
	}
	kvm_mp_state runnable{KVM_MP_STATE_RUNNABLE};
	CHECK_EQ(fixture.vcpu.call(KVM_SET_MP_STATE, &runnable), 0);
}

TEST(mp_state_with_apic)
{
	ApicFixture fixture;
	NEED(fixture.system, KVM_CAP_MP_STATE);
	Vcpu second{fixture.system, fixture.vm, 1};
	CHECK_EQ(get<kvm_mp_state>(fixture.vcpu, KVM_GET_MP_STATE).mp_state, KVM_MP_STATE_RUNNABLE);
	CHECK_EQ(get<kvm_mp_state>(second, KVM_GET_MP_STATE).mp_state, KVM_MP_STATE_UNINITIALIZED);
	for (u32 value : {KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_RUNNABLE,
		     KVM_MP_STATE_UNINITIALIZED}) {
		kvm_mp_state state{value};
		CHECK_EQ(second.call(KVM_SET_MP_STATE, &state), 0);
		CHECK_EQ(get<kvm_mp_state>(second, KVM_GET_MP_STATE).mp_state, value);
	}
	for (u32 value : {5u, 6u, 42u, ~0u}) {
		kvm_mp_state state{value};
		CHECK_EQ(second.call(KVM_SET_MP_STATE, &state), -EINVAL);
	}
}

TEST(signal_mask_is_as_long_as_the_kernel_s)
{
	Fixture fixture;
	struct {
		u32 length;
		u8 bits[16];
	} mask{};
	for (u32 length : {0u, 4u, 16u, 128u, ~0u}) {
		mask.length = length;
		CHECK_EQ(fixture.vcpu.call(KVM_SET_SIGNAL_MASK, &mask), -EINVAL);
	}
	mask.length = 8;
	CHECK_EQ(fixture.vcpu.call(KVM_SET_SIGNAL_MASK, &mask), 0);
	CHECK_EQ(fixture.vcpu.call(KVM_SET_SIGNAL_MASK, 0ul), 0);
}

TEST(tsc_frequency_is_told)
{
	Fixture fixture;
	NEED(fixture.system, KVM_CAP_GET_TSC_KHZ);
	CHECK(fixture.vcpu.call(KVM_GET_TSC_KHZ) > 0);
}
