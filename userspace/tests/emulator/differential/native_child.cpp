// SPDX-License-Identifier: GPL-2.0-only
// The child: maps the arena, runs states, and catches what they raise.
#include "tests/emulator/differential/native_child.h"

#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <asm/prctl.h>
#include <ucontext.h>
#include <unistd.h>
#include "tests/emulator/differential/emulated.h"

namespace kvmpp::x86::emulator::differential
{

namespace
{

// As switch.S knows it.
struct Exchange {
	Registers64 registers;
	u8 padding[0x100 - sizeof(Registers64)];
	u64 home, home_fs, home_gs;
	u64 extended, segments, bases;
	u32 quiet_mxcsr;
	u8 more[0x400 - 0x134];
	XsaveImage image;
};
static_assert(offsetof(Registers64, rip) == 0x80 && offsetof(Registers64, ds) == 0xa0);
static_assert(offsetof(Exchange, home) == 0x100 && offsetof(Exchange, quiet_mxcsr) == 0x130);
static_assert(offsetof(Exchange, image) == 0x400);

constexpr u64 exchange_page = 0x3000'0000, leave_page = 0x3001'0000;
constexpr u8 int3 = 0xcc;

Exchange *exchange;
u8 *code; // writable view of the code page
Ending *current;
u64 current_start;

} // namespace

extern "C" void native_enter();
extern "C" void native_leave();
extern "C" void native_home();
extern "C" void native_handler(int, siginfo_t *, void *);

// What the processor has raised, from the frame that the kernel made of it.
extern "C" __attribute__((used)) void native_signal(int, siginfo_t *, void *context)
{
	constexpr u32 instruction_fetch = 0x10;
	auto &machine = static_cast<ucontext_t *>(context)->uc_mcontext;
	auto &g = machine.gregs;
	constexpr int order[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI,
		REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
	Registers64 &to = exchange->registers;
	for (unsigned i = 0; i < 16; ++i)
		to.gpr[i] = static_cast<u64>(g[order[i]]);
	to.rip = static_cast<u64>(g[REG_RIP]);
	to.rflags = static_cast<u64>(g[REG_EFL]);
	current->vector = static_cast<u8>(g[REG_TRAPNO]);
	current->error_code = static_cast<u32>(g[REG_ERR]);
	current->address = static_cast<u64>(g[REG_CR2]);
	if (exchange->extended && machine.fpregs)
		memcpy(exchange->image.legacy, machine.fpregs, sizeof(exchange->image));

	// The end of a branch: our own INT3, or a page without code.
	const bool ours = current->vector == static_cast<u8>(Vector::breakpoint);
	const bool nowhere = current->vector == static_cast<u8>(Vector::page_fault) &&
			     current->error_code & instruction_fetch &&
			     current->address == to.rip && to.rip != current_start;
	if (ours)
		--to.rip;
	if (ours || nowhere) {
		current->vector = Ending::no_vector;
		current->error_code = 0;
	}

	g[REG_RIP] = static_cast<greg_t>(reinterpret_cast<u64>(&native_home));
	g[REG_RSP] = static_cast<greg_t>(exchange->home);
	g[REG_EFL] = 0x202;
}

namespace
{

void *map_at(u64 address, u64 size, int protection, int fd = -1)
{
	const int flags = MAP_FIXED | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
	void *const at = mmap(reinterpret_cast<void *>(address), size, protection, flags, fd, 0);
	if (at == MAP_FAILED)
		_exit(3);
	return at;
}

void map_arena(const Batch &batch)
{
	map_at(arena, arena_size, PROT_NONE);
	auto *data = static_cast<u8 *>(map_at(data_pages, data_size, PROT_READ | PROT_WRITE));
	memcpy(data, batch.image, data_size);
	void *const constant = map_at(constant_page, page_size, PROT_READ | PROT_WRITE);
	memcpy(constant, batch.image + data_size, page_size);
	mprotect(constant, page_size, PROT_READ);

	// One view to write code by, another to execute it.
	const int fd = static_cast<int>(syscall(SYS_memfd_create, "code", 0));
	if (fd < 0 || ftruncate(fd, page_size))
		_exit(3);
	map_at(code_page, page_size, PROT_READ | PROT_EXEC, fd);
	code = static_cast<u8 *>(
		mmap(nullptr, page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	memset(code, int3, page_size);

	exchange = static_cast<Exchange *>(
		map_at(exchange_page, sizeof(Exchange), PROT_READ | PROT_WRITE));
	exchange->quiet_mxcsr = 0x1f80;
	// jmp *2(%rip) to native_leave, where a near jump from the code page reaches it. The
	// address is aligned, as RFLAGS.AC may be set.
	auto *leave = static_cast<u8 *>(map_at(leave_page, page_size, PROT_READ | PROT_WRITE));
	constexpr u8 jump[] = {0xff, 0x25, 2, 0, 0, 0, int3, int3};
	const u64 to = reinterpret_cast<u64>(&native_leave);
	memcpy(leave, jump, sizeof(jump));
	memcpy(leave + sizeof(jump), &to, sizeof(to));
	mprotect(leave, page_size, PROT_READ | PROT_EXEC);
}

void catch_signals()
{
	constexpr usize size = 65536;
	stack_t stack{};
	stack.ss_sp =
		mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack.ss_size = size;
	struct sigaction action {};
	action.sa_sigaction = native_handler;
	action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
	if (sigaltstack(&stack, nullptr))
		_exit(3);
	for (int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP})
		if (sigaction(signal, &action, nullptr))
			_exit(3);
}

void set_bases()
{
	syscall(SYS_arch_prctl, ARCH_GET_FS, &exchange->home_fs);
	syscall(SYS_arch_prctl, ARCH_SET_GS, gs_base);
	exchange->home_gs = gs_base;
	exchange->bases = can_read_bases();
}

void run_state(const State &state, Ending &result, const Batch &batch)
{
	auto *data = reinterpret_cast<u8 *>(data_pages);
	const u64 offset = state.registers.rip - code_page;
	const u64 placed = std::min<u64>(state.code_size, page_size - offset);
	memcpy(code + offset, state.code, placed);
	u64 end = offset + placed;
	if (state.falls_through && end + 5 <= page_size) {
		const u32 distance = static_cast<u32>(leave_page - (code_page + end + 5));
		code[end] = 0xe9;
		memcpy(code + end + 1, &distance, 4);
		end += 5;
	}
	memcpy(data + state.poke_at, state.poke, state.poke_size);
	exchange->registers = state.registers;
	exchange->extended = state.uses_extended;
	exchange->segments = state.uses_segments;
	if (state.uses_extended)
		exchange->image = state.extended;
	result.vector = Ending::no_vector;
	result.error_code = 0;
	result.address = 0;
	current = &result;
	current_start = state.registers.rip;

	native_enter();

	result.registers = exchange->registers;
	if (result.vector == Ending::no_vector && state.falls_through)
		result.registers.rip = state.registers.rip + state.code_size;
	if (state.uses_extended)
		result.extended = exchange->image;
	take_changes(result.changed, data, batch.image);
	memset(code + offset, int3, end - offset);
}

} // namespace

bool can_read_bases()
{
	constexpr unsigned long hwcap2_fsgsbase = 1 << 1;
	return getauxval(AT_HWCAP2) & hwcap2_fsgsbase;
}

void run_child(Batch &batch, int from_parent, int to_parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	map_arena(batch);
	catch_signals();
	set_bases();
	u8 word = 0;
	while (read(from_parent, &word, 1) == 1) {
		for (; batch.at < batch.count; ++batch.at)
			if (batch.states[batch.at].run)
				run_state(batch.states[batch.at], batch.results[batch.at], batch);
		if (write(to_parent, &word, 1) != 1)
			break;
	}
	_exit(0);
}

} // namespace kvmpp::x86::emulator::differential
