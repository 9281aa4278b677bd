// SPDX-License-Identifier: GPL-2.0-only
// The machine as a whole: memory, processors with a thread each, devices; from its start to its
// end.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>
#include "kvmpp/run/boot.h"
#include "kvmpp/run/platform.h"
#include "lib/system.h"

namespace kvmpp::command
{

// How a guest's run ended: an exit status, and a line for the user where there is one to say.
struct Outcome {
	int status;
	std::string message;
};

class Guest {
public:
	// What it needs of the console.
	struct Wiring {
		std::function<void(lib::u8)> send;
		std::function<void()> ended; // from a vCPU's thread
	};

	// Builds it; throws a Refusal.
	Guest(const lib::System &system, const BootRequest &request, Wiring wiring);
	~Guest();

	void start();
	// Ends it if it still runs. The answer is what ended it, which may have come first.
	Outcome stop(const Outcome &reason);

	Platform &platform() { return platform_; }

private:
	void run_vcpu(std::size_t index);
	std::optional<Outcome> handle(std::size_t index, const lib::Exit &exit);
	void end(Outcome outcome);
	std::string place(std::size_t index) const;

	lib::Machine machine_;
	Wiring wiring_;
	Platform platform_;
	std::vector<lib::VirtualCpu> vcpus_;
	std::vector<std::thread> threads_;

	std::atomic<bool> stopping_ = false;
	std::mutex lock_;
	std::optional<Outcome> outcome_;
};

} // namespace kvmpp::command
