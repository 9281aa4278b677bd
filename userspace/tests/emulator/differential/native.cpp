// SPDX-License-Identifier: GPL-2.0-only
#include "tests/emulator/differential/native.h"

#include <csignal>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/emulator/differential/native_child.h"

namespace kvmpp::x86::emulator::differential
{

bool NativeSide::start()
{
	int down[2], up[2];
	if (pipe(down) || pipe(up))
		return false;
	child_ = fork();
	if (child_ < 0)
		return false;
	if (child_ == 0) {
		close(down[1]);
		close(up[0]);
		run_child(batch_, down[0], up[1]);
	}
	close(down[0]);
	close(up[1]);
	to_child_ = down[1];
	from_child_ = up[0];
	return true;
}

void NativeSide::stop()
{
	if (!child_)
		return;
	kill(child_, SIGKILL);
	waitpid(child_, nullptr, 0);
	close(to_child_);
	close(from_child_);
	child_ = 0;
}

NativeSide::~NativeSide()
{
	stop();
}

bool NativeSide::run()
{
	constexpr int patience_ms = 20'000;
	if (!child_ && !start())
		return false;
	u8 word = 0;
	pollfd answer{from_child_, POLLIN, 0};
	if (write(to_child_, &word, 1) == 1 && poll(&answer, 1, patience_ms) == 1 &&
		read(from_child_, &word, 1) == 1)
		return true;
	stop();
	return false;
}

} // namespace kvmpp::x86::emulator::differential
