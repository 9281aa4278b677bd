// SPDX-License-Identifier: GPL-2.0-only
// Placement of mappings.
#include "lib/mapping.h"

#include <sys/mman.h>

namespace kvmpp::lib
{

namespace
{

constexpr std::size_t huge_page = 2 << 20;
constexpr int anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

Result<std::byte *> map(std::size_t size, int flags, int file)
{
	void *start = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, file, 0);
	if (start == MAP_FAILED)
		return failed("mmap of " + std::to_string(size) + " bytes");
	return static_cast<std::byte *>(start);
}

} // namespace

Result<Mapping> Mapping::guest_memory(std::size_t size)
{
	// A huge page in the host can be one in the guest only where both addresses are multiples
	// of its size. mmap promises no such alignment: take more, give back both ends.
	std::byte *const raw = LIBKVMPP_TRY(map(size + huge_page, anonymous, -1));
	const auto misplaced = reinterpret_cast<std::uintptr_t>(raw) % huge_page;
	const std::size_t before = misplaced ? huge_page - misplaced : 0;
	if (before)
		::munmap(raw, before);
	::munmap(raw + before + size, huge_page - before);

	Mapping mapping{raw + before, size};
	// A host without transparent huge pages serves small ones: no error.
	::madvise(mapping.data(), size, MADV_HUGEPAGE);
	return mapping;
}

Result<Mapping> Mapping::shared_memory(std::size_t size)
{
	constexpr int shared = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
	return Mapping{LIBKVMPP_TRY(map(size, shared, -1)), size};
}

Result<Mapping> Mapping::of_file(const FileDescriptor &file, std::size_t size)
{
	return Mapping{LIBKVMPP_TRY(map(size, MAP_SHARED, file.number())), size};
}

Mapping::~Mapping()
{
	if (start_)
		::munmap(start_, size_);
}

} // namespace kvmpp::lib
