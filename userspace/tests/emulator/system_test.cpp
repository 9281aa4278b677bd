// SPDX-License-Identifier: GPL-2.0-only
// Instructions of operating systems, and who may use which.
#include "tests/emulator/machine.h"

namespace kvmpp::x86::emulator::test
{

namespace
{

class System : public Emulator {};

class Privilege : public Emulator {
protected:
	void set_iopl(unsigned level)
	{
		guest.rflags = (guest.rflags & ~u64{X86_EFLAGS_IOPL}) | u64{level} << 12;
	}
};

const Exception ud = Exception::ud(), gp = Exception::gp();

} // namespace

TEST_F(System, DescriptorTables)
{
	guest.gpr[Gpr::rbx] = place::data;
	guest.gdtr = {0xffff'8000'1234'5678, 0x1ff};
	completes({0x0f, 0x01, 0x03}); // SGDT
	EXPECT_EQ(guest.peek(place::data, 2), 0x1ffu);
	EXPECT_EQ(guest.peek(place::data + 2, 8), 0xffff'8000'1234'5678u);
	guest.poke(place::data + 2, 0x4242, 8);
	completes({0x0f, 0x01, 0x1b}); // LIDT
	EXPECT_EQ(guest.idtr, (DescriptorTable{0x4242, 0x1ff}));
	guest.poke(place::data + 2, bit(60), 8);
	raises({0x0f, 0x01, 0x13}, gp); // LGDT
	become(Mode::protected32, 0);
	guest.gpr[Gpr::rbx] = place::data;
	guest.poke(place::data, 0x1234'5678'00ff, 8);
	completes({0x66, 0x0f, 0x01, 0x13}); // 24 bits of base
	EXPECT_EQ(guest.gdtr, (DescriptorTable{0x345678, 0xff}));
	guest.poke(place::data + 6, 0xffff, 2);
	completes({0x0f, 0x01, 0x03});
	EXPECT_EQ(guest.peek(place::data + 6, 2), 0xffffu); // six bytes only
}

TEST_F(System, RsmBringsEverythingBack)
{
	raises({0x0f, 0xaa}, ud);
	MadeUpGuest::BeforeSmm before{.gpr = {}, .rip = 0x1234'5678'9abc, .rflags = X86_EFLAGS_FIXED | X86_EFLAGS_RF};
	before.gpr[Gpr::rsp] = 0x42;
	guest.before_smm = before;
	for (const Mode mode : {Mode::long64, Mode::real, Mode::protected32}) {
		become(mode, 0);
		ASSERT_TRUE(guest.run({0x66, 0x0f, 0xaa}));
		EXPECT_EQ(guest.rip, before.rip);
		EXPECT_EQ(guest.rflags, before.rflags);
		EXPECT_EQ(guest.gpr[Gpr::rsp], 0x42u);
	}
	become(Mode::long64, 0);
	raises({0xf0, 0x0f, 0xaa}, ud);
}

TEST_F(System, ControlRegisters)
{
	guest.cr[3] = 0x5000;
	completes({0x0f, 0x20, 0xd8}); // MOV RAX, CR3
	EXPECT_EQ(guest.gpr[Gpr::rax], 0x5000u);
	guest.gpr[Gpr::rax] = 9;
	completes({0x44, 0x0f, 0x22, 0xc0}); // MOV CR8, RAX
	EXPECT_EQ(guest.cr[8], 9u);
	for (u8 number : {1, 5, 6, 7})
		raises({0x0f, 0x20, static_cast<u8>(0xc0 | number << 3)}, ud);
	guest.gpr[Gpr::rax] = X86_CR0_PG;
	raises({0x0f, 0x22, 0xc0}, gp);
	// ModRM.mod says nothing.
	completes({0x0f, 0x20, 0x18});
	EXPECT_EQ(guest.gpr[Gpr::rax], 0x5000u);
}

TEST_F(System, MachineStatusWord)
{
	become(Mode::protected32, 0);
	guest.gpr[Gpr::rax] = 0;
	completes({0x0f, 0x01, 0xf0}); // LMSW AX does not clear PE
	EXPECT_TRUE(guest.cr[0] & X86_CR0_PE);
	guest.gpr[Gpr::rax] = X86_CR0_TS;
	completes({0x0f, 0x01, 0xf0});
	completes({0x0f, 0x01, 0xe0}); // SMSW EAX
	EXPECT_EQ(guest.gpr[Gpr::rax], guest.cr[0] & 0xffff'ffff);
	completes({0x0f, 0x06}); // CLTS
	EXPECT_FALSE(guest.cr[0] & X86_CR0_TS);
}

TEST_F(System, DebugRegisters)
{
	guest.gpr[Gpr::rax] = 0x1234;
	completes({0x0f, 0x23, 0xc0}); // MOV DR0, RAX
	EXPECT_EQ(guest.dr[0], 0x1234u);
	guest.dr[6] = 0xffff0ff0;
	completes({0x0f, 0x21, 0xe3}); // MOV RBX, DR4 is DR6
	EXPECT_EQ(guest.gpr[Gpr::rbx], 0xffff0ff0u);
	guest.cr[4] |= X86_CR4_DE;
	raises({0x0f, 0x21, 0xe3}, ud);
	guest.gpr[Gpr::rax] = bit(32);
	raises({0x0f, 0x23, 0xf8}, gp); // MOV DR7, RAX
	guest.dr[7] = bit(13);
	raises({0x0f, 0x21, 0xc3}, Exception::plain(Vector::debug)); // general detect
	EXPECT_TRUE(guest.dr[6] & bit(13));
}

TEST_F(System, ModelSpecificRegisters)
{
	guest.msrs = {{0x10, 0x1122334455667788}};
	guest.gpr[Gpr::rcx] = 0x10;
	completes({0x0f, 0x32});
	EXPECT_EQ(guest.gpr[Gpr::rax], 0x55667788u);
	EXPECT_EQ(guest.gpr[Gpr::rdx], 0x11223344u);
	guest.gpr[Gpr::rax] = ~u64{0};
	completes({0x0f, 0x30});
	EXPECT_EQ(guest.msrs[0x10], 0x11223344ffffffffu);
	guest.gpr[Gpr::rcx] = 0x11;
	raises({0x0f, 0x32}, gp);
}

TEST_F(System, InterruptFlag)
{
	completes({0xfb}); // STI
	EXPECT_EQ(guest.blocked_by_mov_ss, false);
	EXPECT_TRUE(guest.rflags & X86_EFLAGS_IF);
	guest.forget();
	completes({0xfb}); // already set: no shadow
	EXPECT_FALSE(guest.blocked_by_mov_ss.has_value());
	completes({0xfa});
	EXPECT_FALSE(guest.rflags & X86_EFLAGS_IF);
}

TEST_F(System, TranslationsAndCaches)
{
	guest.gpr[Gpr::rbx] = 0x12345;
	completes({0x0f, 0x01, 0x3b}); // INVLPG
	guest.gpr[Gpr::rbx] = bit(50);
	completes({0x0f, 0x01, 0x3b}); // not canonical: nothing
	EXPECT_EQ(guest.invalidated, std::vector<u64>{0x12345});
	completes({0x0f, 0x09});
	EXPECT_EQ(guest.cache_writes, 1u);
	guest.gpr[Gpr::rbx] = place::end;
	raises({0x0f, 0xae, 0x3b}, Exception::page_fault(place::end, 0)); // CLFLUSH
}

TEST_F(System, VmxInstructionsAreUndefinedWithAnyPrefix)
{
	raises({0x0f, 0x78, 0xc0}, Exception::ud());
	raises({0x66, 0x0f, 0x78, 0xc0}, Exception::ud());
	raises({0xf2, 0x0f, 0x79, 0xc0}, Exception::ud());
}

TEST_F(System, MonitorAndMwait)
{
	guest.gpr[Gpr::rax] = place::data;
	guest.gpr[Gpr::rcx] = 0;
	completes({0x0f, 0x01, 0xc8});
	completes({0x0f, 0x01, 0xc9});
	guest.gpr[Gpr::rax] = place::end;
	raises({0x0f, 0x01, 0xc8}, Exception::page_fault(place::end, 0));
	guest.gpr[Gpr::rcx] = 2;
	raises({0x0f, 0x01, 0xc8}, gp);
}

TEST_F(System, ExtendedControlRegister)
{
	guest.gpr[Gpr::rcx] = 0;
	completes({0x0f, 0x01, 0xd0});
	EXPECT_EQ(guest.gpr[Gpr::rax], 7u);
	guest.gpr[Gpr::rax] = 3;
	guest.gpr[Gpr::rdx] = 0;
	completes({0x0f, 0x01, 0xd1});
	EXPECT_EQ(guest.xcr0_value, 3u);
	guest.gpr[Gpr::rax] = 2;
	raises({0x0f, 0x01, 0xd1}, gp);
	guest.cr[4] &= ~u64{X86_CR4_OSXSAVE};
	raises({0x0f, 0x01, 0xd0}, ud);
}

TEST_F(System, SegmentBases)
{
	guest.gpr[Gpr::rax] = 0xffff'8000'0000'0001;
	completes({0xf3, 0x48, 0x0f, 0xae, 0xd0}); // WRFSBASE RAX
	completes({0xf3, 0x48, 0x0f, 0xae, 0xc3}); // RDFSBASE RBX
	EXPECT_EQ(guest.gpr[Gpr::rbx], 0xffff'8000'0000'0001u);
	guest.gpr[Gpr::rax] = bit(60);
	raises({0xf3, 0x48, 0x0f, 0xae, 0xd8}, gp); // WRGSBASE
	guest.cr[4] &= ~u64{X86_CR4_FSGSBASE};
	raises({0xf3, 0x48, 0x0f, 0xae, 0xc3}, ud);
	guest.msrs = {{0xc0000102, 0x7777}};
	completes({0x0f, 0x01, 0xf8}); // SWAPGS
	EXPECT_EQ(segment(SegmentName::gs).base, 0x7777u);
	EXPECT_EQ(guest.msrs[0xc0000102], 0u);
}

TEST_F(System, HypercallSeesAndChangesRegisters)
{
	completes({0x0f, 0x01, 0xc1});
	EXPECT_EQ(guest.hypercalls, 1u);
	EXPECT_EQ(guest.gpr[Gpr::rax], 0x77u);
}

TEST_F(System, Identification)
{
	guest.cpuid_leaves[1] = {1, 2, 3, 4};
	guest.gpr[Gpr::rax] = 1;
	completes({0x0f, 0xa2});
	EXPECT_EQ(guest.gpr[Gpr::rax], 1u);
	EXPECT_EQ(guest.gpr[Gpr::rbx], 2u);
	EXPECT_EQ(guest.gpr[Gpr::rcx], 3u);
	EXPECT_EQ(guest.gpr[Gpr::rdx], 4u);
}

// --- who may -------------------------------------------------------------------------------------

TEST_F(Privilege, OfLevel0Alone)
{
	become(Mode::long64, 3);
	guest.gpr[Gpr::rbx] = place::data;
	const std::initializer_list<u8> codes[] = {
		{0xf4},		    // HLT
		{0x0f, 0x01, 0x13}, // LGDT
		{0x0f, 0x01, 0x1b}, // LIDT
		{0x0f, 0x00, 0xd0}, // LLDT
		{0x0f, 0x00, 0xd8}, // LTR
		{0x0f, 0x01, 0xf0}, // LMSW
		{0x0f, 0x06},	    // CLTS
		{0x0f, 0x20, 0xc0}, // MOV RAX, CR0
		{0x0f, 0x22, 0xc0}, // MOV CR0, RAX
		{0x0f, 0x21, 0xc0}, // MOV RAX, DR0
		{0x0f, 0x23, 0xc0}, // MOV DR0, RAX
		{0x0f, 0x30},	    // WRMSR
		{0x0f, 0x32},	    // RDMSR
		{0x0f, 0x01, 0x3b}, // INVLPG
		{0x0f, 0x08},	    // INVD
		{0x0f, 0x09},	    // WBINVD
		{0x0f, 0x01, 0xd1}, // XSETBV
		{0x0f, 0x01, 0xf8}, // SWAPGS
		{0x48, 0x0f, 0x07}, // SYSRET
		{0xfa},		    // CLI
		{0xfb},		    // STI
		{0x6c},		    // INSB
		{0xe4, 0x60},	    // IN
	};
	guest.segments[static_cast<u8>(SegmentName::tr)].limit = 0x66; // no I/O bitmap
	for (auto code : codes)
		raises(code, gp);
	for (std::initializer_list<u8> code :
		std::initializer_list<std::initializer_list<u8>>{{0x0f, 0x01, 0xc8},
			{0x0f, 0x01, 0xc9}, {0x0f, 0x01, 0xca}, {0x0f, 0x01, 0xcb}})
		raises(code, ud); // MONITOR, MWAIT, CLAC, STAC
	EXPECT_EQ(guest.halts, 0u);
}

TEST_F(Privilege, UserModeInstructionPrevention)
{
	become(Mode::long64, 3);
	guest.gpr[Gpr::rbx] = place::data;
	const std::initializer_list<u8> codes[] = {{0x0f, 0x01, 0x03}, {0x0f, 0x01, 0x0b},
		{0x0f, 0x01, 0xe0}, {0x0f, 0x00, 0xc0},
		{0x0f, 0x00, 0xc8}}; // SGDT, SIDT, SMSW, SLDT, STR
	for (auto code : codes)
		completes(code);
	guest.cr[4] |= X86_CR4_UMIP;
	for (auto code : codes)
		raises(code, gp);
	guest.current_cpl = 0;
	for (auto code : codes)
		completes(code);
}

TEST_F(Privilege, TimeAndCounters)
{
	become(Mode::long64, 3);
	completes({0x0f, 0x31});
	EXPECT_EQ(guest.gpr[Gpr::rdx], 0x11223344u);
	completes({0x0f, 0x01, 0xf9});
	EXPECT_EQ(guest.gpr[Gpr::rcx], 0x5au);
	guest.cr[4] |= X86_CR4_TSD;
	raises({0x0f, 0x31}, gp);
	raises({0x0f, 0x01, 0xf9}, gp);
	raises({0x0f, 0x33}, gp); // RDPMC
	guest.cr[4] |= X86_CR4_PCE;
	guest.gpr[Gpr::rcx] = 1;
	completes({0x0f, 0x33});
	EXPECT_EQ(guest.gpr[Gpr::rax], 0x101u);
	guest.current_cpl = 0;
	guest.cr[4] &= ~u64{X86_CR4_PCE};
	completes({0x0f, 0x31});
	completes({0x0f, 0x33});
}

TEST_F(Privilege, PortsByTheBitmap)
{
	for (Mode mode : {Mode::protected32, Mode::long64, Mode::virtual8086}) {
		become(mode, 3);
		guest.segments[static_cast<u8>(SegmentName::tr)].limit = 0x68 + 0x20;
		guest.poke(place::tss + 102, 0x68, 2);
		for (unsigned i = 0; i < 0x21; ++i)
			guest.poke(place::tss + 0x68 + i, 0, 1);
		completes({0xe4, 0x60});
		guest.poke(place::tss + 0x68 + 0xc, 0x02, 1); // port 61
		completes({0xe4, 0x60});
		raises({0xe4, 0x61}, gp);
		raises({0x66, 0xe5, 0x60}, [mode, this] { // two ports, or four in 8086 mode
			guest.poke(place::tss + 0x68 + 0xc, 0x06, 1);
			(void)mode;
			return gp;
		}());
		raises({0xe4, 0xff}, [this] { // its bits are beyond the limit
			guest.segments[static_cast<u8>(SegmentName::tr)].limit = 0x68 + 0x1f;
			return gp;
		}());
		guest.port_reads.clear();
		if (mode != Mode::virtual8086) {
			set_iopl(3);
			completes({0xe4, 0x61}); // the bitmap is not asked
		} else {
			set_iopl(3);
			raises({0xe4, 0x61}, gp); // it always is
		}
	}
	become(Mode::protected32, 3);
	guest.segments[static_cast<u8>(SegmentName::tr)].rights.raw = 0x83; // of 16 bits
	raises({0xe4, 0x60}, gp);
}

TEST_F(Privilege, InterruptFlagByIopl)
{
	become(Mode::protected32, 3);
	set_iopl(3);
	completes({0xfb});
	EXPECT_TRUE(guest.rflags & X86_EFLAGS_IF);
	set_iopl(0);
	raises({0xfa}, gp);
	guest.cr[4] |= X86_CR4_PVI;
	completes({0xfb});
	EXPECT_TRUE(guest.rflags & X86_EFLAGS_VIF);
	completes({0xfa});
	EXPECT_FALSE(guest.rflags & X86_EFLAGS_VIF);
	guest.rflags |= X86_EFLAGS_VIP;
	raises({0xfb}, gp);
	become(Mode::virtual8086, 3);
	raises({0xfa}, gp);
	guest.cr[4] |= X86_CR4_VME;
	completes({0xfb});
	EXPECT_TRUE(guest.rflags & X86_EFLAGS_VIF);
}

TEST_F(Privilege, PagesOfTheSupervisor)
{
	become(Mode::long64, 3);
	guest.gpr[Gpr::rbx] = place::data;
	guest.add_ram(0x30000, page_size).user = false;
	guest.gpr[Gpr::rcx] = 0x30000;
	raises({0x8b, 0x01},
		Exception::page_fault(0x30000, page_fault_code::present | page_fault_code::user));
	guest.segments[static_cast<u8>(SegmentName::tr)].base = 0x30000;
	guest.poke(0x30000 + 102, 0x68, 2);
	completes({0xe4, 0x60}); // the processor itself reads the TSS
	guest.regions.back().user = true;
	guest.regions.back().write = false;
	raises({0x01, 0x01},
		Exception::page_fault(0x30000,
			page_fault_code::present | page_fault_code::write | page_fault_code::user));
}

// --- the units of the processor ------------------------------------------------------------------

TEST_F(System, UnitsThatAreSwitchedOff)
{
	const Exception nm = Exception::plain(Vector::device_not_available);
	const std::initializer_list<u8> sse{0x0f, 0x10, 0xc1}, avx{0xc5, 0xf8, 0x10, 0xc1},
		mmx{0x0f, 0x6f, 0xc1}, x87{0xd9, 0x3b}, fwait{0x9b};
	guest.gpr[Gpr::rbx] = place::data;
	guest.cr[0] |= X86_CR0_TS;
	for (auto code : {sse, avx, mmx, x87})
		raises(code, nm);
	completes(fwait); // not without MP
	guest.cr[0] |= X86_CR0_MP;
	raises(fwait, nm);
	guest.cr[0] &= ~u64{X86_CR0_TS};
	guest.cr[0] |= X86_CR0_EM;
	raises(sse, ud);
	raises(mmx, ud);
	raises(x87, nm);
	guest.cr[0] &= ~u64{X86_CR0_EM};
	guest.cr[4] &= ~u64{X86_CR4_OSFXSR};
	raises(sse, ud);
	guest.cr[4] &= ~u64{X86_CR4_OSXSAVE};
	raises(avx, ud);
	guest.cr[4] |= X86_CR4_OSXSAVE;
	guest.xcr0_value = 3;
	raises(avx, ud);
	// A pending exception comes first of all.
	guest.extended.status = 0x8081;
	guest.extended.control = 0x37e;
	guest.gpr[Gpr::rbx] = place::end;
	raises(mmx, Exception::plain(Vector::x87_error));
	raises({0xd9, 0x2b}, Exception::plain(Vector::x87_error)); // FLDCW
	raises(fwait, Exception::plain(Vector::x87_error));
}

TEST_F(System, VectorsInMemoryAreAligned)
{
	guest.gpr[Gpr::rbx] = place::data + 8;
	raises({0x0f, 0x28, 0x03}, gp);	      // MOVAPS
	raises({0x66, 0x0f, 0x7f, 0x03}, gp); // MOVDQA
	raises({0xf3, 0x0f, 0x12, 0x03}, gp); // MOVSLDUP
	completes({0x0f, 0x10, 0x03});	      // MOVUPS
	completes({0xc5, 0xfa, 0x12, 0x03});  // VMOVSLDUP
	guest.gpr[Gpr::rbx] = place::data + 16;
	completes({0x0f, 0x28, 0x03});
	raises({0xc5, 0xfc, 0x28, 0x03}, gp); // VMOVAPS of 32 bytes
	raises({0x0f, 0xae, 0x03}, [this] {
		guest.gpr[Gpr::rbx] = place::data + 8;
		return gp;
	}()); // FXSAVE
}

TEST_F(System, FninitKeepsTheRegistersWhereTheyAre)
{
	guest.extended.status = 3 << 11; // TOP is 3: register 3 is ST(0)
	for (u8 i = 0; i < 8; ++i)
		guest.extended.st[i][0] = i;
	completes({0xdb, 0xe3});
	EXPECT_EQ(guest.extended.status, 0);
	EXPECT_EQ(guest.extended.control, 0x37f);
	EXPECT_EQ(guest.extended.st[3][0], 0);
	EXPECT_EQ(guest.extended.st[0][0], 5);
}

} // namespace kvmpp::x86::emulator::test
