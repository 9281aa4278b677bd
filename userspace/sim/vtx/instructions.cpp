// SPDX-License-Identifier: GPL-2.0-only
// The VMX instructions but for VMLAUNCH and VMRESUME. SDM vol. 3, chapter 31.
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <unordered_map>
#include "host/seam.h"
#include "sim/cpu/cpus.h"
#include "sim/cpuid.h"
#include "sim/faults.h"
#include "sim/host.h"
#include "sim/vtx/vmcs.h"
#include "x86/msr.h"

namespace kvmpp::sim::vtx
{
namespace
{

constexpr u64 vmxe = 1 << 13, none = ~u64{0};

// Every region that was given to VMCLEAR, by its address.
std::mutex lock;
std::unordered_map<u64, std::unique_ptr<Vmcs>> &regions()
{
	static std::unordered_map<u64, std::unique_ptr<Vmcs>> all;
	return all;
}

std::atomic<u64> refused{0}, guests_refused{0};
std::atomic<const char *> refusal{""};

Vmcs &region_at(u64 address)
{
	auto &region = regions()[address];
	if (!region) {
		region = std::make_unique<Vmcs>();
		region->address = address;
	}
	return *region;
}

bool address_valid(u64 address)
{
	return !(address & 0xfff) && !(address >> physical_bits);
}

// Somebody else switches VT-x off on this CPU, with whatever it holds.
void lose(Cpu &cpu)
{
	std::lock_guard guard{lock};
	for (const auto &[address, region] : regions())
		if (region->active_on == static_cast<int>(cpu.number))
			region->active_on = Vmcs::nowhere;
	cpu.vtx = {};
	cpu.cr4 &= ~vmxe;
}

bool in_operation(Processor &processor, const char *what)
{
	if (!processor.on)
		note_refusal(what);
	return processor.on;
}

// Faults, and failures on purpose: the instruction has done nothing.
bool usable(Processor &processor, const char *what)
{
	return !fails_on_purpose() && in_operation(processor, what);
}

// VMCLEAR and VMXOFF do not fail by themselves: what could not be cleared could never be loaded elsewhere.
bool usable_unless_lost(Processor &processor, const char *what)
{
	if (fails_on_purpose())
		lose(this_cpu());
	return in_operation(processor, what);
}

Processor &here()
{
	return this_cpu().vtx;
}

u32 revision()
{
	return static_cast<u32>(this_cpu().msrs.at(x86::msr::vmx_basic)) & 0x7fffffff;
}

u32 revision_in(u64 address)
{
	u32 value;
	std::memcpy(&value, reinterpret_cast<const void *>(address), sizeof(value));
	return value;
}

// A page goes back to the host: no processor may still write to it.
void page_freed(const void *page)
{
	const u64 address = reinterpret_cast<u64>(page);
	for (unsigned i = 0; i < cpu_limit; ++i)
		if (cpu(i).vtx.on && cpu(i).vtx.vmxon_region == address)
			die("the VMXON region of CPU %u is freed", i);
	std::lock_guard guard{lock};
	const auto found = regions().find(address);
	if (found == regions().end())
		return;
	if (found->second->active_on != Vmcs::nowhere)
		die("a VMCS is freed that is active on CPU %d", found->second->active_on);
	regions().erase(found);
}

const bool hooked = [] {
	hooks.page_freed = page_freed;
	return true;
}();

} // namespace

Counts &counts()
{
	thread_local Counts of_thread;
	return of_thread;
}

void note_refusal(const char *why)
{
	++refused;
	refusal = why;
}

void note_guest_refusal(const char *why)
{
	++guests_refused;
	refusal = why;
}

u64 guest_refusals()
{
	return guests_refused;
}

u64 refusals()
{
	return refused;
}

const char *last_refusal()
{
	return refusal;
}

void reset_refusals()
{
	refused = guests_refused = 0;
	refusal = "";
}

bool fail(Processor &processor, Error error)
{
	note_refusal("a VMX instruction failed");
	constexpr u32 instruction_error = 0x4400;
	if (processor.current)
		(*processor.current)[instruction_error] = static_cast<u32>(error);
	return false;
}

bool fails_on_purpose()
{
	if (fails_now(Fallible::vmx_instruction))
		return true;
	if (fails_now(Fallible::vtx_lost))
		lose(this_cpu());
	return false;
}

unsigned processors_on()
{
	unsigned result = 0;
	for (unsigned i = 0; i < cpu_limit; ++i)
		result += cpu(i).vtx.on;
	return result;
}

unsigned active_vmcss()
{
	std::lock_guard guard{lock};
	unsigned result = 0;
	for (const auto &[address, region] : regions())
		result += region->active_on != Vmcs::nowhere;
	return result;
}

bool vmxon(u64 region)
{
	Cpu &cpu = this_cpu();
	++counts().others;
	if (fails_on_purpose())
		return false;
	using namespace x86::msr::feature_control_bits;
	const u64 control = cpu.msrs.at(x86::msr::feature_control);
	if (!(cpu.cr4 & vmxe) || !(control & locked) || !(control & vmx_outside_smx)) {
		note_refusal("VMXON faults");
		return false;
	}
	if (cpu.vtx.on)
		return fail(cpu.vtx, Error::vmxon_in_root);
	if (!address_valid(region) || revision_in(region) != revision()) {
		note_refusal("VMXON of a region that is none");
		return false;
	}
	cpu.vtx = {.on = true, .vmxon_region = region, .current = nullptr};
	return true;
}

bool vmxoff()
{
	Processor &processor = here();
	++counts().others;
	if (!usable_unless_lost(processor, "VMXOFF outside VMX operation"))
		return false;
	// Not forbidden, but what the processor has cached of them would be lost.
	std::lock_guard guard{lock};
	for (const auto &[address, region] : regions())
		if (region->active_on == static_cast<int>(this_cpu().number))
			die("VMXOFF with an active VMCS");
	processor = {};
	return true;
}

bool vmclear(u64 address)
{
	Processor &processor = here();
	++counts().others;
	if (!usable_unless_lost(processor, "VMCLEAR outside VMX operation"))
		return false;
	if (!address_valid(address))
		return fail(processor, Error::vmclear_address);
	if (address == processor.vmxon_region)
		return fail(processor, Error::vmclear_vmxon_pointer);
	std::lock_guard guard{lock};
	Vmcs &region = region_at(address);
	const int number = static_cast<int>(this_cpu().number);
	if (region.active_on != Vmcs::nowhere && region.active_on != number)
		die("VMCLEAR on CPU %d of a VMCS that is active on CPU %d", number, region.active_on);
	region.cleared = true;
	region.launched = false;
	region.active_on = Vmcs::nowhere;
	if (processor.current == &region)
		processor.current = nullptr;
	return true;
}

bool vmptrld(u64 address)
{
	Processor &processor = here();
	++counts().others;
	if (!usable(processor, "VMPTRLD outside VMX operation"))
		return false;
	if (!address_valid(address))
		return fail(processor, Error::vmptrld_address);
	if (address == processor.vmxon_region)
		return fail(processor, Error::vmptrld_vmxon_pointer);
	if (revision_in(address) != revision())
		return fail(processor, Error::vmptrld_revision);
	std::lock_guard guard{lock};
	Vmcs &region = region_at(address);
	const int number = static_cast<int>(this_cpu().number);
	if (!region.cleared)
		die("VMPTRLD of a VMCS that was never cleared");
	if (region.active_on != Vmcs::nowhere && region.active_on != number)
		die("VMPTRLD on CPU %d of a VMCS that is active on CPU %d", number, region.active_on);
	region.active_on = number;
	processor.current = &region;
	return true;
}

bool vmread(u32 field, u64 &value)
{
	Processor &processor = here();
	++counts().reads;
	if (!usable(processor, "VMREAD outside VMX operation"))
		return false;
	if (!processor.current)
		return fail(processor, Error::unsupported_field);
	if (!field_exists(field))
		return fail(processor, Error::unsupported_field);
	value = (*processor.current)[field];
	return true;
}

bool vmwrite(u32 field, u64 value)
{
	Processor &processor = here();
	++counts().writes;
	if (!usable(processor, "VMWRITE outside VMX operation"))
		return false;
	if (!processor.current)
		return fail(processor, Error::unsupported_field);
	if (!field_exists(field))
		return fail(processor, Error::unsupported_field);
	if ((field >> 10 & 3) == static_cast<u32>(vmx::FieldKind::exit_information))
		return fail(processor, Error::read_only_field);
	const auto width = static_cast<vmx::FieldWidth>(field >> 13 & 3);
	if (width == vmx::FieldWidth::w16)
		value = static_cast<u16>(value);
	else if (width == vmx::FieldWidth::w32)
		value = static_cast<u32>(value);
	(*processor.current)[field] = value;
	return true;
}

bool invept(u64 type, u64 ept_pointer)
{
	Cpu &cpu = this_cpu();
	++counts().others;
	if (!usable(cpu.vtx, "INVEPT outside VMX operation"))
		return false;
	const u64 capabilities = cpu.msrs.at(x86::msr::vmx_ept_vpid);
	const bool supported = capabilities & bit(20) && ((type == 1 && capabilities & bit(25)) ||
								 (type == 2 && capabilities & bit(26)));
	// An EPTP that a VM entry would refuse.
	const bool pointer_valid = type != 1 || ((ept_pointer & 7) == 6 && (ept_pointer >> 3 & 7) == 3 &&
							!(ept_pointer >> physical_bits));
	if (!supported || !pointer_valid)
		return fail(cpu.vtx, Error::invept_operand);
	++cpu.vtx.invepts;
	return true;
}

bool invvpid(u64 type, u16 vpid, u64 address)
{
	Cpu &cpu = this_cpu();
	++counts().others;
	if (!usable(cpu.vtx, "INVVPID outside VMX operation"))
		return false;
	const u64 capabilities = cpu.msrs.at(x86::msr::vmx_ept_vpid);
	const bool supported = capabilities & bit(32) && type <= 3 && capabilities >> (40 + type) & 1;
	const bool canonical = static_cast<u64>(static_cast<s64>(address << 16) >> 16) == address;
	if (!supported || (type != 2 && !vpid) || (type == 0 && !canonical))
		return fail(cpu.vtx, Error::invept_operand);
	return true;
}

} // namespace kvmpp::sim::vtx
