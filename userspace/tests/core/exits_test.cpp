// SPDX-License-Identifier: GPL-2.0-only
// What the handlers make of each exit: registers, exceptions, and what goes to the VMM.
#include "tests/core/machine.h"
#include "x86/msr.h"

namespace kvmpp::tests
{
namespace
{

using vmx::EventInfo;
using vmx::EventType;
using vmx::ExitReason;
using x86::Gpr;
namespace field = vmx::field;
namespace msr = x86::msr;

class Exits : public Machine {
protected:
	// One exit, then the registers and what was delivered as the next entry finds them.
	struct After {
		std::optional<sim::Delivered> delivered;
		u64 rip = 0, rax = 0, cr0 = 0, cr4 = 0;
		x86::Gprs gprs;
	};
	static After after(const Guest32 &guest, sim::GuestProgram exit)
	{
		After result;
		const auto look = [&](Guest &g) {
			result = {g.delivered, g.get(field::guest_rip), g.gprs[Gpr::rax],
				g.get(field::guest_cr0), g.get(field::guest_cr4), g.gprs};
			return GuestExit::of(ExitReason::triple_fault);
		};
		EXPECT_EQ(guest.vcpu.run(sim::in_turn({std::move(exit), look})), 0);
		EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_SHUTDOWN});
		return result;
	}
	static sim::Delivered exception(u8 vector, std::optional<u32> code = {})
	{
		return {EventInfo::of(EventType::hardware_exception, vector, code.has_value()),
			code.value_or(0)};
	}
	static void delivers(sim::GuestProgram exit, const sim::Delivered &expected)
	{
		const Guest32 guest;
		const After result = after(guest, std::move(exit));
		EXPECT_EQ(result.delivered, expected);
		EXPECT_EQ(result.rip, Guest32::code_address);
	}
	static void passes(sim::GuestProgram exit, u64 length)
	{
		const Guest32 guest;
		const After result = after(guest, std::move(exit));
		EXPECT_FALSE(result.delivered);
		EXPECT_EQ(result.rip, Guest32::code_address + length);
	}
	static sim::GuestProgram plain(ExitReason reason, u64 qualification = 0, u32 length = 3)
	{
		return [=](Guest &) { return GuestExit::of(reason, qualification, length); };
	}
};

TEST_F(Exits, InstructionsThatThereAreNot)
{
	for (const ExitReason reason : {ExitReason::vmxon, ExitReason::vmclear, ExitReason::vmread,
		     ExitReason::invept, ExitReason::invvpid, ExitReason::vmfunc, ExitReason::encls})
		delivers(plain(reason), exception(6));
	delivers(plain(ExitReason::rdpmc), exception(13, 0));
}

TEST_F(Exits, InstructionsThatDoNothing)
{
	for (const ExitReason reason : {ExitReason::invd, ExitReason::wbinvd, ExitReason::monitor,
		     ExitReason::mwait, ExitReason::pause})
		passes(plain(reason, 0, 2), 2);
}

// CVE-2014-3646: every exit reason there is, and some there are not, has a defined outcome.
TEST_F(Exits, EveryReasonHasAnOutcome)
{
	for (u32 reason = 0; reason < 100; ++reason) {
		const Guest32 guest;
		const auto program = sim::in_turn({plain(static_cast<ExitReason>(reason)),
			plain(ExitReason::triple_fault)});
		const long result = guest.vcpu.run(program);
		const u32 why = guest.vcpu.shared().exit_reason;
		EXPECT_EQ(result, 0) << reason;
		EXPECT_TRUE(why == KVM_EXIT_SHUTDOWN || why == KVM_EXIT_INTERNAL_ERROR || why == KVM_EXIT_IO ||
			    why == KVM_EXIT_HLT)
			<< reason << ": " << why;
	}
}

TEST_F(Exits, AnEntryThatTheProcessorRefusesIsTheVmms)
{
	refusals_expected_ = true;
	const Guest32 guest;
	kvm_sregs sregs = guest.vcpu.sregs();
	sregs.cs.type = 2; // data that cannot be a CS
	ASSERT_EQ(guest.vcpu.ioctl(KVM_SET_SREGS, &sregs), 0);
	ASSERT_EQ(guest.vcpu.run(plain(ExitReason::hlt)), 0);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_FAIL_ENTRY});
	EXPECT_EQ(guest.vcpu.shared().fail_entry.hardware_entry_failure_reason, 0x80000021u);
	EXPECT_STREQ(sim::vtx::last_refusal(), "type of CS");
	EXPECT_EQ(sim::vtx::refusals(), 0u);
	// It is no worse for having tried.
	sregs.cs.type = 11;
	ASSERT_EQ(guest.vcpu.ioctl(KVM_SET_SREGS, &sregs), 0);
	EXPECT_EQ(guest.vcpu.run(plain(ExitReason::hlt, 0, 1)), 0);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_HLT});
}

TEST_F(Exits, ControlRegisters)
{
	constexpr u64 mov_from = 1 << 4, clts = 2 << 4, lmsw = 3 << 4;
	const auto mov_to = [](unsigned number, u64 value) {
		return [=](Guest &g) {
			g.gprs[Gpr::rbx] = value;
			return GuestExit::of(ExitReason::cr_access, number | 3 << 8, 3);
		};
	};
	{
		const Guest32 guest;
		const After result = after(guest, mov_to(0, X86_CR0_PE | X86_CR0_NE | X86_CR0_TS | X86_CR0_CD));
		EXPECT_EQ(result.rip, Guest32::code_address + 3);
		EXPECT_TRUE(result.cr0 & X86_CR0_TS);
		EXPECT_FALSE(result.cr0 & X86_CR0_CD);
	}
	delivers(mov_to(0, X86_CR0_PG), exception(13, 0));		 // without PE
	delivers(mov_to(0, X86_CR0_PE | X86_CR0_NW), exception(13, 0)); // without CD
	delivers(mov_to(4, X86_CR4_VMXE), exception(13, 0));
	delivers(mov_to(4, X86_CR4_PCIDE), exception(13, 0));
	delivers(mov_to(7, 0), exception(6));
	delivers(mov_to(8, 0x10), exception(13, 0));
	passes(mov_to(3, 0x5000), 3);
	passes(mov_to(4, X86_CR4_PAE | X86_CR4_OSXSAVE), 3);
	passes(plain(ExitReason::cr_access, clts, 2), 2);
	passes(plain(ExitReason::cr_access, lmsw | u64{X86_CR0_TS} << 16), 3);
	{
		const Guest32 guest;
		EXPECT_EQ(after(guest, plain(ExitReason::cr_access, 3 | mov_from)).gprs[Gpr::rax], 0u);
	}
	// Paging with PAE reads the PDPTEs, which lie in the guest's memory.
	const Guest32 guest;
	guest.ram.at<u64>(0x2000) = 0x3001;
	const auto program = sim::in_turn({mov_to(3, 0x2000), mov_to(4, X86_CR4_PAE),
		mov_to(0, X86_CR0_PE | X86_CR0_NE | X86_CR0_PG), [](Guest &g) {
			EXPECT_FALSE(g.delivered);
			EXPECT_EQ(g.get(field::guest_pdpte0), 0x3001u);
			return g.hlt();
		}});
	EXPECT_EQ(guest.vcpu.run(program), 0);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_HLT});
}

TEST_F(Exits, DebugRegisters)
{
	const auto access = [](unsigned number, bool from, u64 value = 0) {
		return [=](Guest &g) {
			g.gprs[Gpr::rbx] = value;
			return GuestExit::of(ExitReason::dr_access, number | (from ? 1 << 4 : 0) | 3 << 8, 3);
		};
	};
	const Guest32 guest;
	const auto program = sim::in_turn({access(0, false, 0x1234), access(7, false, 0x401), [&](Guest &g) {
		// While breakpoints are enabled they are in the processor.
		EXPECT_EQ(g.cpu.debug.address[0], 0x1234u);
		g.cpu.debug.dr6 |= 1;
		return access(6, true)(g);
	},
		[](Guest &g) {
			EXPECT_EQ(g.gprs[Gpr::rbx], 0xffff0ff1u);
			return g.hlt();
		}});
	EXPECT_EQ(guest.vcpu.run(program), 0);
	kvm_debugregs regs{};
	EXPECT_EQ(guest.vcpu.ioctl(KVM_GET_DEBUGREGS, &regs), 0);
	EXPECT_EQ(regs.db[0], 0x1234u);
	EXPECT_EQ(regs.dr7, 0x401u);
}

TEST_F(Exits, ExtendedState)
{
	const auto xsetbv = [](u32 index, u64 value) {
		return [=](Guest &g) {
			g.gprs[Gpr::rcx] = index;
			g.gprs[Gpr::rax] = static_cast<u32>(value);
			g.gprs[Gpr::rdx] = value >> 32;
			return GuestExit::of(ExitReason::xsetbv, 0, 3);
		};
	};
	passes(xsetbv(0, 7), 3);
	delivers(xsetbv(0, 6), exception(13, 0));
	delivers(xsetbv(1, 1), exception(13, 0));
	// With OSXSAVE the guest's components are in force while it runs, and only then.
	const Guest32 guest;
	kvm_sregs sregs = guest.vcpu.sregs();
	sregs.cr4 |= X86_CR4_OSXSAVE;
	ASSERT_EQ(guest.vcpu.ioctl(KVM_SET_SREGS, &sregs), 0);
	const auto program = sim::in_turn({xsetbv(0, 3), [](Guest &g) {
		EXPECT_EQ(g.cpu.xcr0, 3u);
		return g.hlt();
	}});
	EXPECT_EQ(guest.vcpu.run(program), 0);
	kvm_xcrs xcrs{};
	EXPECT_EQ(guest.vcpu.ioctl(KVM_GET_XCRS, &xcrs), 0);
	EXPECT_EQ(xcrs.xcrs[0].value, 3u);
}

TEST_F(Exits, AnExceptionThatExitedGoesToTheGuest)
{
	// #AC exits so that its delivery for ever can be interrupted (CVE-2015-5307), #DB likewise.
	const auto faults = [](u8 vector, std::optional<u32> code) {
		return [=](Guest &) {
			GuestExit exit = GuestExit::of(ExitReason::exception_or_nmi);
			exit.event = EventInfo::of(EventType::hardware_exception, vector, code.has_value());
			exit.event_error_code = code.value_or(0);
			return exit;
		};
	};
	delivers(faults(17, 0), exception(17, 0));
	delivers(faults(1, {}), exception(1));
	const Guest32 guest;
	EXPECT_TRUE(after(guest, [](Guest &g) {
		EXPECT_TRUE(g.get(field::exception_bitmap) & (1 << 17));
		EXPECT_TRUE(g.get(field::exception_bitmap) & (1 << 1));
		EXPECT_TRUE(g.get(field::exception_bitmap) & (1 << 18));
		return g.cpuid(0);
	}).rip);
}

TEST_F(Exits, Int1IsATrap)
{
	const Guest32 guest;
	const auto int1 = [](Guest &) {
		GuestExit exit = GuestExit::of(ExitReason::exception_or_nmi, 0, 1);
		exit.event = EventInfo::of(EventType::privileged_software_exception, 1);
		return exit;
	};
	const After result = after(guest, int1);
	EXPECT_EQ(result.delivered, exception(1));
	EXPECT_EQ(result.rip, Guest32::code_address + 1);
}

TEST_F(Exits, NmisAndMachineChecksAreTheHosts)
{
	const Guest32 guest;
	u64 nmis = 0, checks = 0;
	const auto program = sim::in_turn({[](Guest &) {
		GuestExit exit = GuestExit::of(ExitReason::exception_or_nmi);
		exit.event = EventInfo::of(EventType::nmi, 2);
		return exit;
	},
		[](Guest &) {
			GuestExit exit = GuestExit::of(ExitReason::exception_or_nmi);
			exit.event = EventInfo::of(EventType::hardware_exception, 18);
			return exit;
		},
		[&](Guest &g) {
			EXPECT_FALSE(g.delivered);
			nmis = g.cpu.counts.nmis;
			checks = g.cpu.counts.machine_checks;
			return g.hlt();
		}});
	EXPECT_EQ(guest.vcpu.run(program), 0);
	EXPECT_EQ(nmis, 1u);
	EXPECT_EQ(checks, 1u);
}

TEST_F(Exits, ADeliveryThatAnExitInterruptedIsRepeated)
{
	const Guest32 guest;
	const auto event = EventInfo::of(EventType::external_interrupt, 0x77);
	const auto program = sim::in_turn({[&](Guest &g) {
		g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_IF);
		GuestExit exit = GuestExit::of(ExitReason::ept_violation, 1 << 1);
		exit.guest_physical = 0x4000;
		exit.vectoring = event;
		return exit;
	},
		[&](Guest &g) {
			EXPECT_EQ(g.delivered, (sim::Delivered{event, 0}));
			return g.hlt();
		}});
	EXPECT_EQ(guest.vcpu.run(program), 0);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_HLT});
}

TEST_F(Exits, ADeliveryThatNeedsADeviceIsAnError)
{
	const Guest32 guest;
	const auto program = [](Guest &) {
		GuestExit exit = GuestExit::of(ExitReason::ept_violation, 1 << 1);
		exit.guest_physical = 0xd0000000;
		exit.vectoring = EventInfo::of(EventType::hardware_exception, 14, true);
		return exit;
	};
	EXPECT_EQ(guest.vcpu.run(program), 0);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_INTERNAL_ERROR});
	EXPECT_EQ(guest.vcpu.shared().internal.suberror, u32{KVM_INTERNAL_ERROR_DELIVERY_EV});
}

TEST_F(Exits, TwoFaultsAreADoubleFaultAndThreeAreTheEnd)
{
	const Guest32 guest;
	const auto gp_while = [](EventInfo event) {
		return [event](Guest &) {
			GuestExit exit = GuestExit::of(ExitReason::exception_or_nmi);
			exit.event = EventInfo::of(EventType::hardware_exception, 13, true);
			exit.vectoring = event;
			return exit;
		};
	};
	const auto program = sim::in_turn({gp_while(EventInfo::of(EventType::hardware_exception, 11, true)),
		[&](Guest &g) {
			EXPECT_EQ(g.delivered, exception(8, 0));
			return gp_while(EventInfo::of(EventType::hardware_exception, 8, true))(g);
		}});
	EXPECT_EQ(guest.vcpu.run(program), 0);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_SHUTDOWN});
}

TEST_F(Exits, ASingleStepIsNotLostOverAnExit)
{
	const Guest32 guest;
	const After result = after(guest, [](Guest &g) {
		g.set(field::guest_rflags, g.get(field::guest_rflags) | X86_EFLAGS_TF);
		return g.cpuid(0);
	});
	EXPECT_EQ(result.delivered, exception(1));
	EXPECT_EQ(result.rip, Guest32::code_address + 2);
}

TEST_F(Exits, Hypercalls)
{
	const Guest32 guest;
	EXPECT_EQ(after(guest, [](Guest &g) { return g.vmcall(1); }).rax, 0u);
	const Guest32 second;
	EXPECT_EQ(after(second, [](Guest &g) { return g.vmcall(0x7777); }).rax, 0xfffffc18u); // -ENOSYS
	const Guest32 user;
	kvm_sregs sregs = user.vcpu.sregs();
	sregs.cs.dpl = sregs.ss.dpl = 3;
	sregs.cs.selector = sregs.ss.selector = 0x1b;
	ASSERT_EQ(user.vcpu.ioctl(KVM_SET_SREGS, &sregs), 0);
	EXPECT_EQ(after(user, [](Guest &g) { return g.vmcall(1); }).rax, 0xffffffffu); // -EPERM
}

// CVE-2016-3713 was an MSR number between two that exist.
TEST_F(Exits, EveryMsrAnswersOrFaults)
{
	const Guest32 guest;
	sim::set_guest_program([&, index = u32{0}, reads = true](Guest &g) mutable {
		if (g.delivered) {
			EXPECT_EQ(*g.delivered, exception(13, 0));
			g.set(field::guest_rip, Guest32::code_address);
		}
		if (index == 0x1000)
			index = 0xc0000000;
		if (index == 0xc0000200)
			return GuestExit::of(ExitReason::triple_fault);
		reads = !reads;
		if (!reads)
			return g.rdmsr(index);
		// What was read, if it was: it may be written back.
		return g.wrmsr(index++, g.gprs[Gpr::rax]);
	});
	EXPECT_EQ(guest.vcpu.run(), 0);
	EXPECT_EQ(guest.vcpu.shared().exit_reason, u32{KVM_EXIT_SHUTDOWN});
}

TEST_F(Exits, TheTscFollowsItsOffset)
{
	const Guest32 guest;
	const auto program = sim::in_turn({[](Guest &g) { return g.wrmsr(msr::tsc, 1'000'000); },
		[](Guest &g) {
			EXPECT_EQ(g.get(field::tsc_offset) + kvmpp_tsc(), 1'000'000u);
			return g.rdmsr(msr::tsc_adjust);
		},
		[](Guest &g) {
			const u64 adjust = (g.gprs[Gpr::rdx] << 32) | static_cast<u32>(g.gprs[Gpr::rax]);
			EXPECT_NE(adjust, 0u);
			return g.wrmsr(msr::tsc_adjust, 0);
		},
		[](Guest &g) {
			EXPECT_LT(g.get(field::tsc_offset) + kvmpp_tsc(), 1'000'000u);
			return g.hlt();
		}});
	EXPECT_EQ(guest.vcpu.run(program), 0);
}

TEST_F(Exits, KvmclockIsWrittenWhereTheGuestWantsIt)
{
	const Guest32 guest;
	const auto program = sim::in_turn({[](Guest &g) { return g.wrmsr(0x4b564d01, 0x3001); },
		[](Guest &g) { return g.wrmsr(0x4b564d00, 0x4000); }, [](Guest &g) { return g.hlt(); }});
	EXPECT_EQ(guest.vcpu.run(program), 0);
	const u32 version = guest.ram.at<u32>(0x3000);
	EXPECT_NE(version, 0u);
	EXPECT_FALSE(version & 1);
	EXPECT_NE(guest.ram.at<u32>(0x3000 + 24), 0u); // the multiplier
	EXPECT_GT(guest.ram.at<u32>(0x4004), 1'700'000'000u);
}

// CVE-2013-1796, CVE-2013-1797: an address that is unaligned, crosses a page, or has no memory behind it.
TEST_F(Exits, KvmclockAtAnImpossiblePlace)
{
	for (const u64 address : {0x3ffdull, 0xfffdull, 0xd0000001ull, ~0ull, 0x100000001ull}) {
		const Guest32 guest;
		const auto program = sim::in_turn({[=](Guest &g) { return g.wrmsr(0x4b564d01, address); },
			[=](Guest &g) { return g.wrmsr(0x4b564d00, address & ~1ull); },
			[](Guest &g) { return g.hlt(); }});
		EXPECT_EQ(guest.vcpu.run(program), 0);
	}
	// The slot goes while the clock is registered.
	const Guest32 guest;
	EXPECT_EQ(guest.vcpu.run(sim::in_turn({[](Guest &g) { return g.wrmsr(0x4b564d01, 0x3001); },
			  [](Guest &g) { return g.hlt(); }})),
		0);
	EXPECT_EQ(guest.vm.set_slot(0, 0, guest.ram.address(), 0), 0);
	kvm_clock_data clock{};
	EXPECT_EQ(guest.vm.ioctl(KVM_SET_CLOCK, &clock), 0);
	EXPECT_EQ(guest.vcpu.run([](Guest &g) { return g.hlt(); }), 0);
}

TEST_F(Exits, StringsOfAPort)
{
	const Guest32 guest;
	constexpr u8 rep_outsb[] = {0xf3, 0x6e};
	std::memcpy(guest.ram.data() + Guest32::code_address, rep_outsb, sizeof(rep_outsb));
	std::memcpy(guest.ram.data() + 0x2000, "hello", 5);
	const auto program = sim::in_turn({[](Guest &g) {
		g.gprs[Gpr::rcx] = 5;
		g.gprs[Gpr::rsi] = 0x2000;
		g.gprs[Gpr::rdx] = 0x3f8;
		return GuestExit::of(ExitReason::io_instruction, 1 << 4 | 1 << 5 | 0x3f80000, 2);
	},
		[](Guest &g) { return g.hlt(); }});
	std::string text;
	EXPECT_EQ(guest.vcpu.run(program), 0);
	while (guest.vcpu.shared().exit_reason == KVM_EXIT_IO) {
		text.append(reinterpret_cast<char *>(guest.vcpu.port_data()), guest.vcpu.shared().io.count);
		ASSERT_EQ(guest.vcpu.run(), 0);
	}
	EXPECT_EQ(text, "hello");
}

} // namespace
} // namespace kvmpp::tests
