// SPDX-License-Identifier: GPL-2.0-only
// The guest's floating-point and extended state. In the processor between enter() and leave(), which
// bracket one KVM_RUN; context switches in between are the host's to handle.
#pragma once

#include "host/lock.h"
#include "host/result.h"
#include "host/seam.h"

namespace kvmpp::machine
{

class Fpu : host::Pinned {
    public:
	~Fpu()
	{
		if (made_)
			kvmpp_fpu_destroy(&storage_);
	}

	// Before anything else. ENOMEM; may sleep.
	Result<> create()
	{
		TRY(result_of(kvmpp_fpu_init(&storage_)));
		made_ = true;
		return {};
	}

	void enter()
	{
		kvmpp_fpu_enter(&storage_);
		inside_ = true;
	}
	void leave()
	{
		kvmpp_fpu_leave(&storage_);
		inside_ = false;
	}
	bool inside() const { return inside_; }

	// Outside only. The XSAVE image in its standard form.
	void get(void *image, usize size) { kvmpp_fpu_get(&storage_, image, size); }
	Result<> set(const void *image, usize size, u64 xcr0_allowed)
	{
		return result_of(kvmpp_fpu_set(&storage_, image, size, xcr0_allowed));
	}

    private:
	kvmpp_fpu storage_;
	bool made_ = false, inside_ = false;
};

} // namespace kvmpp::machine
