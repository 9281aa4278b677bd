// SPDX-License-Identifier: GPL-2.0-only
#include "machine/steal_time.h"

#include <asm/kvm_para.h>
#include <cstddef>

namespace kvmpp::machine
{

Gpa StealTime::place() const
{
	return Gpa{msr_ & KVM_STEAL_VALID_BITS};
}

bool StealTime::set_msr(u64 value, u64 delay)
{
	if (value & KVM_STEAL_RESERVED_MASK)
		return false;
	msr_ = value;
	delay_ = delay;
	marked_ = false;
	return true;
}

void StealTime::leave(const GuestMemory &memory)
{
	// A mark that stands may have been added to.
	if (marked_)
		return;
	const u8 mark = KVM_VCPU_PREEMPTED;
	marked_ = memory.write_atomic(place() + offsetof(kvm_steal_time, preempted), &mark, sizeof(mark))
			  .has_value();
}

// Takes the mark away. Whether the guest's other processors have asked for a flush meanwhile.
bool StealTime::take_mark(const GuestMemory &memory)
{
	const Gpa mark = place() + offsetof(kvm_steal_time, preempted);
	u64 old = KVM_VCPU_PREEMPTED;
	// A guest changes it at most twice; one that goes on has it taken away, and a flush in any case.
	for (unsigned tries = 0; tries < 8; ++tries) {
		switch (memory.compare_exchange(mark, sizeof(u8), old, 0)) {
		case x86::Replaced::yes: return old & KVM_VCPU_FLUSH_TLB;
		case x86::Replaced::changed_meanwhile: continue;
		case x86::Replaced::not_writable: return true; // nobody can tell
		}
	}
	constexpr u8 none = 0;
	(void)memory.write(mark, &none, sizeof(none)).has_value();
	return true;
}

bool StealTime::come_back(const GuestMemory &memory, u64 delay)
{
	if (!enabled())
		return false;
	marked_ = false;
	const bool flush = take_mark(memory);
	// The thread may be another one than before.
	const u64 since = delay > delay_ ? delay - delay_ : 0;
	delay_ = delay;
	auto told = memory.read<kvm_steal_time>(place());
	if (!told)
		return flush;
	// Odd while it changes, as the guest knows it.
	const auto put = [&](usize offset, auto value) {
		return memory.write(place() + offset, &value, sizeof(value)).has_value();
	};
	const u32 odd = told->version | 1;
	if (put(offsetof(kvm_steal_time, version), odd) &&
		put(offsetof(kvm_steal_time, steal), told->steal + since))
		(void)put(offsetof(kvm_steal_time, version), odd + 1);
	return flush;
}

} // namespace kvmpp::machine
