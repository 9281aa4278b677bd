// SPDX-License-Identifier: GPL-2.0-only
// A local APIC: IA32_APIC_BASE, INIT, and the state that a VMM saves and restores.
#include <cstring>
#include "tests/devices/apic.h"

namespace kvmpp::tests
{

namespace
{

constexpr u64 address = apic_base::default_address;
constexpr u64 off = address, xapic = address | apic_base::enable;
constexpr u64 x2apic = xapic | apic_base::x2apic, invalid = address | apic_base::x2apic;

// Offset of the first register in which two states differ; -1: none.
int difference(const kvm_lapic_state &a, const kvm_lapic_state &b)
{
	for (int offset = 0; offset < KVM_APIC_REG_SIZE; ++offset)
		if (a.regs[offset] != b.regs[offset])
			return offset & ~0xf;
	return -1;
}

u32 field(const kvm_lapic_state &state, ApicRegister name)
{
	u32 value;
	std::memcpy(&value, &state.regs[static_cast<u32>(name)], sizeof(value));
	return value;
}

void set_field(kvm_lapic_state &state, ApicRegister name, u32 value)
{
	std::memcpy(&state.regs[static_cast<u32>(name)], &value, sizeof(value));
}

kvm_lapic_state state_of(Apic &apic, bool wide = true)
{
	kvm_lapic_state state;
	apic->get(state, wide);
	return state;
}

} // namespace

// SDM vol. 3, 11.12.5 and figure 11-32.
TEST(LapicBase, EveryTransition)
{
	const u64 states[] = {off, xapic, x2apic};
	const u64 targets[] = {off, xapic, x2apic, invalid};
	const bool allowed[3][4] = {
		{true, true, false, false},
		{true, true, true, false},
		{true, false, true, false},
	};
	for (unsigned from = 0; from < 3; ++from)
		for (unsigned to = 0; to < 4; ++to) {
			Apic apic;
			ASSERT_TRUE(apic->set_base(states[from], 36, true));
			EXPECT_EQ(apic->set_base(targets[to], 36, false).has_value(),
				allowed[from][to])
				<< from << " to " << to;
			EXPECT_EQ(apic->base(), allowed[from][to] ? targets[to] : states[from]);
			EXPECT_EQ(apic->set_base(targets[to], 36, true).has_value(), to != 3)
				<< "a VMM restores any valid mode";
		}
}

TEST(LapicBase, ReservedBits)
{
	for (unsigned n = 0; n < 64; ++n) {
		Apic apic;
		const u64 value = xapic | bit(n);
		const bool fine = n == 8 || n == 10 || n == 11 || (n >= 12 && n < 39);
		EXPECT_EQ(apic->set_base(value, 39, false).has_value(), fine) << n;
	}
	Apic plain;
	plain->set_features({});
	EXPECT_FALSE(plain->set_base(x2apic, 39, true)) << "no x2APIC in CPUID";
}

TEST(LapicBase, TheBspBitIsKept)
{
	Apic apic;
	apic->reset(true, false);
	EXPECT_EQ(apic->base(), xapic | apic_base::bsp);
	EXPECT_TRUE(apic->set_base(x2apic | apic_base::bsp, 36, false));
	EXPECT_EQ(apic->base(), x2apic | apic_base::bsp);
}

TEST(LapicBase, IntoX2apicModeTheStateIsKeptButForTheIds)
{
	Apic apic{0x21};
	apic.enable();
	apic.write(ApicRegister::ldr, 0x40000000);
	apic.write(ApicRegister::lvt_lint1, 0x400);
	apic.write(ApicRegister::icr_high, 0x7f000000);
	apic.post(0x55);
	EXPECT_TRUE(apic->set_base(x2apic, 36, false));
	EXPECT_EQ(apic.read(ApicRegister::id), 0x21u);
	EXPECT_EQ(apic.read(ApicRegister::ldr), 0x20002u);
	EXPECT_EQ(apic.read(ApicRegister::svr), 0x1ffu);
	EXPECT_EQ(apic.read(ApicRegister::lvt_lint1), 0x400u);
	EXPECT_EQ(*apic->read_msr(0x830) >> 32, 0u);
	EXPECT_TRUE(apic->identity().x2apic && apic->identity().software_enabled);
	EXPECT_EQ(apic.take(), 0x55);
}

TEST(LapicBase, DisablingForgetsEverything)
{
	Apic apic{3};
	apic.enable();
	apic.write(ApicRegister::lvt_timer, 0xef);
	apic.write(ApicRegister::initial_count, 1 * ms);
	apic.post(0x55);
	apic->collect();
	EXPECT_TRUE(apic->set_base(off, 36, false));
	EXPECT_FALSE(apic->identity().hardware_enabled || apic->identity().software_enabled);
	EXPECT_EQ(apic.post(0x56), delivery_ignored);
	clock().advance(5 * ms);
	EXPECT_EQ(apic.pending(), 0);
	EXPECT_TRUE(apic->set_base(xapic, 36, false));
	EXPECT_EQ(apic.read(ApicRegister::svr), 0xffu);
	EXPECT_EQ(apic.read(ApicRegister::id), 0x03000000u);
	EXPECT_EQ(apic.pending(), 0);
}

TEST(LapicState, InitKeepsModeAndIdAndForgetsTheRest)
{
	for (bool x2 : {false, true}) {
		Apic apic{4, x2};
		apic.enable();
		if (!x2)
			apic.write(ApicRegister::id, 0x09000000);
		apic.write(ApicRegister::tpr, 0x20);
		apic.post(0x55);
		apic->collect();
		apic.post(0x56);
		const u64 base = apic->base();
		const u32 id = apic.read(ApicRegister::id);
		apic->init();
		EXPECT_EQ(apic->base(), base);
		EXPECT_EQ(apic.read(ApicRegister::id), id);
		EXPECT_EQ(apic.read(ApicRegister::tpr), 0u);
		EXPECT_EQ(apic.read(ApicRegister::svr), 0xffu);
		EXPECT_EQ(apic->highest_requested(), 0);
		EXPECT_EQ(apic.pending(), 0);
		EXPECT_FALSE(apic->identity().software_enabled);
		if (x2) {
			EXPECT_EQ(apic.read(ApicRegister::ldr), x2apic_logical_id(4));
		}
	}
}

TEST(LapicState, InitForgetsErrorsAndTicksThatWait)
{
	Apic apic;
	apic.enable();
	apic.write(ApicRegister::lvt_timer, 0xef);
	apic.write(ApicRegister::initial_count, 1000);
	clock().advance(1 * ms);
	apic.post(0x03);
	apic->init();
	EXPECT_FALSE(apic->attention());
	apic.write(ApicRegister::esr, 0);
	EXPECT_EQ(apic.read(ApicRegister::esr), 0u);
}

TEST(LapicState, AStartupThatFollowsAnInitIsNotLostToItsReset)
{
	Apic apic;
	apic->accept({.delivery = Delivery::init});
	EXPECT_TRUE(apic->collect().init);
	apic->accept({.vector = 0x9a, .delivery = Delivery::startup});
	apic->init();
	EXPECT_TRUE(apic->collect().startup);
}

TEST(LapicState, RoundTrip)
{
	for (bool x2 : {false, true}) {
		Apic from{6, x2};
		from.enable();
		from.write(ApicRegister::tpr, 0x31);
		from.write(ApicRegister::lvt_lint0, 0x1a7ff & ~0x10000);
		from.write(ApicRegister::lvt_error, 0xfe);
		from.write(ApicRegister::icr, x2 ? u64{0x12345678} << 32 | 0x4041 : 0x4041);
		from.post(0x50, true);
		EXPECT_EQ(from.take(), 0x50);
		from.post(0x60);
		from.post(0x2f);
		from->collect();
		from.post(0x7f);
		const kvm_lapic_state saved = state_of(from);

		Apic to{6, x2};
		ASSERT_TRUE(to->set(saved, true));
		const kvm_lapic_state again = state_of(to);
		EXPECT_EQ(difference(saved, again), -1);
		EXPECT_EQ(to->identity(), from->identity());
		EXPECT_EQ(to->highest_in_service(), 0x50);
		EXPECT_EQ(to.take(), 0x7f);
		EXPECT_EQ(to.eoi(), 0x7f);
		EXPECT_EQ(to.take(), 0x60);
		EXPECT_EQ(to.eoi(), 0x60);
		const auto ended = to->end_of_interrupt();
		ASSERT_TRUE(ended);
		EXPECT_TRUE(ended->broadcast) << "TMR came along";
		to.write(ApicRegister::tpr, 0);
		EXPECT_EQ(to.take(), 0x2f);
	}
}

TEST(LapicState, RunningTimersGoOn)
{
	for (u32 mode : {0u, 1u << 17}) {
		Apic from;
		from.enable();
		from.write(ApicRegister::divide, 0xb);
		from.write(ApicRegister::lvt_timer, 0xef | mode);
		from.write(ApicRegister::initial_count, 10 * ms);
		clock().advance(3 * ms);
		const kvm_lapic_state saved = state_of(from);
		EXPECT_EQ(field(saved, ApicRegister::current_count), 7 * ms);
		clock().advance(4 * ms);
		EXPECT_EQ(from.read(ApicRegister::current_count), 3 * ms)
			<< "reading it disturbs nothing";

		Apic to;
		ASSERT_TRUE(to->set(saved, true));
		clock().advance(7 * ms - 1);
		EXPECT_EQ(to.pending(), 0);
		clock().advance(1);
		EXPECT_EQ(to.take(), 0xef);
		to.eoi();
		clock().advance(10 * ms);
		EXPECT_EQ(to.take(), mode ? 0xef : 0) << "one-shot and periodic";
	}
}

// VMMs restore IA32_TSC_DEADLINE before or after.
TEST(LapicState, AnArmedDeadlineStays)
{
	Apic apic;
	apic.enable();
	apic.write(ApicRegister::lvt_timer, 0xef | 1 << 18);
	kvm_lapic_state state = state_of(apic);
	const TscMoment moment{.tsc = 1000, .now = clock().now(), .tick = tsc_tick(1'000'000)};
	apic->set_tsc_deadline(1000 + 5 * ms, moment);
	ASSERT_TRUE(apic->set(state, true));
	EXPECT_EQ(apic->tsc_deadline(), 1000 + 5 * ms);
	clock().advance(5 * ms);
	EXPECT_EQ(apic.take(), 0xef);
	apic->set_tsc_deadline(1000 + 10 * ms, moment);
	set_field(state, ApicRegister::lvt_timer, 0xef);
	ASSERT_TRUE(apic->set(state, true));
	EXPECT_EQ(apic->tsc_deadline(), 0u) << "another mode";
	clock().advance(10 * ms);
	EXPECT_EQ(apic->highest_requested(), 0);
}

TEST(LapicState, AOneShotTimerThatIsOverDoesNotFireAgain)
{
	Apic from;
	from.enable();
	from.write(ApicRegister::lvt_timer, 0xef);
	from.write(ApicRegister::initial_count, 1000);
	clock().advance(1 * ms);
	const kvm_lapic_state saved = state_of(from);
	EXPECT_EQ(field(saved, ApicRegister::current_count), 0u);
	Apic to;
	ASSERT_TRUE(to->set(saved, true));
	EXPECT_EQ(to.take(), 0xef) << "in IRR";
	to.eoi();
	clock().advance(10 * ms);
	EXPECT_EQ(to.take(), 0);
}

TEST(LapicState, FormatOfTheX2apicId)
{
	Apic apic{0x45, true};
	EXPECT_EQ(field(state_of(apic, false), ApicRegister::id), 0x45000000u);
	EXPECT_EQ(field(state_of(apic, true), ApicRegister::id), 0x45u);
	kvm_lapic_state state = state_of(apic, false);
	EXPECT_TRUE(apic->set(state, false));
	state = state_of(apic, true);
	EXPECT_TRUE(apic->set(state, true));
	set_field(state, ApicRegister::id, 0x46);
	const auto refused = apic->set(state, true);
	ASSERT_FALSE(refused.has_value());
	EXPECT_EQ(refused.error(), Errno{EINVAL});
	EXPECT_EQ(apic.read(ApicRegister::id), 0x45u);
	Apic plain{0x45};
	EXPECT_EQ(field(state_of(plain, true), ApicRegister::id), 0x45000000u);
}

TEST(LapicState, TheCommandRegisterIsSplitInX2apicMode)
{
	Apic apic{1, true};
	apic.enable();
	apic->write_msr(0x830, u64{0xabcdef01} << 32 | 0x4041);
	const kvm_lapic_state state = state_of(apic);
	EXPECT_EQ(field(state, ApicRegister::icr), 0x4041u);
	EXPECT_EQ(field(state, ApicRegister::icr_high), 0xabcdef01u);
	Apic to{1, true};
	ASSERT_TRUE(to->set(state, true));
	EXPECT_EQ(to->read_msr(0x830), u64{0xabcdef01} << 32 | 0x4041);
}

TEST(LapicState, AHostileStateIsMadeLegal)
{
	for (bool x2 : {false, true}) {
		kvm_lapic_state wild;
		std::memset(&wild, 0xff, sizeof(wild));
		Apic apic{1, x2};
		set_field(wild, ApicRegister::id, 1);
		ASSERT_TRUE(apic->set(wild, true));
		const kvm_lapic_state state = state_of(apic);
		EXPECT_EQ(field(state, ApicRegister::version), 0x00050014u);
		EXPECT_EQ(field(state, ApicRegister::irr), 0xffffffffu); // as it was set, if never served
		EXPECT_EQ(field(state, ApicRegister::isr), 0xffff0000u) << "no exceptions' vectors";
		EXPECT_EQ(field(state, ApicRegister::lvt_error), 0x100ffu);
		EXPECT_EQ(field(state, ApicRegister::divide), 0xbu);
		if (x2) {
			EXPECT_EQ(field(state, ApicRegister::ldr), x2apic_logical_id(1));
		}
		unsigned ends = 0;
		while (apic.eoi() && ends < 1000)
			++ends;
		EXPECT_EQ(ends, 240u);
	}
}

TEST(LapicState, WithoutPeriodTheTimersCountIsBounded)
{
	Apic apic;
	kvm_lapic_state state = state_of(apic);
	set_field(state, ApicRegister::svr, 0x1ff);
	set_field(state, ApicRegister::lvt_timer, 0x200ef);
	set_field(state, ApicRegister::initial_count, 1);
	set_field(state, ApicRegister::current_count, 0xffffffff);
	ASSERT_TRUE(apic->set(state, true));
	EXPECT_LE(apic.read(ApicRegister::current_count), 1u);
	const u64 before = clock().fired();
	clock().advance(10 * ms);
	EXPECT_LE(clock().fired() - before, 50u);
}

} // namespace kvmpp::tests
