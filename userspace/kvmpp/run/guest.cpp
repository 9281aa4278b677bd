// SPDX-License-Identifier: GPL-2.0-only
// Building a machine, running its processors, and telling how it ended.
#include "kvmpp/run/guest.h"

#include <array>
#include <csignal>
#include <pthread.h>
#include "kvmpp/device.h"
#include "kvmpp/exit_status.h"
#include "kvmpp/refusal.h"
#include "kvmpp/run/layout.h"
#include "kvmpp/run/processor.h"
#include "kvmpp/text.h"

namespace kvmpp::command
{

using lib::u64;

namespace
{

// Takes a thread out of KVM_RUN; its handler does nothing.
constexpr int kick = SIGUSR1;

void install_kick()
{
	struct sigaction action {};
	action.sa_handler = [](int) {};
	::sigaction(kick, &action, nullptr);
}

void require_extensions(const lib::System &system, unsigned cpus)
{
	constexpr struct {
		int number;
		const char *name;
	} required[] = {
		{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
		{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
		{KVM_CAP_PIT2, "KVM_CAP_PIT2"},
		{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
	};
	for (const auto &extension : required) {
		if (!system.extension(extension.number))
			throw Refusal{std::string{"this device has no "} + extension.name};
	}
	const int limit = std::max(system.extension(KVM_CAP_MAX_VCPUS), 1);
	if (cpus > static_cast<unsigned>(limit))
		throw Refusal{
			"this device has at most " + std::to_string(limit) + " CPUs for a machine"};
}

} // namespace

Guest::Guest(const lib::System &system, const BootRequest &request, Wiring wiring)
	: machine_{create_machine(system)}, wiring_{std::move(wiring)},
	  platform_{{
		  .send = wiring_.send,
		  .interrupt =
			  [this](bool level) {
				  need(machine_.set_irq_line(layout::serial_irq, level));
			  },
	  }}
{
	require_extensions(system, request.cpus);
	need(machine_.set_identity_map_address(layout::identity_map));
	need(machine_.set_tss_address(layout::tss));
	need(machine_.create_irqchip());
	need(machine_.create_pit(KVM_PIT_SPEAKER_DUMMY));

	const u64 low = low_memory(request.memory);
	auto memory = need(lib::Mapping::guest_memory(low));
	load(memory.bytes(), request);
	need(machine_.add_memory(0, 0, std::move(memory)));
	if (const u64 high = request.memory - low) {
		auto rest = need(lib::Mapping::guest_memory(high));
		need(machine_.add_memory(1, layout::high_memory, std::move(rest)));
	}

	const lib::Cpuid supported = need(system.supported_cpuid());
	const bool has_deadline = system.extension(KVM_CAP_TSC_DEADLINE_TIMER);
	for (unsigned index = 0; index < request.cpus; index++) {
		vcpus_.push_back(need(machine_.create_vcpu(index)));
		prepare(vcpus_.back(), cpuid_of(supported, index, request.cpus, has_deadline),
			index == 0);
	}
}

Guest::~Guest()
{
	stop({exit_error, {}});
}

void Guest::start()
{
	install_kick();
	for (std::size_t index = 0; index < vcpus_.size(); index++)
		threads_.emplace_back([this, index] { run_vcpu(index); });
}

Outcome Guest::stop(const Outcome &reason)
{
	end(reason);
	for (std::size_t index = 0; index < threads_.size(); index++) {
		// Either the signal finds the thread in KVM_RUN, or the request the next KVM_RUN.
		vcpus_[index].request_exit();
		::pthread_kill(threads_[index].native_handle(), kick);
	}
	for (std::thread &thread : threads_)
		thread.join();
	threads_.clear();
	return *outcome_;
}

// The first to come counts.
void Guest::end(Outcome outcome)
{
	const std::lock_guard guard{lock_};
	if (!outcome_)
		outcome_ = std::move(outcome);
	stopping_ = true;
}

void Guest::run_vcpu(std::size_t index)
try {
	while (!stopping_) {
		if (auto outcome = handle(index, need(vcpus_[index].run()))) {
			end(std::move(*outcome));
			wiring_.ended();
		}
	}
} catch (const std::exception &error) {
	end({exit_failure, error.what()});
	wiring_.ended();
}

std::optional<Outcome> Guest::handle(std::size_t index, const lib::Exit &exit)
{
	using namespace lib::exits;
	using Answer = std::optional<Outcome>;
	const auto failure = [&](const std::string &what) -> Answer {
		return Outcome{exit_failure, what + place(index)};
	};
	return std::visit(
		lib::Handlers{
			[&](const Io &access) -> Answer {
				const auto request = platform_.serve(access);
				if (!request)
					return {};
				const bool off = *request == PowerRequest::power_off;
				return Outcome{off ? exit_ok : exit_reset, {}};
			},
			[](const Mmio &access) -> Answer {
				Platform::serve(access);
				return {};
			},
			[](const Interrupted &) -> Answer { return {}; },
			[&](const Shutdown &) -> Answer {
				return Outcome{exit_triple_fault,
					"the guest ended in a triple fault" + place(index)};
			},
			[&](const FailedEntry &entry) -> Answer {
				return failure("the processor refused to enter the guest, reason " +
					       hex(entry.hardware_reason));
			},
			[&](const InternalError &error) -> Answer {
				std::string text = "KVM internal error, suberror " +
						   std::to_string(error.suberror) + ", data";
				for (const u64 word : error.data)
					text += " " + hex(word);
				return failure(text);
			},
			[&](const SystemEvent &event) -> Answer {
				return failure("system event " + std::to_string(event.type));
			},
			[&](const Other &other) -> Answer {
				return failure("unexpected exit " + std::to_string(other.reason));
			},
			[&](const auto &) -> Answer {
				return failure("an exit that was not asked for");
			},
		},
		exit);
}

// Where that processor is, for a message.
std::string Guest::place(std::size_t index) const
{
	const auto regs = vcpus_[index].regs();
	return ", vCPU " + std::to_string(index) + (regs ? " at rip " + hex(regs->rip) : "");
}

} // namespace kvmpp::command
