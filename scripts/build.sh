# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Builds for the tests: of the module in a copy of its sources, of what runs in userspace. The
# scripts that source this run in the repository's folder, which is in root.

modules=$root/build/modules
cpus=$(nproc)

build_userspace() { # DIRECTORY TARGET OPTION...
	cmake -S userspace -B "$1" "${@:3}" && cmake --build "$1" -j "$cpus" --target "$2" -- -k
}

# A copy of the module's sources, for a build that leaves this folder alone and that is not made
# anew when nothing has changed.
copy_sources() { # DIRECTORY
	mkdir -p "$1" || return
	find "$1/module" -type f ! -path '*/generated/*' \
		\( -name '*.c' -o -name '*.cpp' -o -name '*.h' -o -name '*.S' \) -delete 2>/dev/null
	tar --create --exclude='*.o' --exclude='*.cmd' --exclude='*.s' --exclude=generated \
		module scripts Kbuild Makefile dkms.conf | tar --extract --directory "$1"
}

build_module() { # DIRECTORY RELEASE
	copy_sources "$1" || return
	make -C "$1" -j "$cpus" KDIR="/usr/src/linux-headers-$2" modules >"$1/build.log" 2>&1
	local status=$?
	cat "$1/build.log"
	((status == 0)) || return
	# It is to build without a warning; where there was one, the next build shall say so again.
	if grep --quiet --ignore-case warning "$1/build.log"; then
		find "$1/module" -name '*.o' -delete
		return 1
	fi
}
