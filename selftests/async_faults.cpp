// SPDX-License-Identifier: GPL-2.0-only
// A guest that does something else while its host brings a page in: KVM's asynchronous page faults. The
// pages are missing until the test, which hears of them by userfaultfd, gives them.
#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "interrupts.h"
#include "modules.h"

using namespace kvmpp::selftests;

namespace
{

// Where the missing page is, in slot 1.
constexpr u64 window = 0x40000000;
constexpr u32 content = 0x12345678;
// What the guest shares with its host (flags and token), and its notes for the test.
constexpr u64 shared = 0x12000, faults = 0x10000, token_in_cr2 = 0x10008, flags_seen = 0x10010,
	      token_seen = 0x10020, value_read = 0x10028;
constexpr u8 page_fault = 14, ready = 0xec;
// What the guest tells by its port.
enum : u32 { enabled = 0, without_page = 1, with_page = 2 };

// Notes what it was told, and returns to RBP instead of the access, whose address it notes too.
GUEST_CODE(page_fault_handler, 64, R"(
	push %rax
	incq 0x10000
	mov %cr2, %rax
	mov %rax, 0x10008
	mov 0x12000, %eax
	mov %eax, 0x10010
	movl $0, 0x12000
	mov 16(%rsp), %rax
	mov %rax, 0x10018
	mov %rbp, 16(%rsp)
	pop %rax
	add $8, %rsp
	iretq
)");

GUEST_CODE(ready_handler, 64,
	"mov 0x12004, %r8d\n"
	"mov %r8, 0x10020\n"
	"movl $0, 0x12004\n" COUNTING_HANDLER(MSR_WRITE(0x80b, 0, 0) MSR_WRITE(0x4b564d07, 1, 0)));

#define TELL(what) "mov $" #what ", %al\n" REPORT
#define ENABLE(flags)                                                  \
	X2APIC_ENABLE MSR_WRITE(0x4b564d06, 0xec, 0)                   \
		MSR_WRITE(0x4b564d02, 0x12000 + flags, 0)              \
			WAIT_FOR_INTERRUPTS(1) "sti\n" TELL(0)
// The access, and what is done without the page: waiting for it, by an instruction of the level.
#define ACCESS(wait)                \
	"lea 5f(%rip), %rbp\n"      \
	"mov 0x40000000, %eax\n"    \
	"mov %eax, 0x10028\n"       \
	TELL(2)                     \
	"5:" TELL(1)                \
	"6: cli\n"                  \
	"cmp $2, %rbx\n"            \
	"jae 4f\n"                  \
	"sti\n" wait                \
	"jmp 6b\n"                  \
	"4: sti\n"                  \
	"jmp *0x10018\n"
#define ENTER_USER_MODE                        \
	"pushq $0x23\n pushq $0x18000\n"       \
	"pushq $0x3202\n pushq $0x2b\n"        \
	"lea 3f(%rip), %rax\n pushq %rax\n"    \
	"iretq\n 3:\n"

GUEST_CODE(kernel_mode, 64, ENABLE(11) ACCESS("hlt\n"));
GUEST_CODE(user_mode, 64, ENABLE(9) ENTER_USER_MODE ACCESS("pause\n"));
GUEST_CODE(kernel_mode_untold, 64, ENABLE(9) ACCESS("hlt\n"));
GUEST_CODE(interrupts_off, 64, ENABLE(11) "cli\n" ACCESS("hlt\n"));
GUEST_CODE(not_enabled, 64, "sti\n" ACCESS("hlt\n"));
GUEST_CODE(switches_off, 64,
	ENABLE(11) "lea 5f(%rip), %rbp\n"
		   "mov 0x40000000, %eax\n"
		   "5:" MSR_WRITE(0x4b564d02, 0, 0) TELL(1) "1: pause\n cmpl $0, 0x10030\n je 1b\n" TELL(2));

// A page of the process that is missing until somebody gives it.
class MissingPage {
public:
	MissingPage() : fd_(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)))
	{
		if (fd_ < 0)
			skip_test("no userfaultfd");
		uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
		REQUIRE_EQ(ioctl(fd_, UFFDIO_API, &api), 0);
		uffdio_register range{.range = {address(), page},
			.mode = UFFDIO_REGISTER_MODE_MISSING,
			.ioctls = 0};
		REQUIRE_EQ(ioctl(fd_, UFFDIO_REGISTER, &range), 0);
	}
	~MissingPage() { ::close(fd_); }

	void *bytes() const { return backing_.bytes(); }
	void duplicate() const { REQUIRE(dup(fd_) >= 0); }
	// Whether somebody wants it, or comes to want it within that time.
	bool wanted(int milliseconds) const
	{
		pollfd what{.fd = fd_, .events = POLLIN, .revents = 0};
		return poll(&what, 1, milliseconds) == 1;
	}
	void give()
	{
		if (given_.exchange(true))
			return;
		Backing source{page};
		*reinterpret_cast<u32 *>(source.bytes()) = content;
		uffdio_copy copy{.dst = address(),
			.src = reinterpret_cast<u64>(source.bytes()),
			.len = page,
			.mode = 0,
			.copy = 0};
		CHECK_EQ(ioctl(fd_, UFFDIO_COPY, &copy), 0);
	}

private:
	u64 address() const { return reinterpret_cast<u64>(backing_.bytes()); }

	Backing backing_{page};
	int fd_;
	std::atomic<bool> given_{false};
};

struct Fixture : Guest {
	Fixture(const Code &code, const MissingPage &missing)
		: Guest(Mode::long_mode, code, with_irqchip)
	{
		NEED(system, KVM_CAP_ASYNC_PF);
		NEED(system, KVM_CAP_ASYNC_PF_INT);
		REQUIRE_EQ(vm.set_slot(1, window, page, missing.bytes()), 0);
		set_handler(page_fault, page_fault_handler);
		set_handler(ready, ready_handler);
	}
	void check_told() const
	{
		CHECK_EQ(value<u64>(faults), 1u);
		CHECK_EQ(value<u32>(flags_seen), 1u);
		CHECK(value<u64>(token_in_cr2) != 0);
		CHECK(value<u64>(token_in_cr2) != 0xffffffff);
	}
};

// Gives the page to whoever waits for it: at once, or after a time that is long enough for a guest that
// does not wait.
class Giver {
public:
	Giver(MissingPage &missing, unsigned seconds) : missing_(missing), seconds_(seconds) {}
	~Giver() { done_ = true; }

private:
	void run()
	{
		while (!done_ && !missing_.wanted(100))
			;
		for (unsigned i = 0; !done_ && i < seconds_ * 10; ++i)
			usleep(100'000);
		if (!done_)
			missing_.give();
	}

	MissingPage &missing_;
	const unsigned seconds_;
	std::atomic<bool> done_{false};
	Thread thread_{[](void *self) { static_cast<Giver *>(self)->run(); }, this};
};

// The guest goes on without its page, hears of it when it is there, and finds it.
void page_comes_later(const Code &code)
{
	MissingPage missing;
	Fixture guest{code, missing};
	Giver giver{missing, 20}; // so that a guest that waits fails, and does not hang
	CHECK_EQ(guest.run_to_out(report_port), enabled);
	CHECK_EQ(guest.value<u32>(token_seen), 0xffffffffu);
	CHECK_EQ(guest.run_to_out(report_port), without_page);
	guest.check_told();
	CHECK_EQ(guest.value<u32>(value_read), 0u);
	CHECK(missing.wanted(10'000));
	missing.give();
	CHECK_EQ(guest.run_to_out(report_port), with_page);
	CHECK_EQ(guest.value<u32>(value_read), content);
	CHECK_EQ(guest.value<u64>(token_seen), guest.value<u64>(token_in_cr2));
	CHECK_EQ(guest.value<u64>(faults), 1u);
}

// The processor waits, and the guest hears nothing.
void page_is_waited_for(const Code &code, bool enables = true)
{
	MissingPage missing;
	Fixture guest{code, missing};
	Giver giver{missing, 0};
	if (enables)
		CHECK_EQ(guest.run_to_out(report_port), enabled);
	CHECK_EQ(guest.run_to_out(report_port), with_page);
	CHECK_EQ(guest.value<u32>(value_read), content);
	CHECK_EQ(guest.value<u64>(faults), 0u);
}

} // namespace

TEST(user_code_goes_on_without_a_page)
{
	page_comes_later(user_mode);
}

TEST(kernel_code_goes_on_where_it_wants_to)
{
	page_comes_later(kernel_mode);
}

TEST(kernel_code_waits_otherwise)
{
	page_is_waited_for(kernel_mode_untold);
}

TEST(code_with_interrupts_off_waits)
{
	page_is_waited_for(interrupts_off);
}

TEST(without_the_msr_pages_are_waited_for)
{
	page_is_waited_for(not_enabled, false);
}

TEST(switched_off_nothing_more_is_heard)
{
	if (!is_kvmpp()) // where the guest's WRMSR waits for the page
		skip_test("for kvmpp");
	MissingPage missing;
	Fixture guest{switches_off, missing};
	Giver giver{missing, 20};
	CHECK_EQ(guest.run_to_out(report_port), enabled);
	CHECK_EQ(guest.run_to_out(report_port), without_page);
	guest.check_told();
	CHECK(missing.wanted(10'000));
	missing.give();
	usleep(100'000);
	guest.value<u32>(0x10030) = 1;
	CHECK_EQ(guest.run_to_out(report_port), with_page);
	CHECK_EQ(guest.vcpu.regs().rbx, 1u);
	CHECK_EQ(guest.value<u32>(shared + 4), 0u);
}

TEST(the_end_of_a_vm_waits_for_no_page)
{
	if (!is_kvmpp()) // where it does
		skip_test("for kvmpp");
	MissingPage missing;
	{
		Fixture guest{kernel_mode, missing};
		CHECK_EQ(guest.run_to_out(report_port), enabled);
		CHECK_EQ(guest.run_to_out(report_port), without_page);
		CHECK(missing.wanted(10'000));
	}
	CHECK(missing.wanted(0));
	missing.give();
}

TEST(the_end_of_a_process_waits_for_no_page)
{
	if (!is_kvmpp()) // where it does
		skip_test("for kvmpp");
	const pid_t child = fork();
	REQUIRE(child >= 0);
	if (child == 0) {
		MissingPage missing;
		Fixture guest{kernel_mode, missing};
		// Closed after the VM.
		missing.duplicate();
		guest.run_to_out(report_port);
		guest.run_to_out(report_port);
		_exit(guest.value<u64>(faults) == 1 && missing.wanted(10'000) ? 0 : 1);
	}
	int status = -1;
	for (unsigned i = 0; i < 200 && waitpid(child, &status, WNOHANG) == 0; ++i)
		usleep(100'000);
	CHECK_EQ(status, 0);
}

TEST(a_page_under_way_keeps_the_module)
{
	if (!is_kvmpp()) // where the end of the VM waits for it
		skip_test("for kvmpp");
	need_modules();
	MissingPage missing;
	{
		Fixture guest{kernel_mode, missing};
		CHECK_EQ(guest.run_to_out(report_port), enabled);
		CHECK_EQ(guest.run_to_out(report_port), without_page);
		CHECK(missing.wanted(10'000));
	}
	usleep(100'000);
	CHECK_EQ(unload(module_name()), -EAGAIN);
	missing.give();
	CHECK_EQ(unload_soon(module_name()), 0);
	load_all();
}

TEST(the_msrs_are_saved)
{
	System system;
	NEED(system, KVM_CAP_ASYNC_PF_INT);
	MsrList list{};
	list.nmsrs = 1024;
	REQUIRE_EQ(system.call(KVM_GET_MSR_INDEX_LIST, &list), 0);
	for (u32 index : {0x4b564d02, 0x4b564d06, 0x4b564d07})
		CHECK(list.has(index));
	MissingPage missing;
	Fixture guest{kernel_mode, missing};
	CHECK_EQ(guest.vcpu.set_msr(0x4b564d06, 0x1ec), 0);
	CHECK_EQ(guest.vcpu.set_msr(0x4b564d06, ready), 1);
	CHECK_EQ(guest.vcpu.set_msr(0x4b564d02, shared | 0x10), 0);
	CHECK_EQ(guest.vcpu.set_msr(0x4b564d02, shared | 0x20), 0);
	CHECK_EQ(guest.vcpu.set_msr(0x4b564d02, 0xd0000000 | 9), 0); // no RAM
	CHECK_EQ(guest.vcpu.set_msr(0x4b564d02, shared | 9), 1);
	CHECK_EQ(guest.vcpu.msr(0x4b564d02), shared | 9);
	CHECK_EQ(guest.vcpu.msr(0x4b564d06), ready);
	CHECK_EQ(guest.vcpu.msr(0x4b564d07), 0u);
}
