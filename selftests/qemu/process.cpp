// SPDX-License-Identifier: GPL-2.0-only
#include "process.h"
#include "deadline.h"
#include "step.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace kvmpp::qemu
{

Process::Process(const std::vector<std::string> &command, const char *prefix)
{
	int to[2], from[2];
	if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0 || (pid_ = fork()) < 0)
		fail("there is no process for %s", command[0].c_str());
	if (pid_ == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(to[0], STDIN_FILENO);
		dup2(from[1], STDOUT_FILENO);
		std::vector<char *> words;
		for (const std::string &word : command)
			words.push_back(const_cast<char *>(word.c_str()));
		words.push_back(nullptr);
		execv(words[0], words.data());
		perror(words[0]);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	terminal_ = new Stream{from[0], to[1], prefix};
}

Process::~Process()
{
	if (pid_ > 0) {
		kill(pid_, SIGKILL);
		waitpid(pid_, nullptr, 0);
	}
	delete terminal_;
}

bool Process::ended()
{
	if (pid_ && waitpid(pid_, &status_, WNOHANG) == pid_)
		pid_ = 0;
	return !pid_;
}

int Process::exit_status(double seconds)
{
	Deadline deadline{seconds};
	// What it still says has to be read, or it might not come to its end.
	while (!ended()) {
		if (deadline.passed())
			fail("no end of it after %.0f s", seconds);
		if (!terminal_->line(0.1))
			usleep(50'000);
	}
	while (terminal_->line(0))
		;
	return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
}

} // namespace kvmpp::qemu
