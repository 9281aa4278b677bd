// SPDX-License-Identifier: GPL-2.0-only
// L1 terminal fault: a guest may read what the L1 data cache holds of the host, so it is flushed
// before an entry, always or when something of the host ran that may have left secrets there.
// Linux documentation, admin-guide/hw-vuln/l1tf.rst; IA32_FLUSH_CMD: SDM vol. 4.
#pragma once

#include "host/lock.h"
#include "host/result.h"
#include "host/seam.h"
#include "host/types.h"

namespace kvmpp::vmx
{

class L1dFlush : host::Pinned {
    public:
	~L1dFlush();
	// ENOMEM. Nothing is allocated where no flush is due.
	Result<> create(u32 mitigations);

	// Interrupts off. `unsafe`: our own exit path may have brought secrets in; taken.
	void before_entry(bool &unsafe)
	{
		if (mode_) [[unlikely]]
			flush(unsafe);
	}

    private:
	static constexpr unsigned order = 4; // twice the largest L1 data cache there is
	static constexpr usize bytes = page_size << order;

	void flush(bool &unsafe);

	u32 mode_ = 0; // mitigation bits of L1TF; 0: none
	void *pages_ = nullptr;
};

} // namespace kvmpp::vmx
