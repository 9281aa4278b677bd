// SPDX-License-Identifier: GPL-2.0-only
#include "api/statistics.h"

#include <algorithm>
#include <linux/kvm.h>
#include "api/entry.h"
#include "api/user.h"
#include "host/file.h"

namespace kvmpp::api
{
namespace
{

constexpr usize name_size = 48; // with the terminating zero, as KVM's

// The descriptor of one counter as it lies in the file.
struct Descriptor {
	kvm_stats_desc fixed;
	char name[name_size];
};
static_assert(sizeof(Descriptor) == sizeof(kvm_stats_desc) + name_size);

// Everything before the values, made when the file is.
struct Head {
	kvm_stats_header header;
	char id[name_size];
};

void set_name(char (&to)[name_size], const char *from)
{
	const usize length = std::min(__builtin_strlen(from), name_size - 1);
	std::copy_n(from, length, to);
}

class Statistics : host::Pinned {
    public:
	Statistics(machine::Vm &vm, const char *id, const kvmpp_counters &counters)
		: vm_{vm}, counters_{counters}
	{
		set_name(head_.id, id);
		head_.header = {.flags = 0,
			.name_size = name_size,
			.num_desc = counters.count,
			.id_offset = offsetof(Head, id),
			.desc_offset = sizeof(Head),
			.data_offset = static_cast<u32>(data_offset())};
		vm.get();
	}
	~Statistics() { vm_.put(); }

	// From `offset` on, at most `size` bytes.
	Result<long> read(Hva to, usize size, s64 &offset) const
	{
		const usize end = data_offset() + counters_.count * sizeof(u64);
		if (offset < 0 || static_cast<usize>(offset) >= end)
			return 0;
		const usize start = offset;
		usize done = 0;
		size = std::min(size, end - start);
		while (done < size) {
			const Piece piece = piece_at(start + done);
			const usize bytes = std::min(size - done, piece.size);
			TRY(host::user_write(to + done, piece.data.data() + piece.skip, bytes));
			done += bytes;
		}
		offset = start + done;
		return static_cast<long>(done);
	}

    private:
	// A part of the file, by value, from `skip` on.
	struct Piece {
		std::array<u8, std::max(sizeof(Head), sizeof(Descriptor))> data;
		usize skip, size;
	};

	usize data_offset() const { return sizeof(Head) + counters_.count * sizeof(Descriptor); }

	template <class T>
	static Piece piece_of(const T &value, usize skip)
	{
		Piece piece{{}, skip, sizeof(T) - skip};
		__builtin_memcpy(piece.data.data(), &value, sizeof(T));
		return piece;
	}

	Piece piece_at(usize offset) const
	{
		if (offset < sizeof(Head))
			return piece_of(head_, offset);
		if (offset < data_offset()) {
			offset -= sizeof(Head);
			return piece_of(descriptor(offset / sizeof(Descriptor)), offset % sizeof(Descriptor));
		}
		offset -= data_offset();
		const u64 value = __atomic_load_n(&counters_.values[offset / sizeof(u64)], __ATOMIC_RELAXED);
		return piece_of(value, offset % sizeof(u64));
	}

	Descriptor descriptor(unsigned i) const
	{
		Descriptor result{};
		result.fixed.flags = KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10;
		result.fixed.size = 1;
		result.fixed.offset = i * sizeof(u64);
		set_name(result.name, counters_.names[i]);
		return result;
	}

	machine::Vm &vm_;
	const kvmpp_counters counters_;
	Head head_{};
};

Result<long> make_file(machine::Vm &vm, const char *id, const char *name, const kvmpp_counters &counters)
{
	auto statistics = TRY(host::make<Statistics>(vm, id, counters));
	auto file = TRY(host::NewFile::for_statistics(name, statistics.get()));
	(void)statistics.release();
	return file.install();
}

} // namespace

Result<long> statistics_file(machine::Vm &vm)
{
	char id[name_size];
	kvmpp_format(id, sizeof(id), "kvm-%d", vm.creator());
	return make_file(vm, id, "kvm-vm-stats", vm.statistics.counters());
}

Result<long> statistics_file(machine::Vcpu &vcpu)
{
	char id[name_size], name[name_size];
	kvmpp_format(id, sizeof(id), "kvm-%d/vcpu-%u", vcpu.vm.creator(), vcpu.id);
	kvmpp_format(name, sizeof(name), "kvm-vcpu-stats:%u", vcpu.id);
	return make_file(vcpu.vm, id, name, vcpu.counters);
}

} // namespace kvmpp::api

extern "C" {

long kvmpp_statistics_read(void *statistics, unsigned long buffer, unsigned long size, long long *offset)
{
	auto &file = *static_cast<kvmpp::api::Statistics *>(statistics);
	return kvmpp::api::to_long(file.read(kvmpp::Hva{buffer}, size, *offset));
}

void kvmpp_statistics_release(void *statistics)
{
	kvmpp::host::Own<kvmpp::api::Statistics>{static_cast<kvmpp::api::Statistics *>(statistics)};
}
}
