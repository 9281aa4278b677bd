// SPDX-License-Identifier: GPL-2.0-only
// Bugs that other hypervisors had, by the number under which they are known. Those that belong to a
// subject of their own (memory, MSRs, ports, timers, ...) are among its tests.
#include <cerrno>
#include <iterator>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include "files.h"
#include "interrupts.h"
#include "running.h"
#include "statistics.h"

using namespace kvmpp::selftests;

namespace
{

GUEST_CODE(halts, 64, "1: hlt\n jmp 1b");

// A guest that delivers one exception for ever. Its thread must stay interruptible.
void check_interruptible(Guest &guest)
{
	Running running{guest};
	usleep(50'000);
	int answer = running.finish();
	CHECK(answer == -EINTR || answer == 0);
}

// --- CVE-2015-5307: #AC whose delivery raises #AC. Ring 3, 32 bits, alignment checks on, and a handler
// that runs in ring 3 on a stack that is not aligned.

constexpr u64 cr0_am = 1 << 18, rflags_ac = 1 << 18;
constexpr u16 user_code32 = 0x38 | 3;

GUEST_CODE(misaligned, 32, "mov $0x20001, %esp\n mov %eax, 0x10001\n hlt\n");
GUEST_CODE(handle_in_ring_3, 32, "incl 0x10010\n 1: mov %eax, 0x10001\n jmp 1b\n");

// --- CVE-2015-8104: #DB whose delivery hits a data breakpoint on the stack.

GUEST_CODE(break_on_the_stack, 64, R"(
	mov $0x7ff0, %eax
	mov %rax, %dr0
	mov $0x7fe0, %eax
	mov %rax, %dr1
	mov $0x7fe8, %eax
	mov %rax, %dr2
	mov $0x7fd8, %eax
	mov %rax, %dr3
	mov $0xdddd06ff, %eax
	mov %rax, %dr7
	sti
1:	mov $0x8000, %esp
	push %rax
	push %rax
	jmp 1b
)");
GUEST_CODE(count_and_return, 64, "incl 0x10000\n iretq\n");

// --- CVE-2019-7221 and kin: timers that outlive their VM.

GUEST_CODE(arm_apic_timer, 64, APIC_ENABLE
	APIC_WRITE(3e0, 0xb) APIC_WRITE(320, 0x20045) APIC_WRITE(380, 0x1000) REPORT "1: hlt\n jmp 1b\n");
GUEST_CODE(arm_deadline, 64, APIC_ENABLE APIC_WRITE(320, 0x40045)
	"rdtsc\n add $100000, %eax\n mov $0x6e0, %ecx\n wrmsr\n" REPORT "1: hlt\n jmp 1b\n");
GUEST_CODE(arm_pit, 64, "mov $0x34, %al\n out %al, $0x43\n mov $0x10, %al\n out %al, $0x40\n"
			"out %al, $0x40\n" REPORT "1: hlt\n jmp 1b\n");
// --- CVE-2014-3611: the PIT is set anew all the time, by a vCPU that moves from CPU to CPU.
GUEST_CODE(storm_pit, 64, R"(
	sti
1:	mov $0x34, %al
	out %al, $0x43
	mov %bl, %al
	out %al, $0x40
	mov $0, %al
	out %al, $0x40
	inc %ebx
	incl 0x10000
	jmp 1b
)");

// --- CVE-2018-12207: code in a large page. Writes there, calls it, writes again.
constexpr u64 large_at = 0x400000, large = 2 << 20;

GUEST_CODE(call_large_page, 64, R"(
	movb $1, 0x401000
	out %al, $0x99
	mov $0x400000, %eax
	call *%rax
	movb $1, 0x402000
	out %al, $0x99
)");
GUEST_CODE(in_large_page, 64, "incl 0x10000\n ret\n");

GUEST_CODE(write_a_device, 64, "mov $0xd0000000, %edi\n 1: mov %eax, (%rdi)\n incl 0x10000\n jmp 1b\n");
GUEST_CODE(ask_a_port, 64, "in $0x60, %eax\n mov %eax, 0x10000\n hlt\n");

kvm_pit_config pit_config{};

} // namespace

TEST(CVE_2015_5307_alignment_checks_for_ever)
{
	Guest guest{Mode::protected_mode, misaligned};
	// Ring 3's flat code of 32 bits, and a gate for #AC that leads to it.
	guest.value<u64>(at::gdt + (user_code32 & ~7)) = 0x00cffa000000ffff;
	guest.load(at::handlers, handle_in_ring_3);
	guest.value<u64>(at::idt + 17 * 8) =
		at::handlers | u64{user_code32} << 16 | u64{0xee00} << 32;
	kvm_sregs sregs = guest.vcpu.sregs();
	sregs.cs = flat_segment(user_code32, 11);
	sregs.ss = sregs.ds = sregs.es = flat_segment(selector::user_data, 3);
	sregs.cr0 |= cr0_am;
	guest.vcpu.set(sregs);
	kvm_regs regs = guest.vcpu.regs();
	regs.rflags |= rflags_ac;
	guest.vcpu.set(regs);
	check_interruptible(guest);
}

TEST(CVE_2015_8104_breakpoints_for_ever)
{
	Guest guest{Mode::long_mode, break_on_the_stack};
	guest.set_handler(1, count_and_return);
	check_interruptible(guest);
	CHECK(guest.value<u32>(at::data) > 0);
}

TEST(CVE_2014_3611_a_pit_that_is_always_set_anew)
{
	Guest guest{Mode::long_mode, storm_pit, Guest::with_irqchip};
	REQUIRE_EQ(guest.vm.call(KVM_CREATE_PIT2, &pit_config), 0);
	guest.set_handler(0x45, xapic_handler);
	cpu_set_t all;
	sched_getaffinity(0, sizeof all, &all);
	if (CPU_COUNT(&all) < 2)
		skip_test("one CPU here");
	for (int i = 0; i < 40; ++i) {
		Running running{guest};
		stay_on(i % 2);
		usleep(2000);
		CHECK_EQ(running.finish(), -EINTR);
	}
	CHECK(guest.value<u32>(at::data) > 0);
}

TEST(CVE_2017_1000252_interrupts_beyond_all_tables)
{
	Guest guest{Mode::long_mode, halts, Guest::with_irqchip};
	for (u32 gsi : {23u, 24u, 1023u, 4095u, 4096u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
		Fd event{eventfd(0, EFD_CLOEXEC)};
		kvm_irqfd irqfd{};
		irqfd.fd = static_cast<u32>(event.number());
		irqfd.gsi = gsi;
		int answer = guest.vm.call(KVM_IRQFD, &irqfd);
		CHECK(answer == 0 || answer == -EINVAL);
		eventfd_write(event.number(), 1);
		irqfd.flags = KVM_IRQFD_FLAG_DEASSIGN;
		guest.vm.call(KVM_IRQFD, &irqfd);
		kvm_irq_level level{};
		level.irq = gsi;
		level.level = 1;
		answer = guest.vm.call(KVM_IRQ_LINE, &level);
		CHECK(answer == 0 || answer == -EINVAL);

		struct {
			kvm_irq_routing header;
			kvm_irq_routing_entry entry;
		} table{};
		table.header.nr = 1;
		table.entry.gsi = gsi;
		table.entry.type = KVM_IRQ_ROUTING_IRQCHIP;
		table.entry.u.irqchip = {KVM_IRQCHIP_IOAPIC, 0};
		CHECK_EQ(guest.vm.call(KVM_SET_GSI_ROUTING, &table), gsi < 4096 ? 0 : -EINVAL);
		table.entry.gsi = 0;
		table.entry.u.irqchip = {KVM_IRQCHIP_IOAPIC, gsi};
		CHECK_EQ(guest.vm.call(KVM_SET_GSI_ROUTING, &table), gsi < 24 ? 0 : -EINVAL);
		table.entry.u.irqchip = {gsi, 0};
		CHECK_EQ(guest.vm.call(KVM_SET_GSI_ROUTING, &table), -EINVAL);
	}
}

TEST(CVE_2018_19407_interrupt_controllers_in_every_order)
{
	// Every sequence of four of these steps, whatever they answer; then a guest that uses its APIC.
	System system;
	constexpr unsigned kinds = 6;
	for (unsigned sequence = 0; sequence < kinds * kinds * kinds * kinds; sequence += 7) {
		Vm vm{system};
		Fd vcpu;
		for (unsigned step = 0, left = sequence; step < 4; ++step, left /= kinds) {
			kvm_enable_cap split{};
			split.cap = KVM_CAP_SPLIT_IRQCHIP;
			split.args[0] = 24;
			struct {
				kvm_irq_routing header;
				kvm_irq_routing_entry entry;
			} table{};
			table.header.nr = 1;
			table.entry.type = KVM_IRQ_ROUTING_MSI;
			table.entry.u.msi.address_lo = 0xfee00000;
			table.entry.u.msi.data = 0x8045;
			kvm_irqchip chip{};
			chip.chip_id = KVM_IRQCHIP_IOAPIC;
			switch (left % kinds) {
			case 0: vm.call(KVM_CREATE_IRQCHIP); break;
			case 1: vm.call(KVM_ENABLE_CAP, &split); break;
			case 2: vm.call(KVM_CREATE_PIT2, &pit_config); break;
			case 3: vcpu = Fd{vm.call(KVM_CREATE_VCPU, 0)}; break;
			case 4: vm.call(KVM_SET_GSI_ROUTING, &table); break;
			case 5: vm.call(KVM_GET_IRQCHIP, &chip); break;
			}
		}
		kvm_irq_level level{};
		level.level = 1;
		vm.call(KVM_IRQ_LINE, &level);
		if (vcpu.number() < 0)
			continue;
		kvm_lapic_state lapic{};
		if (vcpu.call(KVM_GET_LAPIC, &lapic) == 0)
			CHECK_EQ(vcpu.call(KVM_SET_LAPIC, &lapic), 0);
	}
	Guest guest{Mode::long_mode, halts};
	guest.run_to_halt();
}

TEST(CVE_2018_3646_mitigations_are_told)
{
	if (!strstr(device, "kvmpp"))
		skip_test("for kvmpp");
	char host[200], ours[300];
	if (!read_text("/sys/devices/system/cpu/vulnerabilities/l1tf", host, sizeof host))
		skip_test("the kernel says nothing of L1TF");
	REQUIRE(read_text("/sys/module/kvmpp/parameters/mitigations", ours, sizeof ours) > 0);
	if (strncmp(host, "Not affected", 12))
		CHECK(strstr(ours, "l1tf-flush") != nullptr);
	if (read_text("/sys/devices/system/cpu/vulnerabilities/mds", host, sizeof host) &&
		strstr(host, "Mitigation: Clear CPU buffers"))
		CHECK(strstr(ours, "verw") != nullptr);
	note("%s", strtok(ours, "\n"));
}

TEST(CVE_2018_12207_code_lies_in_small_pages)
{
	if (!strstr(device, "kvmpp"))
		skip_test("for kvmpp");
	char ours[300];
	REQUIRE(read_text("/sys/module/kvmpp/parameters/mitigations", ours, sizeof ours) > 0);
	if (!strstr(ours, "small-code-pages"))
		skip_test("this processor has no such bug");
	Guest guest{Mode::long_mode, call_large_page};
	Backing space{2 * large};
	u8 *aligned = reinterpret_cast<u8 *>(
		up(reinterpret_cast<unsigned long>(space.bytes()), large));
	madvise(aligned, large, MADV_HUGEPAGE);
	memset(aligned, 0, large);
	memcpy(aligned, in_large_page.begin, in_large_page.size());
	// The guest's highest page table lies there too, so that each fetch goes with an access to data.
	memcpy(aligned + 3 * page, &guest.value<u64>(at::page_tables), page);
	kvm_sregs sregs = guest.vcpu.sregs();
	sregs.cr3 = large_at + 3 * page;
	guest.vcpu.set(sregs);
	REQUIRE_EQ(guest.vm.set_slot(1, large_at, large, aligned), 0);
	Statistics statistics{guest.vm};
	u64 none = statistics["mapped_2m"];
	guest.run_to_out(report_port);
	if (statistics["mapped_2m"] == none)
		skip_test("no large pages here");
	u64 small = statistics["mapped_4k"];
	guest.run_to_out(report_port);
	CHECK_EQ(guest.value<u32>(at::data), 1u);
	CHECK_EQ(statistics["mapped_2m"], none + 1);
	// The code's page, and the one written afterwards; the guest's own page tables are elsewhere.
	CHECK(statistics["mapped_4k"] >= small + 2);
}

TEST(CVE_2019_7221_armed_timers_and_no_vm)
{
	for (int i = 0; i < 5; ++i) {
		{
			Guest one{Mode::long_mode, arm_apic_timer, Guest::with_irqchip};
			Guest two{Mode::long_mode, arm_deadline, Guest::with_irqchip};
			Guest three{Mode::long_mode, arm_pit, Guest::with_irqchip};
			REQUIRE_EQ(three.vm.call(KVM_CREATE_PIT2, &pit_config), 0);
			one.run_to_out(report_port);
			two.run_to_out(report_port);
			three.run_to_out(report_port);
		}
		usleep(20'000);
	}
	Guest guest{Mode::long_mode, halts};
	guest.run_to_halt();
}

TEST(CVE_2019_14821_a_ring_with_indices_from_anywhere)
{
	Guest guest{Mode::long_mode, write_a_device};
	int offset = guest.system.extension(KVM_CAP_COALESCED_MMIO);
	if (offset <= 0)
		skip_test("no KVM_CAP_COALESCED_MMIO here");
	kvm_coalesced_mmio_zone zone{};
	zone.addr = 0xd0000000;
	zone.size = 8;
	REQUIRE_EQ(guest.vm.call(KVM_REGISTER_COALESCED_MMIO, &zone), 0);
	auto &ring = *reinterpret_cast<kvm_coalesced_mmio_ring *>(
		reinterpret_cast<u8 *>(&guest.vcpu.state()) + static_cast<u64>(offset) * page);
	constexpr u32 size = (page - sizeof(kvm_coalesced_mmio_ring)) / sizeof(kvm_coalesced_mmio);
	for (u32 wrong : {size, size + 1, 0x1000u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
		for (u32 first : {0u, wrong}) {
			ring.first = first;
			ring.last = wrong;
			// Full, as far as the module can tell; so the VMM gets the write itself.
			CHECK_EXIT(guest, KVM_EXIT_MMIO);
			CHECK_EQ(ring.last, wrong);
		}
	}
	// And while a thread makes them up all the time.
	ring.first = ring.last = 0;
	struct {
		kvm_coalesced_mmio_ring &ring;
		std::atomic<bool> stop = false;
	} shared{ring};
	auto corrupt = [](void *what) {
		auto *it = static_cast<decltype(shared) *>(what);
		for (u32 value = 1; !it->stop; value = value * 1664525 + 1013904223) {
			it->ring.last = value >> value % 32;
			it->ring.first = value;
		}
	};
	Thread thread{corrupt, &shared};
	for (int i = 0; i < 300; ++i)
		guest.vcpu.enter();
	shared.stop = true;
}

TEST(CVE_2021_29657_counts_that_change_while_they_are_read)
{
	Guest guest{Mode::long_mode, halts, Guest::with_irqchip};
	static CpuidTable cpuid;
	static MsrTable msrs;
	static struct {
		kvm_irq_routing header;
		kvm_irq_routing_entry entries[64];
	} routes;
	cpuid = supported_cpuid();
	u32 good = cpuid.nent;
	for (kvm_msr_entry &entry : msrs.entries)
		entry.index = 0x10;
	for (u32 i = 0; i < std::size(routes.entries); ++i) {
		routes.entries[i].gsi = i;
		routes.entries[i].type = KVM_IRQ_ROUTING_MSI;
	}
	std::atomic<bool> stop = false;
	auto flip = [](void *what) {
		u32 usual = supported_cpuid().nent;
		for (u32 i = 0; !*static_cast<std::atomic<bool> *>(what); ++i) {
			u32 count = i % 3 == 0 ? 1 : i % 3 == 1 ? usual : 0xffffffff;
			__atomic_store_n(&cpuid.nent, count, __ATOMIC_RELAXED);
			__atomic_store_n(&msrs.nmsrs, count, __ATOMIC_RELAXED);
			__atomic_store_n(&routes.header.nr, count, __ATOMIC_RELAXED);
		}
	};
	Thread thread{flip, &stop};
	for (int i = 0; i < 300; ++i) {
		int answer = guest.vcpu.call(KVM_SET_CPUID2, &cpuid);
		CHECK(answer == 0 || answer == -E2BIG || answer == -EINVAL || answer == -EFAULT);
		answer = guest.vcpu.call(KVM_GET_MSRS, &msrs);
		CHECK(answer <= static_cast<int>(good) && answer != -ENOMEM);
		answer = guest.vm.call(KVM_SET_GSI_ROUTING, &routes);
		CHECK(answer == 0 || answer == -EINVAL || answer == -EFAULT);
	}
	stop = true;
	thread.join();
	CHECK_EQ(guest.vcpu.regs().rip, at::code);
}

TEST(CVE_2022_2153_interrupts_without_anything_to_take_them)
{
	Guest guest{Mode::long_mode, halts};
	kvm_msi msi{};
	msi.address_lo = 0xfee00000;
	msi.data = 0x45;
	CHECK(guest.vm.call(KVM_SIGNAL_MSI, &msi) < 0);
	kvm_irq_level level{};
	CHECK(guest.vm.call(KVM_IRQ_LINE, &level) < 0);
	Fd event{eventfd(0, EFD_CLOEXEC)};
	kvm_irqfd irqfd{};
	irqfd.fd = static_cast<u32>(event.number());
	guest.vm.call(KVM_IRQFD, &irqfd);
	eventfd_write(event.number(), 1);
	struct {
		kvm_irq_routing header;
		kvm_irq_routing_entry entry;
	} table{};
	table.header.nr = 1;
	// SynIC, and all that it might be.
	for (u32 type = 0; type < 8; ++type) {
		table.entry.type = type;
		guest.vm.call(KVM_SET_GSI_ROUTING, &table);
		guest.vm.call(KVM_IRQ_LINE, &level);
	}
	kvm_lapic_state lapic{};
	CHECK(guest.vcpu.call(KVM_GET_LAPIC, &lapic) < 0);
	CHECK(guest.vcpu.call(KVM_SET_LAPIC, &lapic) < 0);
	// The x2APIC's MSRs, those of KVM, and Hyper-V's.
	for (u32 first : {0x800u, 0x4b564d00u, 0x40000000u, 0x40000080u, 0x400000b0u})
		for (u32 index = first; index < first + 0x40; ++index)
			guest.vcpu.set_msr(index, 1);
	guest.run_to_halt();
}

TEST(CVE_2025_40026_a_device_appears_under_an_access)
{
	Guest guest{Mode::long_mode, ask_a_port};
	CHECK_EXIT(guest, KVM_EXIT_IO);
	// The port gets someone in the kernel while the VMM has its answer ready.
	Fd event{eventfd(0, EFD_CLOEXEC)};
	kvm_ioeventfd request{};
	request.addr = 0x60;
	request.len = 4;
	request.fd = event.number();
	request.flags = KVM_IOEVENTFD_FLAG_PIO;
	REQUIRE_EQ(guest.vm.call(KVM_IOEVENTFD, &request), 0);
	u32 answer = 0x12345678;
	memcpy(guest.vcpu.io_data(), &answer, sizeof answer);
	guest.run_to_halt();
	CHECK_EQ(guest.value<u32>(at::data), answer);
}
