// SPDX-License-Identifier: GPL-2.0-only
// Reads the counters of a VM or of a vCPU.
#pragma once

#include <cstring>
#include <unistd.h>
#include "kvm.h"

namespace kvmpp::selftests
{

constexpr u64 name_room = 256;

struct Descriptor {
	kvm_stats_desc fixed;
	char name[name_room];
};

// A whole file of statistics, parsed as the KVM API tells clients to.
class Statistics {
public:
	explicit Statistics(const Fd &owner) : file_(owner.call(KVM_GET_STATS_FD))
	{
		REQUIRE(file_.number() >= 0);
		REQUIRE_EQ(pread(file_.number(), &header, sizeof header, 0),
			static_cast<ssize_t>(sizeof header));
	}

	Descriptor descriptor(u32 number) const
	{
		Descriptor found{};
		u64 size = sizeof(kvm_stats_desc) + header.name_size;
		REQUIRE(size <= sizeof found);
		REQUIRE_EQ(pread(file_.number(), &found, size,
				   static_cast<off_t>(header.desc_offset + number * size)),
			static_cast<ssize_t>(size));
		return found;
	}

	// The value of that name; ~0 if there is none.
	u64 operator[](const char *name) const
	{
		for (u32 i = 0; i < header.num_desc; ++i) {
			Descriptor one = descriptor(i);
			u64 value;
			if (strcmp(one.name, name))
				continue;
			REQUIRE_EQ(pread(file_.number(), &value, sizeof value,
					   static_cast<off_t>(header.data_offset + one.fixed.offset)),
				static_cast<ssize_t>(sizeof value));
			return value;
		}
		return ~u64{0};
	}

	int number() const { return file_.number(); }
	void close() { file_.close(); }

	kvm_stats_header header{};

private:
	Fd file_;
};

} // namespace kvmpp::selftests
