// SPDX-License-Identifier: GPL-2.0-only
// The registers of one local APIC, laid out in a page as the processor's virtual-APIC page is
// (SDM vol. 3, 30.1), and behind them the interrupts that other threads have posted to it.
#pragma once

#include <atomic>
#include <bit>
#include <utility>
#include "host/memory.h"
#include "host/types.h"

namespace kvmpp::x86
{

// Offsets in the page; an x2APIC MSR is 0x800 + offset / 16 (SDM vol. 3, tables 11-1 and 11-6).
enum class ApicRegister : u16 {
	id = 0x20,
	version = 0x30,
	tpr = 0x80,
	apr = 0x90,
	ppr = 0xa0,
	eoi = 0xb0,
	remote_read = 0xc0,
	ldr = 0xd0,
	dfr = 0xe0,
	svr = 0xf0,
	isr = 0x100,
	tmr = 0x180,
	irr = 0x200,
	esr = 0x280,
	lvt_cmci = 0x2f0,
	icr = 0x300,
	icr_high = 0x310,
	lvt_timer = 0x320,
	lvt_thermal = 0x330,
	lvt_pmc = 0x340,
	lvt_lint0 = 0x350,
	lvt_lint1 = 0x360,
	lvt_error = 0x370,
	initial_count = 0x380,
	current_count = 0x390,
	divide = 0x3e0,
	self_ipi = 0x3f0,
};

inline constexpr ApicRegister lvt_entries[] = {
	ApicRegister::lvt_cmci,
	ApicRegister::lvt_timer,
	ApicRegister::lvt_thermal,
	ApicRegister::lvt_pmc,
	ApicRegister::lvt_lint0,
	ApicRegister::lvt_lint1,
	ApicRegister::lvt_error,
};

// Interrupts on their way to an APIC, in the format of the posted-interrupt descriptor (SDM vol. 3,
// 30.6): anybody posts, the owner takes. A bit set twice before it is taken is one interrupt, as on
// the real thing.
class alignas(64) PostedInterrupts {
public:
	struct Outcome {
		bool coalesced; // it was there already
		bool notify;	// the first since the owner last looked: tell it
	};

	Outcome post(u8 vector)
	{
		const u64 mask = bit(vector & 63);
		const bool coalesced = requests_[vector >> 6].fetch_or(mask) & mask;
		return {coalesced, !(control_.fetch_or(outstanding) & outstanding)};
	}

	bool pending() const { return control_.load(std::memory_order_relaxed) & outstanding; }

	// Calls use(word, bits) for every 64 vectors among which some were posted.
	template <class Use>
	void take(Use &&use)
	{
		// Cleared first: a post from now on notifies again.
		control_.fetch_and(~outstanding);
		for (unsigned word = 0; word < 4; ++word)
			if (requests_[word].load(std::memory_order_relaxed))
				use(word, requests_[word].exchange(0));
	}

private:
	static constexpr u64 outstanding = 1; // ON

	std::atomic<u64> requests_[4];
	std::atomic<u64> control_;
	u64 reserved_[3];
};
static_assert(sizeof(PostedInterrupts) == 64);

class ApicPage {
public:
	static constexpr usize register_bytes = 0x400;

	explicit ApicPage(host::Page &&page) : page_{std::move(page)}
	{
		::new (page_.data()) Layout{};
	}

	u32 read(ApicRegister name) const { return load(static_cast<u16>(name)); }
	void write(ApicRegister name, u32 value) { store(static_cast<u16>(name), value); }

	// Naturally aligned, below register_bytes. Relaxed atomics are plain instructions; they say
	// that other threads look at TPR, IRR and the LVT while the owner works.
	u32 load(u32 offset) const { return reference(offset).load(std::memory_order_relaxed); }
	void store(u32 offset, u32 value)
	{
		reference(offset).store(value, std::memory_order_relaxed);
	}

	// One vector of the 256-bit registers ISR, TMR and IRR.
	bool test(ApicRegister base, u8 vector) const
	{
		return load(word_of(base, vector)) & 1u << (vector & 31);
	}
	void assign(ApicRegister base, u8 vector, bool value)
	{
		const u32 offset = word_of(base, vector), mask = 1u << (vector & 31);
		const u32 old = load(offset);
		store(offset, value ? old | mask : old & ~mask);
	}
	// The same where several threads may do it at once.
	void assign_shared(ApicRegister base, u8 vector, bool value)
	{
		if (test(base, vector) == value)
			return;
		const u32 mask = 1u << (vector & 31);
		if (value)
			reference(word_of(base, vector)).fetch_or(mask);
		else
			reference(word_of(base, vector)).fetch_and(~mask);
	}

	PostedInterrupts &posted() const { return page_.as<Layout>()->posted; }
	const host::Page &page() const { return page_; }

	static constexpr u32 word_of(ApicRegister base, u8 vector)
	{
		return static_cast<u32>(base) + (vector >> 5) * 16u;
	}

private:
	struct Layout {
		u32 registers[register_bytes / sizeof(u32)];
		PostedInterrupts posted;
	};
	static_assert(offsetof(Layout, posted) == register_bytes);

	std::atomic_ref<u32> reference(u32 offset) const
	{
		return std::atomic_ref<u32>{
			page_.as<Layout>()->registers[offset % register_bytes / sizeof(u32)]};
	}

	host::Page page_;
};

// ISR or IRR as its owner uses it: knows which of the eight words may hold anything, so that the
// highest vector costs two bit scans. Vector 0 stands for none; 0 to 15 are never accepted.
class VectorRegister {
public:
	VectorRegister(ApicPage &page, ApicRegister base) : page_{page}, base_{base} {}

	void set(u8 vector)
	{
		page_.assign(base_, vector, true);
		note(vector >> 5);
	}
	void clear(u8 vector)
	{
		const u32 offset = ApicPage::word_of(base_, vector);
		const u32 rest = page_.load(offset) & ~(1u << (vector & 31));
		page_.store(offset, rest);
		changed_ = true;
		if (!rest && !shared_)
			words_ &= ~(1u << (vector >> 5));
	}
	// Adds 64 vectors, from 64 * index on.
	void merge(unsigned index, u64 vectors)
	{
		for (unsigned half = 0; half < 2; ++half, vectors >>= 32) {
			const unsigned word = index * 2 + half;
			const u32 added = static_cast<u32>(vectors);
			if (!added)
				continue;
			page_.store(offset_of(word), page_.load(offset_of(word)) | added);
			note(word);
		}
	}
	u8 highest() const
	{
		for (u32 words = words_; words;) {
			const unsigned word = std::bit_width(words) - 1;
			if (const u32 vectors = page_.load(offset_of(word)))
				return static_cast<u8>(word * 32 + std::bit_width(vectors) - 1);
			words &= ~(1u << word);
		}
		return 0;
	}
	// Looks again, after the page was written as a whole.
	void reload()
	{
		words_ = shared_ ? 0xff : 0;
		for (unsigned word = 0; word < 8; ++word)
			if (page_.load(offset_of(word)))
				words_ |= 1u << word;
		changed_ = true;
	}
	// The processor changes it while the guest runs: any word may hold something from now on.
	void share(bool shared)
	{
		shared_ = shared;
		reload();
	}
	// Whether it was changed here since the last call.
	bool take_changed() { return std::exchange(changed_, false); }

private:
	u32 offset_of(unsigned word) const { return static_cast<u32>(base_) + word * 16; }
	void note(unsigned word)
	{
		words_ |= 1u << word;
		changed_ = true;
	}

	ApicPage &page_;
	ApicRegister base_;
	u32 words_ = 0;
	bool shared_ = false, changed_ = true;
};

} // namespace kvmpp::x86
