// SPDX-License-Identifier: GPL-2.0-only
// A Linux kernel in a file, by the x86 boot protocol (the kernel's Documentation/x86/boot.rst).
#pragma once

#include <asm/bootparam.h>
#include <span>
#include <string>
#include "lib/file_descriptor.h"
#include "lib/types.h"

namespace kvmpp::command
{

// A file that is read into guest memory as a whole or from some offset on.
class InputFile {
public:
	explicit InputFile(std::string path);

	const std::string &path() const { return path_; }
	lib::u64 size() const { return size_; }
	// Fills `target` with what lies at `offset`; a file that ends early is a Refusal.
	void read(std::span<std::byte> target, lib::u64 offset) const;

private:
	std::string path_;
	lib::FileDescriptor file_;
	lib::u64 size_;
};

class KernelImage {
public:
	// Throws a Refusal unless it can be entered in 64-bit mode.
	explicit KernelImage(const std::string &path);

	const setup_header &header() const { return header_; }
	// The part that runs in protected mode, which is what is loaded.
	lib::u64 payload_size() const { return file_.size() - payload_offset_; }
	void load(std::span<std::byte> target) const { file_.read(target, payload_offset_); }

	// Where the kernel unpacks itself to, beginning and end.
	lib::u64 runtime_start() const { return header_.pref_address; }
	lib::u64 runtime_end() const { return header_.pref_address + header_.init_size; }

private:
	InputFile file_;
	setup_header header_{};
	lib::u64 payload_offset_{};
};

} // namespace kvmpp::command
