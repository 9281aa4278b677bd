// SPDX-License-Identifier: GPL-2.0-only
#include "vmx/l1d_flush.h"

#include "x86/msr.h"

namespace kvmpp::vmx
{

L1dFlush::~L1dFlush()
{
	if (pages_)
		kvmpp_pages_free(pages_, order);
}

Result<> L1dFlush::create(u32 mitigations)
{
	if (!(mitigations & (KVMPP_L1TF_FLUSH_ALWAYS | KVMPP_L1TF_FLUSH_COND)))
		return {};
	if (!(mitigations & KVMPP_L1TF_FLUSH_MSR)) {
		pages_ = kvmpp_pages_alloc(order);
		if (!pages_)
			return fail(ENOMEM);
		// Pages of one content could be merged into one by a hypervisor below.
		for (unsigned page = 0; page < 1u << order; ++page)
			__builtin_memset(static_cast<u8 *>(pages_) + page * page_size, page + 1, page_size);
	}
	mode_ = mitigations;
	return {};
}

void L1dFlush::flush(bool &unsafe)
{
	const bool wanted = static_cast<bool>(kvmpp_l1d_flush_wanted()) | unsafe;
	unsafe = false;
	if (!(mode_ & KVMPP_L1TF_FLUSH_ALWAYS) && !wanted)
		return;

	if (mode_ & KVMPP_L1TF_FLUSH_MSR) {
		constexpr u64 flush_l1d = 1;
		kvmpp_msr_write(x86::msr::flush_cmd, flush_l1d);
		return;
	}

	// First all translations, so that no page walk disturbs the reads that fill the cache.
	const volatile u8 *memory = static_cast<const u8 *>(pages_);
	for (usize i = 0; i < bytes; i += page_size)
		(void)memory[i];
	asm volatile("lfence" : : : "memory");
	constexpr usize line = 64;
	for (usize i = 0; i < bytes; i += line)
		(void)memory[i];
	asm volatile("lfence" : : : "memory");
}

} // namespace kvmpp::vmx
