// SPDX-License-Identifier: GPL-2.0-only
// The vCPUs of a VM. They are added and never removed while the VM lives, so anybody may walk them
// without a lock, in any context.
#pragma once

#include <array>
#include <atomic>
#include "machine/vcpu.h"

namespace kvmpp::machine
{

class VcpuSet : host::Pinned {
    public:
	static constexpr u32 max_vcpus = 1024, max_id = 4096;

	~VcpuSet() { destroy_all(); }
	// Nobody walks them any more.
	void destroy_all()
	{
		for (u32 i = count_.exchange(0); i-- > 0;)
			host::Own<Vcpu>{&at(i)};
	}

	u32 count() const { return count_.load(std::memory_order_acquire); }
	Vcpu &at(u32 i) const { return *(*chunks_[i / chunk_size].get())[i % chunk_size]; }

	template <class Use>
	void for_each(Use &&use) const
	{
		for (u32 i = 0, n = count(); i < n; ++i)
			use(at(i));
	}

	Vcpu *find(u32 id) const
	{
		// Most VMMs number them from zero, in order.
		const u32 n = count();
		if (id < n && at(id).id == id)
			return &at(id);
		for (u32 i = 0; i < n; ++i)
			if (at(i).id == id)
				return &at(i);
		return nullptr;
	}

	// The caller holds the VM's lock. Makes room, so that add() cannot fail. ENOMEM.
	Result<> reserve()
	{
		auto &chunk = chunks_[count() / chunk_size];
		if (!chunk)
			chunk = TRY(host::make<Chunk>());
		return {};
	}
	void add(host::Own<Vcpu> vcpu)
	{
		const u32 n = count();
		(*chunks_[n / chunk_size].get())[n % chunk_size] = vcpu.release();
		count_.store(n + 1, std::memory_order_release);
	}

    private:
	static constexpr u32 chunk_size = 32;
	using Chunk = std::array<Vcpu *, chunk_size>;

	std::array<host::Own<Chunk>, max_vcpus / chunk_size> chunks_{};
	std::atomic<u32> count_{0};
};

} // namespace kvmpp::machine
