// SPDX-License-Identifier: GPL-2.0-only
// `kvmpp status` on hosts that a directory describes.
#include <algorithm>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>
#include "kvmpp/status/report.h"

namespace kvmpp::command
{
namespace
{

struct StatusTest : testing::Test {
	std::filesystem::path root;
	VtxReport vtx{.source = "a test", .features = {"EPT"}, .missing = {}};

	StatusTest()
	{
		char name[] = "/tmp/kvmpp-test-XXXXXX";
		root = ::mkdtemp(name);
		put("proc/cpuinfo", "processor\t: 0\nmodel name\t: Test CPU\nflags\t\t: fpu vmx\n"
				    "vmx flags\t: vnmi ept unrestricted_guest\nempty\t:\n\n"
				    "processor\t: 1\nmodel name\t: Other CPU\n");
	}
	~StatusTest() override { std::filesystem::remove_all(root); }

	void put(const std::string &name, const std::string &content)
	{
		std::filesystem::create_directories((root / name).parent_path());
		std::ofstream{root / name} << content;
	}
	HostFiles files() const { return HostFiles{root}; }
	std::string line(const std::string &subject)
	{
		const Status status = report(files(), vtx);
		const auto found = std::ranges::find(status.lines, subject, &Line::subject);
		return found == status.lines.end() ? "" : found->text;
	}
	static bool contains(const std::string &text, const char *part)
	{
		return text.find(part) != text.npos;
	}
};

TEST_F(StatusTest, cpuinfo_is_read_by_whole_keys)
{
	EXPECT_EQ(files().cpuinfo("model name"), "Test CPU");
	EXPECT_EQ(files().cpuinfo("flags"), "fpu vmx");
	EXPECT_EQ(files().cpuinfo("empty"), "");
	EXPECT_EQ(files().cpuinfo("model"), "");
}

TEST_F(StatusTest, without_msrs_cpuinfo_decides_as_far_as_it_can)
{
	VtxReport found = examine_vtx(files());
	EXPECT_EQ(found.missing, "");
	EXPECT_FALSE(found.certain);
	EXPECT_EQ(found.features.size(), 3u);

	put("proc/cpuinfo", "flags : vmx\nvmx flags : ept\n");
	EXPECT_EQ(examine_vtx(files()).missing, "");
	put("proc/cpuinfo", "flags : vmx\n");
	EXPECT_EQ(examine_vtx(files()).missing, "extended page tables");
	put("proc/cpuinfo", "flags : fpu svm\n");
	EXPECT_TRUE(contains(examine_vtx(files()).missing, "VT-x"));
	std::filesystem::remove_all(root / "proc");
	EXPECT_TRUE(contains(examine_vtx(files()).missing, "VT-x"));
}

TEST_F(StatusTest, module_would_load_or_not)
{
	EXPECT_EQ(line("kvmpp"), "not loaded; it would load");
	EXPECT_TRUE(report(files(), vtx).usable);
	put("sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
	EXPECT_TRUE(contains(line("kvmpp"), "if it is signed"));
	put("sys/kernel/security/lockdown", "[none] integrity confidentiality\n");
	put("sys/module/module/parameters/sig_enforce", "Y\n");
	EXPECT_TRUE(contains(line("kvmpp"), "only signed modules"));
	vtx.missing = "extended page tables";
	EXPECT_EQ(line("kvmpp"),
		"not loaded; it would refuse: this machine lacks extended page tables");
	EXPECT_FALSE(report(files(), vtx).usable);
	put("sys/module/kvmpp/refcnt", "2\n");
	EXPECT_EQ(line("kvmpp"), "loaded, in use 2 times");
	put("sys/module/kvmpp/refcnt", "0\n");
	put("sys/module/kvmpp/version", "0.1\n");
	EXPECT_EQ(line("kvmpp"), "loaded, version 0.1, not in use");
	EXPECT_TRUE(report(files(), vtx).usable);
}

TEST_F(StatusTest, tells_who_holds_vtx)
{
	EXPECT_EQ(line("kvm_intel"), "not loaded");
	put("sys/module/kvm_intel/refcnt", "0\n");
	EXPECT_TRUE(contains(line("kvm_intel"), "does not hold VT-x"));
	put("sys/module/kvm_intel/refcnt", "3\n");
	EXPECT_TRUE(contains(line("kvm_intel"), "in use 3 times"));
	put("sys/module/kvm/parameters/enable_virt_at_load", "Y\n");
	EXPECT_TRUE(contains(line("kvm_intel"), "loaded, holds VT-x"));
}

TEST_F(StatusTest, mitigations_are_the_modules_once_it_is_loaded)
{
	put("sys/devices/system/cpu/vulnerabilities/l1tf", "Mitigation: PTE Inversion\n");
	EXPECT_EQ(line("l1tf"), "Mitigation: PTE Inversion");
	put("sys/module/kvmpp/parameters/mitigations", "verw rsb-fill\n");
	EXPECT_EQ(line("mitigations"), "verw rsb-fill (applied by the module)");
	EXPECT_EQ(line("l1tf"), "");
}

TEST_F(StatusTest, devices_have_owners_by_name)
{
	EXPECT_EQ(line("/dev/kvmpp"), "does not exist");
	put("dev/kvmpp", "");
	std::filesystem::permissions(root / "dev/kvmpp", std::filesystem::perms{0660});
	put("etc/passwd", "somebody:x:4711:0::/:\nme:x:" + std::to_string(::getuid()) + ":0::/:\n");
	put("etc/group", "us:x:" + std::to_string(::getgid()) + ":\n");
	EXPECT_EQ(line("/dev/kvmpp"), "0660 me:us, you may open it");
}

} // namespace
} // namespace kvmpp::command
