// SPDX-License-Identifier: GPL-2.0-only
// Which pages of a slot were written since the VMM last asked. Shared by the slot tables that show the
// slot, old ones included.
#pragma once

#include <atomic>
#include <utility>
#include "host/lock.h"
#include "host/memory.h"

namespace kvmpp::machine
{

class DirtyBitmap : host::Pinned {
    public:
	// One page per bit; all clear, or all set. ENOMEM.
	static Result<host::Own<DirtyBitmap>> create(u64 pages, bool all_set);
	explicit DirtyBitmap(host::Array<u64> words) : words_{std::move(words)} {}

	// Any thread.
	void set(u64 page)
	{
		const u64 mask = bit(page % 64);
		u64 &word = words_[page / 64];
		// A page that is written often is marked once.
		if (!(__atomic_load_n(&word, __ATOMIC_RELAXED) & mask))
			__atomic_fetch_or(&word, mask, __ATOMIC_ACQ_REL);
	}
	usize words() const { return words_.size(); }
	u64 peek(usize word) const { return __atomic_load_n(&words_[word], __ATOMIC_RELAXED); }
	// Takes the bits of `mask` that are set.
	u64 take(usize word, u64 mask)
	{
		if (!(peek(word) & mask))
			return 0;
		return __atomic_fetch_and(&words_[word], ~mask, __ATOMIC_ACQ_REL) & mask;
	}

    private:
	friend class DirtyLog;

	host::Array<u64> words_;
	std::atomic<u32> references_{1};
};

// A reference to one, or to none.
class DirtyLog {
    public:
	constexpr DirtyLog() = default;
	explicit DirtyLog(host::Own<DirtyBitmap> bitmap) : bitmap_{bitmap.release()} {}
	DirtyLog(const DirtyLog &other) : bitmap_{other.bitmap_}
	{
		if (bitmap_)
			bitmap_->references_.fetch_add(1, std::memory_order_relaxed);
	}
	DirtyLog(DirtyLog &&other) : bitmap_{std::exchange(other.bitmap_, nullptr)} {}
	DirtyLog &operator=(DirtyLog other)
	{
		std::swap(bitmap_, other.bitmap_);
		return *this;
	}
	~DirtyLog()
	{
		if (bitmap_ && bitmap_->references_.fetch_sub(1, std::memory_order_acq_rel) == 1)
			host::Own<DirtyBitmap>{bitmap_};
	}

	explicit operator bool() const { return bitmap_; }
	DirtyBitmap *operator->() const { return bitmap_; }

    private:
	DirtyBitmap *bitmap_ = nullptr;
};

} // namespace kvmpp::machine
