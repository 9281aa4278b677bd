// SPDX-License-Identifier: GPL-2.0-only
// Counters: KVM_GET_STATS_FD as the KVM API describes it, and the same numbers in debugfs.
#include <algorithm>
#include <dirent.h>
#include <iterator>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "files.h"
#include "guest.h"
#include "statistics.h"

using namespace kvmpp::selftests;

namespace
{

// Ten CPUIDs, three writes to a port, two to a device, one MSR each way, one hypercall.
GUEST_CODE(exits, 64, R"(
1:	mov $0, %eax
	cpuid
	dec %r8d
	jnz 1b
	out %al, $0x10
	out %al, $0x10
	out %al, $0x10
	mov $0xd0000000, %edi
	mov %eax, (%rdi)
	mov %eax, (%rdi)
	mov $0xfe, %ecx
	rdmsr
	mov $0x8b, %ecx
	xor %eax, %eax
	xor %edx, %edx
	wrmsr
	mov $0xfff, %eax
	vmcall
	hlt
)");

void check_layout(const Statistics &statistics, const char *suffix)
{
	const kvm_stats_header &header = statistics.header;
	CHECK_EQ(header.flags, 0u);
	CHECK(header.name_size > 0 && header.name_size <= name_room);
	CHECK(header.num_desc > 0);
	// The parts do not overlap, and the values are aligned.
	CHECK(header.id_offset >= sizeof header);
	CHECK(header.desc_offset >= header.id_offset + header.name_size);
	u64 descriptors = header.num_desc * (sizeof(kvm_stats_desc) + header.name_size);
	CHECK(header.data_offset >= header.desc_offset + descriptors);
	CHECK_EQ(header.data_offset % sizeof(u64), 0u);
	CHECK_EQ(header.desc_offset % sizeof(u64), 0u);

	char id[name_room]{}, expected[name_room];
	REQUIRE(header.name_size < sizeof id);
	CHECK_EQ(pread(statistics.number(), id, header.name_size, header.id_offset),
		static_cast<ssize_t>(header.name_size));
	snprintf(expected, sizeof expected, "kvm-%d%s", getpid(), suffix);
	if (!CHECK(strcmp(id, expected) == 0))
		note("it is called %s", id);

	bool taken[2048]{};
	u64 end = 0;
	for (u32 i = 0; i < header.num_desc; ++i) {
		Descriptor one = statistics.descriptor(i);
		CHECK((one.fixed.flags & KVM_STATS_TYPE_MASK) <= KVM_STATS_TYPE_MAX);
		CHECK((one.fixed.flags & KVM_STATS_UNIT_MASK) <= KVM_STATS_UNIT_MAX);
		CHECK((one.fixed.flags & KVM_STATS_BASE_MASK) <= KVM_STATS_BASE_MAX);
		CHECK(one.fixed.size >= 1);
		// Values lie in any order, but each in a place of its own.
		u64 first = one.fixed.offset / sizeof(u64), last = first + one.fixed.size;
		CHECK_EQ(one.fixed.offset % sizeof(u64), 0u);
		REQUIRE(last <= std::size(taken));
		for (u64 place = first; place < last; ++place)
			CHECK(!std::exchange(taken[place], true));
		end = std::max(end, last * sizeof(u64));
		CHECK(one.name[0] && strnlen(one.name, header.name_size) < header.name_size);
		for (u32 other = 0; other < i; ++other)
			CHECK(strcmp(statistics.descriptor(other).name, one.name) != 0);
	}
	// Nothing lies beyond the last value.
	u64 value;
	CHECK_EQ(pread(statistics.number(), &value, sizeof value,
			 static_cast<off_t>(header.data_offset + end)),
		0);
}

bool is_kvmpp()
{
	return strstr(device, "kvmpp") != nullptr;
}

void run_exits(Guest &guest)
{
	kvm_regs regs = guest.vcpu.regs();
	regs.r8 = 10;
	guest.vcpu.set(regs);
	for (int i = 0; i < 3; ++i)
		guest.run_to_out(0x10);
	CHECK_EXIT(guest, KVM_EXIT_MMIO);
	CHECK_EXIT(guest, KVM_EXIT_MMIO);
	guest.run_to_halt();
}

// The directory of this process's only VM.
bool find_directory(char (&path)[300])
{
	char prefix[32];
	snprintf(prefix, sizeof prefix, "%d-", getpid());
	bool found = false;
	if (DIR *listing = opendir("/sys/kernel/debug/kvmpp")) {
		while (dirent *entry = readdir(listing))
			if (!strncmp(entry->d_name, prefix, strlen(prefix))) {
				snprintf(path, sizeof path, "/sys/kernel/debug/kvmpp/%s",
					entry->d_name);
				found = true;
			}
		closedir(listing);
	}
	return found;
}

void need_debugfs()
{
	struct stat status;
	if (!is_kvmpp())
		skip_test("for kvmpp");
	if (stat("/sys/kernel/debug/kvmpp", &status) < 0)
		skip_test("no debugfs here");
}

} // namespace

TEST(files_are_laid_out_as_documented)
{
	System system;
	NEED(system, KVM_CAP_BINARY_STATS_FD);
	Vm vm{system};
	Vcpu vcpu{system, vm, 3};
	check_layout(Statistics{vm}, "");
	check_layout(Statistics{vcpu}, "/vcpu-3");
}

TEST(files_can_be_read_and_no_more)
{
	System system;
	NEED(system, KVM_CAP_BINARY_STATS_FD);
	Vm vm{system};
	Statistics statistics{vm};
	CHECK(fcntl(statistics.number(), F_GETFD) & FD_CLOEXEC);
	char byte = 0;
	CHECK(write(statistics.number(), &byte, 1) < 0);
	CHECK(ioctl(statistics.number(), KVM_GET_API_VERSION) < 0);
	// From one end to the other in odd portions, and the same in one go.
	char by_parts[65536], whole[65536];
	ssize_t size = 0, got;
	while ((got = read(statistics.number(), by_parts + size, 7)) > 0)
		size += got;
	CHECK_EQ(got, 0);
	CHECK_EQ(pread(statistics.number(), whole, sizeof whole, 0), size);
	CHECK_EQ(memcmp(by_parts, whole, statistics.header.data_offset), 0);
	CHECK_EQ(pread(statistics.number(), whole, sizeof whole, 1 << 30), 0);
	// Nothing of the kernel's goes where nothing is mapped.
	Backing unmapped{page};
	munmap(unmapped.bytes(), page);
	CHECK(pread(statistics.number(), unmapped.bytes(), 64, 0) < 0);
}

TEST(exits_are_counted)
{
	Guest guest{Mode::long_mode, exits};
	NEED(guest.system, KVM_CAP_BINARY_STATS_FD);
	Statistics statistics{guest.vcpu};
	u64 before = statistics["exits"];
	run_exits(guest);
	CHECK(statistics["exits"] >= before + 19);
}

TEST(there_is_a_counter_for_each_exit_reason)
{
	if (!is_kvmpp())
		skip_test("for kvmpp");
	Guest guest{Mode::long_mode, exits};
	Statistics statistics{guest.vcpu};
	CHECK_EQ(statistics["exits"], 0u);
	run_exits(guest);
	CHECK_EQ(statistics["exit_cpuid"], 10u);
	CHECK_EQ(statistics["exit_io_instruction"], 3u);
	CHECK_EQ(statistics["exit_msr_read"], 1u);
	CHECK_EQ(statistics["exit_msr_write"], 1u);
	CHECK_EQ(statistics["exit_vmcall"], 1u);
	CHECK_EQ(statistics["exit_hlt"], 1u);
	CHECK(statistics["exit_ept_violation"] >= 2);
	CHECK_EQ(statistics["exit_other"], 0u);
	CHECK_EQ(statistics["exits_to_user"], 6u);
	// Together they are all.
	u64 sum = 0;
	for (u32 i = 0; i < statistics.header.num_desc; ++i) {
		Descriptor one = statistics.descriptor(i);
		if (!strncmp(one.name, "exit_", 5))
			sum += statistics[one.name];
	}
	CHECK_EQ(sum, statistics["exits"]);
}

TEST(a_file_keeps_its_vm)
{
	System system;
	NEED(system, KVM_CAP_BINARY_STATS_FD);
	Fd of_vm, of_vcpu;
	{
		Vm vm{system};
		Vcpu vcpu{system, vm};
		of_vm = Fd{vm.call(KVM_GET_STATS_FD)};
		of_vcpu = Fd{vcpu.call(KVM_GET_STATS_FD)};
	}
	char bytes[4096];
	CHECK(pread(of_vcpu.number(), bytes, sizeof bytes, 0) > 0);
	of_vm.close();
	CHECK(pread(of_vcpu.number(), bytes, sizeof bytes, 0) > 0);
}

TEST(debugfs_shows_the_same)
{
	need_debugfs();
	char path[300], file[400], text[16384];
	{
		Guest guest{Mode::long_mode, exits};
		Vcpu second{guest.system, guest.vm, 7};
		run_exits(guest);
		REQUIRE(find_directory(path));
		Statistics statistics{guest.vcpu};
		snprintf(file, sizeof file, "%s/vcpu0", path);
		REQUIRE(read_text(file, text, sizeof text) > 0);
		unsigned lines = 0;
		char name[64];
		unsigned long long value;
		for (char *line = strtok(text, "\n"); line; line = strtok(nullptr, "\n"), ++lines) {
			REQUIRE_EQ(sscanf(line, "%63s %llu", name, &value), 2);
			if (!CHECK_EQ(statistics[name], value))
				note("%s", line);
		}
		CHECK_EQ(lines, statistics.header.num_desc);
		for (const char *other : {"vm", "vcpu7"}) {
			snprintf(file, sizeof file, "%s/%s", path, other);
			CHECK(read_text(file, text, sizeof text) > 0);
		}
		// The files do not keep the VM: it ends with its descriptors.
		snprintf(file, sizeof file, "%s/vm", path);
	}
	Fd gone{open(file, O_RDONLY | O_CLOEXEC)};
	CHECK(gone.number() < 0);
	CHECK(!find_directory(path));
}

TEST(debugfs_files_outlive_their_vm_harmlessly)
{
	need_debugfs();
	Fd kept;
	char path[300], file[400];
	{
		Guest guest{Mode::long_mode, exits};
		REQUIRE(find_directory(path));
		snprintf(file, sizeof file, "%s/vcpu0", path);
		kept = Fd{open(file, O_RDONLY | O_CLOEXEC)};
		REQUIRE(kept.number() >= 0);
	}
	char byte;
	CHECK(read(kept.number(), &byte, 1) < 0);
	CHECK_EQ(errno, EIO);
}
