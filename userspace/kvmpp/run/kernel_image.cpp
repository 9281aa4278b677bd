// SPDX-License-Identifier: GPL-2.0-only
// Reading and checking a bzImage.
#include "kvmpp/run/kernel_image.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include "kvmpp/refusal.h"

namespace kvmpp::command
{

using lib::u64;

namespace
{

constexpr u64 sector = 512;
constexpr u64 header_offset = offsetof(boot_params, hdr);
constexpr lib::u16 boot_flag = 0xaa55;
constexpr lib::u32 magic = 0x53726448;	     // "HdrS"
constexpr lib::u16 oldest_protocol = 0x020c; // has xloadflags

// The reason not to boot it; empty when there is none.
std::string fault_of(const setup_header &header)
{
	if (header.boot_flag != boot_flag || header.header != magic)
		return "is not a Linux kernel image (a bzImage is needed)";
	if (header.version < oldest_protocol)
		return "is a kernel too old to be entered in 64-bit mode (boot protocol below "
		       "2.12)";
	if (!(header.xloadflags & XLF_KERNEL_64))
		return "is a 32-bit kernel; a 64-bit one is needed";
	if (!(header.loadflags & LOADED_HIGH) || !header.relocatable_kernel)
		return "is a kernel that cannot be loaded at 1 MiB";
	return {};
}

} // namespace

InputFile::InputFile(std::string path)
	: path_{std::move(path)}, file_{::open(path_.c_str(), O_RDONLY | O_CLOEXEC)}
{
	struct stat status;
	if (!file_ || ::fstat(file_.number(), &status) < 0)
		throw Refusal{lib::Error{path_, errno}.message()};
	if (!S_ISREG(status.st_mode))
		throw Refusal{path_ + " is not a regular file"};
	size_ = static_cast<u64>(status.st_size);
}

void InputFile::read(std::span<std::byte> target, u64 offset) const
{
	while (!target.empty()) {
		const auto count = ::pread(
			file_.number(), target.data(), target.size(), static_cast<off_t>(offset));
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			throw Refusal{lib::Error{path_, errno}.message()};
		if (count == 0)
			throw Refusal{path_ + " ends too early"};
		target = target.subspan(static_cast<std::size_t>(count));
		offset += static_cast<u64>(count);
	}
}

KernelImage::KernelImage(const std::string &path) : file_{path}
{
	std::array<std::byte, header_offset + sizeof(setup_header)> start{};
	file_.read(std::span{start}.first(std::min<u64>(file_.size(), start.size())), 0);
	std::memcpy(&header_, start.data() + header_offset, sizeof(header_));
	if (const std::string fault = fault_of(header_); !fault.empty())
		throw Refusal{path + " " + fault};

	// A header from a time before this struct is shorter: its jump instruction tells its end.
	const std::size_t jump = offsetof(setup_header, jump);
	const std::size_t length =
		jump + 2 + std::to_integer<std::size_t>(start[header_offset + jump + 1]);
	if (length < sizeof(header_))
		std::memset(reinterpret_cast<std::byte *>(&header_) + length, 0,
			sizeof(header_) - length);

	constexpr u64 setup_sectors_by_default = 4;
	const u64 setup = header_.setup_sects ? header_.setup_sects : setup_sectors_by_default;
	payload_offset_ = (setup + 1) * sector;
	if (file_.size() <= payload_offset_ || payload_size() < u64{header_.syssize} * 16)
		throw Refusal{path + " ends too early"};
}

} // namespace kvmpp::command
