// SPDX-License-Identifier: GPL-2.0-only
#include "in_guest.h"
#include "pattern.h"

#include <arpa/inet.h>
#include <cstdio>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace kvmpp::qemu
{

namespace
{

int connection(const char *address, std::uint16_t port)
{
	sockaddr_in peer{};
	peer.sin_family = AF_INET;
	peer.sin_port = htons(port);
	peer.sin_addr.s_addr = inet_addr(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, reinterpret_cast<sockaddr *>(&peer), sizeof peer) < 0) {
		perror(address);
		return -1;
	}
	return fd;
}

int open_at(const char *path, int flags, std::uint64_t offset)
{
	int fd = open(path, flags, 0600);
	if (fd < 0 || lseek(fd, static_cast<off_t>(offset), SEEK_SET) < 0) {
		perror(path);
		return -1;
	}
	return fd;
}

} // namespace

bool write_file(const char *path, std::uint64_t offset, Pattern pattern)
{
	int fd = open_at(path, O_WRONLY | O_CREAT, offset);
	return fd >= 0 && send_pattern(fd, pattern.seed, pattern.bytes) && fsync(fd) == 0 &&
	       close(fd) == 0;
}

bool read_file(const char *path, std::uint64_t offset, Pattern pattern)
{
	int fd = open_at(path, O_RDONLY, offset);
	return fd >= 0 && receive_pattern(fd, pattern.seed, pattern.bytes);
}

bool send_to(const char *address, std::uint16_t port, Pattern pattern)
{
	int fd = connection(address, port);
	char confirmation = 0;
	return fd >= 0 && send_pattern(fd, pattern.seed, pattern.bytes) &&
	       read(fd, &confirmation, 1) == 1 && confirmation == 'y';
}

bool receive_from(const char *address, std::uint16_t port, Pattern pattern)
{
	int fd = connection(address, port);
	return fd >= 0 && receive_pattern(fd, pattern.seed, pattern.bytes);
}

} // namespace kvmpp::qemu
