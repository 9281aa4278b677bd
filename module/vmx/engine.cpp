// SPDX-License-Identifier: GPL-2.0-only
#include "vmx/engine.h"

#include <asm/processor-flags.h>
#include <atomic>
#include "host/log.h"
#include "host/seam.h"
#include "host/task.h"
#include "x86/msr.h"

namespace kvmpp::vmx
{
namespace
{

namespace msr = x86::msr;

class HotplugHeld : host::Pinned {
    public:
	HotplugHeld() { kvmpp_cpu_hotplug_lock(); }
	~HotplugHeld() { kvmpp_cpu_hotplug_unlock(); }
};

// What one CPU says against running guests with the capabilities of the first one.
struct Survey {
	const Capabilities *expected;
	std::atomic<int> odd_cpu{-1};
	std::atomic<const char *> missing{nullptr};
};

void survey_cpu(void *context)
{
	auto &survey = *static_cast<Survey *>(context);
	const auto found = read_capabilities();
	if (found && *found == *survey.expected)
		return;
	survey.missing = found ? "the VT-x capabilities of the other CPUs" : found.error().missing;
	survey.odd_cpu = static_cast<int>(kvmpp_cpu_current());
}

} // namespace

namespace instruction
{

void access_failed(const char *name, u32 field, u64 value)
{
	// Where VT-x was taken away, by a reboot or by the machine's other hypervisor, that is known.
	if (kvmpp_cr4_read() & X86_CR4_VMXE)
		KVMPP_ERROR("%s of VMCS field %#x refused (value %#llx)", name, field, value);
}

} // namespace instruction

Engine::Engine(Sharing sharing, host::Array<Processor> processors, const Capabilities &capabilities,
	const Controls &controls)
	: sharing_{sharing}, capabilities_{capabilities}, controls_{controls},
	  processors_{std::move(processors)}
{
	for (Processor &processor : processors_)
		processor.engine = this;
}

Engine::~Engine() = default;

Result<host::Own<Engine>> Engine::create(Sharing sharing)
{
	const auto capabilities = read_capabilities();
	if (!capabilities) {
		KVMPP_ERROR("not loaded: this machine lacks %s", capabilities.error().missing);
		return fail(EOPNOTSUPP);
	}
	auto controls = choose_controls(*capabilities);
	if (!controls) {
		KVMPP_ERROR("not loaded: this machine's VT-x lacks %s", controls.error().missing);
		return fail(EOPNOTSUPP);
	}

	// Every real processor that delivers interrupts by itself has posted interrupts. Bochs has not, and
	// says something stale of a delivery that an exit has interrupted.
	const int apicv = kvmpp_apicv();
	if (apicv == 0)
		controls->secondary &= ~secondary::apic_virtualization;
	if (apicv < 0 && !(capabilities->pin.allowed & pin::posted_interrupts))
		controls->secondary &= ~secondary::apic_delivery;

	if (!kvmpp_pml())
		controls->secondary &= ~secondary::pml;

	HotplugHeld held;
	Survey survey{&*capabilities};
	kvmpp_cpu_run_on_all(survey_cpu, &survey);
	if (survey.odd_cpu >= 0) {
		KVMPP_ERROR("not loaded: CPU %d lacks %s", survey.odd_cpu.load(), survey.missing.load());
		return fail(EOPNOTSUPP);
	}

	auto processors = TRY(host::Array<Processor>::create(kvmpp_cpu_limit()));
	for (usize cpu = 0; cpu < processors.size(); ++cpu) {
		host::Page region = TRY(host::Page::create(kvmpp_cpu_node(cpu)));
		*region.as<u32>() = capabilities->revision;
		processors[cpu].vmxon_region = std::move(region);
	}
	auto engine = TRY(host::make<Engine>(sharing, std::move(processors), *capabilities, *controls));
	TRY(engine->l1d_flush_.create(engine->mitigations_));
	return engine;
}

Processor &Engine::here()
{
	return processors_[kvmpp_cpu_current()];
}

// One switching-on of all CPUs: how many refused.
struct Engine::Attempt {
	Engine *engine;
	std::atomic<int> error{0};
};

void Engine::check_holder(void *context)
{
	auto &attempt = *static_cast<Attempt *>(context);
	if (kvmpp_cr4_read() & X86_CR4_VMXE && !attempt.engine->here().on)
		attempt.error = EBUSY;
}

Result<> Engine::processor_on(Processor &processor)
{
	if (processor.on)
		return {};
	if (stopped_)
		return fail(EIO);
	if (kvmpp_cr4_read() & X86_CR4_VMXE)
		return fail(EBUSY);

	// VMXON needs the firmware's permission locked (SDM vol. 3, 24.7).
	using namespace msr::feature_control_bits;
	u64 control = 0;
	kvmpp_msr_read(msr::feature_control, &control);
	if (!(control & locked))
		kvmpp_msr_write(msr::feature_control, control | vmx_outside_smx | locked);

	kvmpp_cr4_set_vmxe(1);
	if (!instruction::vmxon(processor.vmxon_region.physical())) {
		kvmpp_cr4_set_vmxe(0);
		return fail(EIO);
	}
	processor.on = true;
	// Whoever had VT-x before may have left translations behind.
	instruction::invept(instruction::InveptType::all_contexts, 0);
	return {};
}

void Engine::processor_off(Processor &processor)
{
	if (!processor.on)
		return;
	processor.on = false;
	while (processor.loaded)
		clear(*processor.loaded);
	kvmpp_user_return_msrs_restore();
	instruction::vmxoff();
	kvmpp_cr4_set_vmxe(0);
}

void Engine::switch_on(void *context)
{
	auto &attempt = *static_cast<Attempt *>(context);
	const auto result = attempt.engine->processor_on(attempt.engine->here());
	if (!result)
		attempt.error = result.error().value();
}

void Engine::switch_off(void *context)
{
	auto &engine = *static_cast<Engine *>(context);
	engine.processor_off(engine.here());
}

Result<> Engine::acquire()
{
	host::Mutex::Guard guard{users_lock_};
	HotplugHeld held;
	if (stopped_)
		return fail(EIO);
	if (users_ == 0 && sharing_ == Sharing::exclusive)
		TRY(switch_all_on());
	// Inside the hotplug lock: a CPU that comes up sees either all off or a user.
	++users_;
	return {};
}

Result<> Engine::switch_all_on()
{
	Attempt attempt{this};
	// Look before touching anything: a holder on one CPU must find nothing changed on any.
	kvmpp_cpu_run_on_all(check_holder, &attempt);
	if (!attempt.error) {
		kvmpp_cpu_run_on_all(switch_on, &attempt);
		if (attempt.error)
			kvmpp_cpu_run_on_all(switch_off, this);
	}
	if (!attempt.error)
		return {};
	if (attempt.error == EBUSY)
		KVMPP_ERROR("no VM created: another hypervisor holds VT-x");
	else
		KVMPP_ERROR("no VM created: VMXON failed");
	return fail(attempt.error);
}

void Engine::release()
{
	host::Mutex::Guard guard{users_lock_};
	if (--users_ > 0)
		return;
	HotplugHeld held;
	kvmpp_cpu_run_on_all(switch_off, this);
}

Result<> Engine::cpu_online()
{
	// The hotplug lock is held around this call, so no user comes or goes meanwhile.
	const auto found = read_capabilities();
	if (!found || *found != capabilities_) {
		KVMPP_ERROR("CPU %u stays offline: it lacks %s", kvmpp_cpu_current(),
			found ? "the VT-x capabilities of the other CPUs" : found.error().missing);
		return fail(EOPNOTSUPP);
	}
	if (users_ == 0 || sharing_ == Sharing::on_demand)
		return {};
	host::InterruptsOff off;
	return processor_on(here());
}

void Engine::cpu_offline()
{
	host::InterruptsOff off;
	processor_off(here());
}

void Engine::shut_down()
{
	host::Mutex::Guard guard{users_lock_};
	HotplugHeld held;
	stopped_ = true;
	kvmpp_cpu_run_on_all(switch_off, this);
}

void Engine::emergency_off()
{
	Processor &processor = here();
	if (!processor.on)
		return;
	processor.on = false;
	// What the processor has cached of them belongs into the crash dump. The list may be torn;
	// its end is not looked for twice.
	for (Vmcs *vmcs = processor.loaded; vmcs; vmcs = vmcs->next_)
		instruction::vmclear(vmcs->physical());
	instruction::vmxoff();
	kvmpp_cr4_set_vmxe(0);
}

Result<host::Own<Vmcs>> Engine::create_vmcs(int node)
{
	auto page = TRY(host::Page::create(node));
	*page.as<u32>() = capabilities_.revision;
	return host::make<Vmcs>(std::move(page));
}

// On the CPU where it is loaded, interrupts off.
void Engine::clear(Vmcs &vmcs)
{
	Processor &processor = here();
	instruction::vmclear(vmcs.physical());
	if (processor.current == &vmcs)
		processor.current = nullptr;
	*vmcs.link_ = vmcs.next_;
	if (vmcs.next_)
		vmcs.next_->link_ = vmcs.link_;
	vmcs.next_ = nullptr;
	vmcs.link_ = nullptr;
	vmcs.world.launched = false;
	// Last: from here another CPU may load it.
	vmcs.cpu_.store(Vmcs::nowhere, std::memory_order_release);
	if (sharing_ == Sharing::on_demand && !processor.loaded)
		processor_off(processor);
}

struct Engine::Clearing {
	Engine *engine;
	Vmcs *vmcs;
};

void Engine::clear_on_its_cpu(void *context)
{
	auto [engine, vmcs] = *static_cast<Clearing *>(context);
	// Its CPU may have gone offline, and cleared it, since the caller looked.
	if (vmcs->cpu_.load(std::memory_order_relaxed) == kvmpp_cpu_current())
		engine->clear(*vmcs);
}

void Engine::clear_anywhere(Vmcs &vmcs)
{
	const unsigned cpu = vmcs.cpu_.load(std::memory_order_acquire);
	if (cpu == Vmcs::nowhere)
		return;
	Clearing clearing{this, &vmcs};
	kvmpp_cpu_run_on(cpu, clear_on_its_cpu, &clearing);
}

void Engine::retire(Vmcs &vmcs)
{
	clear_anywhere(vmcs);
}

// Another hypervisor that tries to take VT-x on all CPUs finds one of ours, and gives the others back;
// a thread that comes to such a CPU meanwhile waits for that.
Result<> Engine::take_turn(Processor &processor)
{
	constexpr u64 patience = 10'000'000;
	const u64 end = kvmpp_monotonic_ns() + patience;
	for (;;) {
		const auto taken = processor_on(processor);
		if (taken || taken.error() != Errno{EBUSY} || kvmpp_monotonic_ns() > end)
			return taken;
		// Its giving back comes as an interrupt.
		kvmpp_irq_enable();
		kvmpp_irq_disable();
	}
}

Result<Engine::Loaded> Engine::load(Vmcs &vmcs)
{
	const unsigned cpu = kvmpp_cpu_current();
	Processor &processor = processors_[cpu];
	if (processor.current == &vmcs)
		return Loaded{Current{}, false, true};

	const bool moved = vmcs.cpu_.load(std::memory_order_relaxed) != cpu;
	if (moved)
		clear_anywhere(vmcs);

	host::InterruptsOff off;
	if (!processor.on) {
		if (sharing_ == Sharing::exclusive)
			return fail(EIO);
		TRY(take_turn(processor));
	}
	if (moved) {
		// A VMCS that never was loaded needs its VMCLEAR as well (SDM vol. 3, 25.11.3).
		if (!instruction::vmclear(vmcs.physical()))
			return fail(EIO);
		vmcs.next_ = processor.loaded;
		vmcs.link_ = &processor.loaded;
		if (vmcs.next_)
			vmcs.next_->link_ = &vmcs.next_;
		processor.loaded = &vmcs;
		vmcs.cpu_.store(cpu, std::memory_order_relaxed);
	}
	// Without it every access would go to whichever VMCS was current before.
	if (!instruction::vmptrld(vmcs.physical()))
		return fail(EIO);
	processor.current = &vmcs;
	return Loaded{Current{}, moved, false};
}

void Engine::unload(Vmcs &vmcs)
{
	if (sharing_ == Sharing::exclusive)
		return;
	host::InterruptsOff off;
	if (vmcs.cpu_.load(std::memory_order_relaxed) == kvmpp_cpu_current())
		clear(vmcs);
}

void Engine::flush_ept(u64 ept_pointer) const
{
	if (capabilities_.invept_single())
		instruction::invept(instruction::InveptType::single_context, ept_pointer);
	else
		instruction::invept(instruction::InveptType::all_contexts, 0);
}

void Engine::flush_vpid(u16 vpid) const
{
	// Without VPIDs every entry and exit flushes by itself (SDM vol. 3, 29.4.3.1).
	if (vpid)
		instruction::invvpid(instruction::InvvpidType::single_context, vpid, Gva{0});
}

} // namespace kvmpp::vmx
