// SPDX-License-Identifier: GPL-2.0-only
#include "pattern.h"
#include "step.h"
#include "steps.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <net/if.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace kvmpp::qemu
{

namespace
{

constexpr std::uint64_t disk_bytes = 4 << 20;
constexpr std::uint16_t port = 7000;

bool has(const std::string &text, const char *words)
{
	return text.find(words) != text.npos;
}

std::string words(std::uint64_t seed, std::uint64_t bytes)
{
	return " " + std::to_string(seed) + " " + std::to_string(bytes);
}

// Where QEMU connects to when its guest connects to 10.0.2.2: this machine's loopback.
int listener()
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
	EXPECT(fd >= 0);
	ifreq loopback{"lo", {}};
	EXPECT(ioctl(fd, SIOCGIFFLAGS, &loopback) == 0);
	loopback.ifr_flags |= IFF_UP;
	EXPECT(ioctl(fd, SIOCSIFFLAGS, &loopback) == 0);
	sockaddr_in address{};
	address.sin_family = AF_INET;
	address.sin_port = htons(port);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	EXPECT(bind(fd, reinterpret_cast<sockaddr *>(&address), sizeof address) == 0);
	EXPECT(listen(fd, 1) == 0);
	return fd;
}

// The guest's command, while a thread here is its peer.
template <typename Peer>
bool with_peer(Machine &machine, int listening, const std::string &command, Peer peer)
{
	bool good = false;
	std::thread thread{[&] {
		pollfd ready{listening, POLLIN, 0};
		if (poll(&ready, 1, 60'000) != 1)
			return;
		int fd = accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
		good = fd >= 0 && peer(fd);
		close(fd);
	}};
	machine.ask(command, 240);
	thread.join();
	return good;
}

std::string to_host(const char *verb, std::uint64_t seed, std::uint64_t bytes)
{
	return std::string{"in_guest "} + verb + " 10.0.2.2 " + std::to_string(port) +
	       words(seed, bytes);
}

} // namespace

void boots(Machine &machine)
{
	{
		Step step{"the guest boots"};
		machine.wait_for_guest();
	}
	Step step{"it finds two processors, KVM, its paravirtual clock and its memory"};
	std::string facts = machine.ask("facts");
	EXPECT(has(facts, "processors: 2\n"));
	EXPECT(has(facts, "hypervisor: KVM\n"));
	EXPECT(has(facts, "kvm-clock"));
	EXPECT(has(facts, "enough memory: yes\n"));
}

void gives_random_numbers(Machine &machine)
{
	Step step{"virtio-rng gives random numbers"};
	const char *command = "grep -q virtio /sys/class/misc/hw_random/rng_current &&"
			      " dd if=/dev/hwrng bs=64 count=1 2>/dev/null | md5sum";
	std::string first = machine.ask(command);
	EXPECT(first.size() > 32);
	EXPECT(first != machine.ask(command));
}

void shares_sectors(Machine &machine, const Hardware &hardware)
{
	int fd = open(hardware.disk.c_str(), O_RDWR | O_CLOEXEC);
	{
		Step step{"the guest reads from its disk what the host wrote"};
		EXPECT(fd >= 0);
		EXPECT(send_pattern(fd, 1, disk_bytes));
		machine.ask("in_guest read /dev/vda 0" + words(1, disk_bytes));
	}
	Step step{"the host reads from it what the guest wrote"};
	machine.ask("in_guest write /dev/vda " + std::to_string(disk_bytes) + words(2, disk_bytes));
	// After what it wrote itself.
	EXPECT(receive_pattern(fd, 2, disk_bytes));
	close(fd);
}

void has_file_system(Machine &machine)
{
	Step step{"a file system on the disk keeps a file"};
	machine.ask("mke2fs /dev/vda >/dev/null && mount -t ext2 /dev/vda /mnt");
	machine.ask("in_guest write /mnt/file 0" + words(3, disk_bytes));
	machine.ask("umount /mnt && mount -t ext2 /dev/vda /mnt");
	machine.ask("in_guest read /mnt/file 0" + words(3, disk_bytes));
}

void moves_network_data(Machine &machine, unsigned mib)
{
	const std::uint64_t bytes = std::uint64_t{mib} << 20;
	int listening = -1;
	{
		Step step{"megabytes come over virtio-net"};
		listening = listener();
		machine.ask("ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up");
		EXPECT(with_peer(machine, listening, to_host("receive", 4, bytes),
			[=](int fd) { return send_pattern(fd, 4, bytes); }));
	}
	Step step{"megabytes go over it"};
	EXPECT(with_peer(machine, listening, to_host("send", 5, bytes),
		[=](int fd) { return receive_pattern(fd, 5, bytes) && write(fd, "y", 1) == 1; }));
	close(listening);
}

} // namespace kvmpp::qemu
