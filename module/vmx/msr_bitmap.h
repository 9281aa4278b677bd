// SPDX-License-Identifier: GPL-2.0-only
// Which MSR accesses of a guest exit. Starts with all of them. SDM vol. 3, 25.6.9.
#pragma once

#include "host/memory.h"

namespace kvmpp::vmx
{

class MsrBitmap {
    public:
	static Result<MsrBitmap> create(int node)
	{
		MsrBitmap bitmap;
		bitmap.page_ = TRY(host::Page::create(node));
		__builtin_memset(bitmap.page_.data(), 0xff, page_size);
		return bitmap;
	}

	Hpa physical() const { return page_.physical(); }

	// MSRs outside the two ranges that the bitmap covers always exit.
	void intercept_reads(u32 index, bool exits) { set(index, 0, exits); }
	void intercept_writes(u32 index, bool exits) { set(index, writes_offset, exits); }
	void intercept(u32 index, bool exits)
	{
		intercept_reads(index, exits);
		intercept_writes(index, exits);
	}

	bool reads_exit(u32 index) const { return get(index, 0); }
	bool writes_exit(u32 index) const { return get(index, writes_offset); }

    private:
	// Reads of low MSRs, reads of high ones, writes of low, writes of high: 1 KiB each.
	static constexpr u32 range = 0x2000, high_base = 0xc0000000;
	static constexpr u32 high_offset = 1024, writes_offset = 2048;

	static constexpr bool locate(u32 index, u32 &byte)
	{
		if (index < range)
			byte = index / 8;
		else if (index >= high_base && index < high_base + range)
			byte = high_offset + (index - high_base) / 8;
		else
			return false;
		return true;
	}

	void set(u32 index, u32 offset, bool exits)
	{
		u32 byte;
		if (!locate(index, byte))
			return;
		u8 &bits = page_.as<u8>()[byte + offset];
		const u8 bit = 1 << index % 8;
		bits = exits ? bits | bit : bits & ~bit;
	}

	bool get(u32 index, u32 offset) const
	{
		u32 byte;
		return !locate(index, byte) || page_.as<u8>()[byte + offset] >> index % 8 & 1;
	}

	host::Page page_;
};

} // namespace kvmpp::vmx
