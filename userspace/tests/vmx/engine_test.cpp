// SPDX-License-Identifier: GPL-2.0-only
// Who holds VT-x, on which CPUs, and whose VMCS is where.
#include <gtest/gtest.h>
#include "host/task.h"
#include "sim/cpu/model.h"
#include "sim/faults.h"
#include "sim/host.h"
#include "sim/vtx/processor.h"
#include "vmx/engine.h"
#include "vmx/fields.h"
#include "x86/msr.h"

namespace kvmpp::tests
{
namespace
{

namespace msr = x86::msr;
using namespace vmx;

constexpr u64 vmxe = 1 << 13;

class EngineTest : public testing::Test {
protected:
	void SetUp() override
	{
		sim::reset_machine();
		before_ = sim::memory_statistics().live;
	}
	void TearDown() override
	{
		EXPECT_EQ(sim::vtx::processors_on(), 0u);
		EXPECT_EQ(sim::vtx::active_vmcss(), 0u);
		EXPECT_EQ(sim::memory_statistics().live, before_);
	}

	static auto make(Sharing sharing = Sharing::exclusive)
	{
		auto engine = Engine::create(sharing);
		EXPECT_TRUE(engine);
		return std::move(*engine);
	}
	static Result<Engine::Loaded> load(Engine &engine, Vmcs &vmcs)
	{
		host::PreemptionOff off;
		return engine.load(vmcs);
	}
	// Another hypervisor takes VT-x on a CPU.
	static void hold(unsigned cpu) { sim::cpu(cpu).cr4 |= vmxe; }
	static void let_go(unsigned cpu) { sim::cpu(cpu).cr4 &= ~vmxe; }

private:
	u64 before_ = 0;
};

TEST_F(EngineTest, AMachineThatIsNotFitIsRefusedWithAReason)
{
	sim::InKernel kernel;
	sim::set_msr_everywhere(msr::feature_control, 1);
	const sim::LogCapture log;
	const auto engine = Engine::create(Sharing::exclusive);
	ASSERT_FALSE(engine);
	EXPECT_EQ(engine.error(), Errno{EOPNOTSUPP});
	EXPECT_NE(log.text().find("firmware"), std::string::npos);
}

TEST_F(EngineTest, AMissingControlIsNamed)
{
	sim::InKernel kernel;
	sim::set_msr_everywhere(msr::vmx_secondary,
		sim::cpu(0).msrs.at(msr::vmx_secondary) & ~(u64{secondary::ept} << 32));
	const sim::LogCapture log;
	EXPECT_FALSE(Engine::create(Sharing::exclusive));
	EXPECT_NE(log.text().find("extended page tables"), std::string::npos);
}

TEST_F(EngineTest, TheOddCpuIsNamed)
{
	sim::InKernel kernel{0};
	sim::cpu(2).msrs[msr::vmx_misc] ^= bit(6);
	const sim::LogCapture log;
	const auto engine = Engine::create(Sharing::exclusive);
	ASSERT_FALSE(engine);
	EXPECT_EQ(engine.error(), Errno{EOPNOTSUPP});
	EXPECT_NE(log.text().find("CPU 2"), std::string::npos);
}

TEST_F(EngineTest, FailsToBeMadeWithoutMemory)
{
	sim::InKernel kernel;
	sim::set_mitigations(KVMPP_L1TF_FLUSH_ALWAYS);
	const u64 before = sim::memory_statistics().live;
	const unsigned failures =
		sim::with_each_failing(static_cast<u32>(sim::Fallible::allocation), [&](unsigned) {
			const auto engine = Engine::create(Sharing::exclusive);
			if (!engine) {
				EXPECT_EQ(engine.error(), Errno{ENOMEM});
				EXPECT_EQ(sim::memory_statistics().live, before);
			}
		});
	EXPECT_EQ(failures, sim::cpu_limit + 3); // regions; processors, the engine, pages to read
}

TEST_F(EngineTest, TheFirstUserTakesVtxAndTheLastGivesItBack)
{
	sim::InKernel kernel;
	auto engine = make();
	ASSERT_TRUE(engine->acquire());
	ASSERT_TRUE(engine->acquire());
	EXPECT_EQ(sim::vtx::processors_on(), sim::cpu_limit);
	engine->release();
	EXPECT_EQ(sim::vtx::processors_on(), sim::cpu_limit);
	engine->release();
	EXPECT_EQ(sim::vtx::processors_on(), 0u);
	EXPECT_FALSE(sim::cpu(1).cr4 & vmxe);
}

TEST_F(EngineTest, AnUnlockedMachineIsLockedOn)
{
	sim::InKernel kernel;
	sim::set_msr_everywhere(msr::feature_control, 0);
	auto engine = make();
	ASSERT_TRUE(engine->acquire());
	EXPECT_EQ(sim::cpu(3).msrs.at(msr::feature_control),
		msr::feature_control_bits::locked | msr::feature_control_bits::vmx_outside_smx);
	engine->release();
}

TEST_F(EngineTest, AnotherHypervisorOnAnyCpuIsEbusyAndNoCpuIsTouched)
{
	sim::InKernel kernel;
	auto engine = make();
	for (unsigned cpu = 0; cpu < sim::cpu_limit; ++cpu) {
		hold(cpu);
		const sim::LogCapture log;
		const auto result = engine->acquire();
		ASSERT_FALSE(result);
		EXPECT_EQ(result.error(), Errno{EBUSY});
		EXPECT_EQ(sim::vtx::processors_on(), 0u);
		for (unsigned other = 0; other < sim::cpu_limit; ++other)
			EXPECT_EQ((sim::cpu(other).cr4 & vmxe) != 0, other == cpu);
		EXPECT_NE(log.text().find("another hypervisor"), std::string::npos);
		let_go(cpu);
	}
	EXPECT_TRUE(engine->acquire());
	engine->release();
}

TEST_F(EngineTest, VmxonThatFailsOnOneCpuIsUndoneOnAll)
{
	sim::InKernel kernel;
	auto engine = make();
	// VMXON and INVEPT on each CPU; the VMXONs are the even ones.
	for (unsigned cpu = 0; cpu < sim::cpu_limit; ++cpu) {
		sim::fail_after(2 * cpu, static_cast<u32>(sim::Fallible::vmx_instruction));
		const sim::LogCapture log;
		const auto result = engine->acquire();
		sim::fail_nothing();
		ASSERT_FALSE(result);
		EXPECT_EQ(result.error(), Errno{EIO});
		EXPECT_EQ(sim::vtx::processors_on(), 0u);
		for (unsigned other = 0; other < sim::cpu_limit; ++other)
			EXPECT_FALSE(sim::cpu(other).cr4 & vmxe);
	}
	EXPECT_TRUE(engine->acquire());
	engine->release();
}

TEST_F(EngineTest, AVmcsFollowsItsThread)
{
	sim::InKernel kernel{0};
	auto engine = make();
	ASSERT_TRUE(engine->acquire());
	auto vmcs = engine->create_vmcs(0);
	ASSERT_TRUE(vmcs);
	auto loaded = load(*engine, **vmcs);
	ASSERT_TRUE(loaded);
	EXPECT_TRUE(loaded->moved);
	EXPECT_FALSE(loaded->was_current);
	loaded->vmcs.write(field::guest_rip, 0x1234);

	loaded = load(*engine, **vmcs);
	EXPECT_TRUE(loaded->was_current);

	sim::migrate_to(3);
	loaded = load(*engine, **vmcs);
	ASSERT_TRUE(loaded);
	EXPECT_TRUE(loaded->moved);
	EXPECT_EQ(loaded->vmcs.read(field::guest_rip), 0x1234u);
	EXPECT_EQ(sim::vtx::active_vmcss(), 1u);

	// Another VMCS takes its place as the current one, not on the CPU.
	auto second = engine->create_vmcs(0);
	ASSERT_TRUE(load(*engine, **second));
	loaded = load(*engine, **vmcs);
	EXPECT_FALSE(loaded->moved);
	EXPECT_FALSE(loaded->was_current);

	engine->retire(**vmcs);
	engine->retire(**second);
	engine->release();
}

TEST_F(EngineTest, OnDemandVtxIsTakenWithAVmcsAndGivenBackWithIt)
{
	sim::InKernel kernel{1};
	auto engine = make(Sharing::on_demand);
	ASSERT_TRUE(engine->acquire());
	EXPECT_EQ(sim::vtx::processors_on(), 0u);
	auto vmcs = engine->create_vmcs(0);
	ASSERT_TRUE(load(*engine, **vmcs));
	EXPECT_EQ(sim::vtx::processors_on(), 1u);
	{
		host::PreemptionOff off;
		engine->unload(**vmcs);
	}
	EXPECT_EQ(sim::vtx::processors_on(), 0u);
	engine->retire(**vmcs);
	engine->release();
}

TEST_F(EngineTest, ACpuComesUpWithVtxOnWhileThereAreUsers)
{
	sim::InKernel kernel{0};
	auto engine = make();
	sim::cpu(2).online = false;
	ASSERT_TRUE(engine->acquire());
	EXPECT_EQ(sim::vtx::processors_on(), sim::cpu_limit - 1);
	sim::cpu(2).online = true;
	sim::migrate_to(2);
	EXPECT_TRUE(engine->cpu_online());
	EXPECT_EQ(sim::vtx::processors_on(), sim::cpu_limit);
	engine->cpu_offline();
	EXPECT_EQ(sim::vtx::processors_on(), sim::cpu_limit - 1);
	sim::migrate_to(0);
	engine->release();
}

TEST_F(EngineTest, ACpuThatIsNotLikeTheOthersStaysDown)
{
	sim::InKernel kernel{0};
	auto engine = make();
	sim::migrate_to(2);
	sim::cpu(2).msrs[msr::vmx_ept_vpid] ^= bit(17);
	const sim::LogCapture log;
	const auto result = engine->cpu_online();
	ASSERT_FALSE(result);
	EXPECT_EQ(result.error(), Errno{EOPNOTSUPP});
	EXPECT_NE(log.text().find("CPU 2"), std::string::npos);
}

TEST_F(EngineTest, AShutDownEndsItForGood)
{
	sim::InKernel kernel{0};
	auto engine = make();
	ASSERT_TRUE(engine->acquire());
	auto vmcs = engine->create_vmcs(0);
	ASSERT_TRUE(load(*engine, **vmcs));
	engine->shut_down();
	EXPECT_EQ(sim::vtx::processors_on(), 0u);
	EXPECT_EQ(sim::vtx::active_vmcss(), 0u);
	const auto loaded = load(*engine, **vmcs);
	ASSERT_FALSE(loaded);
	EXPECT_EQ(loaded.error(), Errno{EIO});
	EXPECT_EQ(engine->cpu_online().error(), Errno{EIO});
	engine->retire(**vmcs);
	engine->release();
}

TEST_F(EngineTest, ACrashClearsWhatTheCpuHoldsAndLeavesVmxOperation)
{
	sim::InKernel kernel{0};
	auto engine = make();
	ASSERT_TRUE(engine->acquire());
	auto first = engine->create_vmcs(0), second = engine->create_vmcs(0);
	ASSERT_TRUE(load(*engine, **first));
	ASSERT_TRUE(load(*engine, **second));
	EXPECT_EQ(sim::vtx::active_vmcss(), 2u);
	engine->emergency_off();
	EXPECT_EQ(sim::vtx::active_vmcss(), 0u);
	EXPECT_EQ(sim::vtx::processors_on(), sim::cpu_limit - 1);
	engine->emergency_off();
	engine->shut_down();
	engine->retire(**first);
	engine->retire(**second);
	engine->release();
}

TEST(L1dFlush, NothingIsMadeWhereNoFlushIsDue)
{
	const u64 before = sim::memory_statistics().live;
	L1dFlush flush;
	ASSERT_TRUE(flush.create(0));
	EXPECT_EQ(sim::memory_statistics().live, before);
	bool unsafe = true;
	flush.before_entry(unsafe);
	EXPECT_TRUE(unsafe);
}

TEST(L1dFlush, ByMsrAlwaysOrWhenTheHostRan)
{
	sim::reset_machine();
	sim::InKernel kernel;
	const auto &flushes = sim::this_cpu().counts.l1d_flushes;
	L1dFlush always, conditional;
	ASSERT_TRUE(always.create(KVMPP_L1TF_FLUSH_ALWAYS | KVMPP_L1TF_FLUSH_MSR));
	ASSERT_TRUE(conditional.create(KVMPP_L1TF_FLUSH_COND | KVMPP_L1TF_FLUSH_MSR));
	bool unsafe = false;
	always.before_entry(unsafe);
	EXPECT_EQ(flushes, 1u);
	conditional.before_entry(unsafe);
	EXPECT_EQ(flushes, 1u);
	unsafe = true;
	conditional.before_entry(unsafe);
	EXPECT_EQ(flushes, 2u);
	EXPECT_FALSE(unsafe);
	sim::this_cpu().l1d_flush_wanted = true;
	conditional.before_entry(unsafe);
	EXPECT_EQ(flushes, 3u);
	conditional.before_entry(unsafe);
	EXPECT_EQ(flushes, 3u);
}

TEST(L1dFlush, ByReadingPagesThatNoMergerCanMakeOne)
{
	sim::reset_machine();
	sim::InKernel kernel;
	const u64 before = sim::memory_statistics().live;
	{
		L1dFlush flush;
		ASSERT_TRUE(flush.create(KVMPP_L1TF_FLUSH_ALWAYS));
		EXPECT_EQ(sim::memory_statistics().live, before + 1);
		bool unsafe = true;
		flush.before_entry(unsafe);
		EXPECT_FALSE(unsafe);
		EXPECT_EQ(sim::this_cpu().counts.l1d_flushes, 0u);
	}
	EXPECT_EQ(sim::memory_statistics().live, before);
}

} // namespace
} // namespace kvmpp::tests
