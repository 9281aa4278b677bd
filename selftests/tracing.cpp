// SPDX-License-Identifier: GPL-2.0-only
// The tracepoints, as a developer uses them: switched on in tracefs, read as text.
#include <sys/mount.h>
#include <sys/stat.h>
#include "files.h"
#include "guest.h"

using namespace kvmpp::selftests;

namespace
{

#define TRACING "/sys/kernel/tracing/"

GUEST_CODE(traced, 64, R"(
	mov $0x40000000, %eax
	cpuid
	mov $0x55, %al
	out %al, $0x10
	in $0x11, %al
	mov $0xd0000000, %edi
	movl $0x1234, 8(%rdi)
	mov 16(%rdi), %ebx
	mov $0xfe, %ecx
	rdmsr
	mov $0x8b, %ecx
	xor %eax, %eax
	xor %edx, %edx
	wrmsr
	mov $0x12345678, %ecx
	rdmsr
	movb $1, 0x100000
	hlt
)");

// #GP, of which the guest's unknown MSR makes one: go on behind it.
GUEST_CODE(skip_rdmsr, 64, "add $8, %rsp\n addq $2, (%rsp)\n iretq\n");

char trace[1 << 20];

void need_tracing()
{
	struct stat status;
	if (!strstr(device, "kvmpp"))
		skip_test("for kvmpp");
	// Where it is not mounted yet; a failure shows below.
	if (stat(TRACING "events", &status) < 0)
		mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, nullptr);
	if (stat(TRACING "events", &status) < 0)
		skip_test("no tracefs here");
}

void switch_events(const char *which, bool on)
{
	char path[200];
	snprintf(path, sizeof path, TRACING "events/kvmpp/%s%senable", which, *which ? "/" : "");
	if (!CHECK_EQ(write_text(path, on ? "1" : "0"), 0))
		note("%s", path);
}

// Runs the guest, answering its reads.
void run_traced()
{
	Guest guest{Mode::long_mode, traced};
	guest.set_handler(13, skip_rdmsr);
	guest.run_to_out(0x10);
	CHECK_EXIT(guest, KVM_EXIT_IO);
	*guest.vcpu.io_data() = 0x77;
	CHECK_EXIT(guest, KVM_EXIT_MMIO);
	CHECK_EXIT(guest, KVM_EXIT_MMIO);
	u32 answer = 0xabcd;
	memcpy(guest.vcpu->mmio.data, &answer, sizeof answer);
	guest.run_to_halt();
}

void trace_a_run(const char *which)
{
	write_text(TRACING "trace", "");
	switch_events(which, true);
	run_traced();
	switch_events(which, false);
	read_text(TRACING "trace", trace, sizeof trace);
}

void check_said(const char *what)
{
	if (!CHECK(strstr(trace, what)))
		note("not traced: %s", what);
}

constexpr const char *events[] = {"kvmpp_entry", "kvmpp_exit", "kvmpp_inj_virq", "kvmpp_page_fault",
	"kvmpp_pio", "kvmpp_mmio", "kvmpp_msr", "kvmpp_cpuid"};

} // namespace

TEST(every_event_is_there)
{
	need_tracing();
	char path[200], text[4096];
	for (const char *event : events) {
		snprintf(path, sizeof path, TRACING "events/kvmpp/%s/format", event);
		CHECK(read_text(path, text, sizeof text) > 0);
		CHECK(strstr(text, "vcpu") != nullptr);
	}
}

TEST(a_run_is_traced)
{
	need_tracing();
	trace_a_run("");
	check_said("kvmpp_entry: vcpu 0 rip 0x1000");
	check_said("kvmpp_exit: vcpu 0 reason CPUID rip 0x1005");
	check_said("kvmpp_exit: vcpu 0 reason HLT");
	check_said("kvmpp_cpuid: vcpu 0 leaf 0x40000000 subleaf 0x0 eax 0x4");
	check_said("kvmpp_pio: vcpu 0 write port 0x10 size 1 count 1 value 0x55");
	check_said("kvmpp_pio: vcpu 0 read port 0x11 size 1 count 1 value 0x77");
	check_said("kvmpp_mmio: vcpu 0 write address 0xd0000008 size 4 value 0x1234");
	check_said("kvmpp_mmio: vcpu 0 read address 0xd0000010 size 4 value 0xabcd");
	check_said("kvmpp_msr: vcpu 0 read msr 0xfe value");
	check_said("kvmpp_msr: vcpu 0 write msr 0x8b value 0x0");
	check_said("kvmpp_msr: vcpu 0 read msr 0x12345678 value 0x0 #GP");
	check_said("kvmpp_inj_virq: vcpu 0 vector 0xd type exception");
	check_said("kvmpp_page_fault: vcpu 0");
	check_said("address 0x100000 qualification");
}

TEST(events_are_switched_one_by_one)
{
	need_tracing();
	for (const char *chosen : events) {
		trace_a_run(chosen);
		for (const char *event : events) {
			char shown[64];
			snprintf(shown, sizeof shown, "%s:", event);
			if (!CHECK_EQ(strstr(trace, shown) != nullptr, !strcmp(event, chosen)))
				note("%s while %s is on", event, chosen);
		}
	}
}

TEST(nothing_is_traced_afterwards)
{
	need_tracing();
	trace_a_run("");
	write_text(TRACING "trace", "");
	run_traced();
	read_text(TRACING "trace", trace, sizeof trace);
	CHECK(strstr(trace, "kvmpp_") == nullptr);
}

TEST(events_are_switched_while_a_guest_runs)
{
	need_tracing();
	struct {
		bool stop = false;
	} state;
	auto flip = [](void *what) {
		auto *shared = static_cast<decltype(state) *>(what);
		for (bool on = true; !__atomic_load_n(&shared->stop, __ATOMIC_ACQUIRE); on = !on)
			switch_events("", on);
		switch_events("", false);
	};
	Thread flipper{flip, &state};
	for (int i = 0; i < 20; ++i)
		run_traced();
	__atomic_store_n(&state.stop, true, __ATOMIC_RELEASE);
	flipper.join();
	// The core's counter of events that are on is where it was.
	write_text(TRACING "trace", "");
	run_traced();
	read_text(TRACING "trace", trace, sizeof trace);
	CHECK(strstr(trace, "kvmpp_") == nullptr);
}
