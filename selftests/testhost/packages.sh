# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What the test host takes from Debian. Programs and headers are installed; kernels are only
# unpacked, below build/, so that the machine's own boot is never touched.

as_root() {
	if ((EUID == 0)); then
		"$@"
	else
		sudo "$@"
	fi
}

refresh_lists() {
	[[ -z ${lists_are_fresh-} ]] || return 0
	slow 'reading the package lists' as_root apt-get update
	lists_are_fresh=1
}

# install_packages NAME...: those that are missing.
install_packages() {
	local name missing=()
	for name; do
		[[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] ||
			missing+=("$name")
	done
	((${#missing[@]})) || return 0
	((EUID == 0)) || say "sudo is asked for, to install from Debian: ${missing[*]}"
	refresh_lists
	slow "installing from Debian: ${missing[*]}" as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install --yes --no-install-recommends "${missing[@]}"
}

# The package that lets the compiler make programs of 32 bits. The one without a version would have
# cross compilers removed.
multilib() { printf 'g++-%s-multilib\n' "$(g++ -dumpversion 2>/dev/null || echo 12)"; }

# kernel_release FLAVOUR: the newest release of that flavour whose headers are installed.
kernel_release() {
	local found
	found=$(
		dpkg-query -W -f '${db:Status-Status} ${Package}\n' 'linux-headers-[0-9]*' |
			sed -n -E "s/^installed linux-headers-([0-9.]+(-[0-9]+)?-$1)\$/\1/p" |
			sort --version-sort | tail -n 1
	)
	[[ -n $found ]] || return 1
	printf '%s\n' "$found"
}

# fetch_kernel RELEASE: unpacks that kernel's package; its root directory is in kernel_root.
fetch_kernel() {
	local package=linux-image-$1 version
	kernel_root=$work/kernels/$1
	[[ ! -e $kernel_root/boot/vmlinuz-$1 ]] || return 0
	version=$(dpkg-query -W -f '${Version}' "linux-headers-$1")
	mkdir -p "$work/kernels"
	if ! compgen -G "$work/kernels/${package}_*.deb" >/dev/null; then
		refresh_lists
		slow "downloading $package $version" \
			env -C "$work/kernels" apt-get download "$package=$version"
	fi
	rm -rf "$kernel_root.part"
	slow "unpacking $package" \
		dpkg -x "$(compgen -G "$work/kernels/${package}_*.deb" | tail -n 1)" "$kernel_root.part"
	rm -rf "$kernel_root"
	mv "$kernel_root.part" "$kernel_root"
}

# fetch_gdb: its path is in gdb. It is gdb-minimal's, without Python; that package and gdb's exclude each
# other, so where there is gdb it is only unpacked.
fetch_gdb() {
	if [[ $(dpkg-query -W -f '${db:Status-Status}' gdb 2>/dev/null) != installed ]]; then
		install_packages gdb-minimal
		gdb=/usr/bin/gdb
		return
	fi
	gdb=$work/gdb/usr/bin/gdb
	[[ ! -e $gdb ]] || return 0
	mkdir -p "$work/gdb.part"
	refresh_lists
	slow 'downloading gdb-minimal' env -C "$work/gdb.part" apt-get download gdb-minimal
	dpkg -x "$work/gdb.part/"gdb-minimal_*.deb "$work/gdb.part"
	rm -rf "$work/gdb"
	mv "$work/gdb.part" "$work/gdb"
}

# kernel_module NAME: the path of that module in the fetched kernel, unpacked if it is compressed.
kernel_module() {
	local packed
	packed=$(find "$kernel_root/lib/modules" "$kernel_root/usr/lib/modules" -name "$1.ko*" \
		2>/dev/null | sort | head -n 1)
	case $packed in
	'') return 1 ;;
	*.ko) ;;
	*.ko.xz) xz --decompress --keep --force "$packed" ;;
	*.ko.zst) zstd --decompress --quiet --force "$packed" ;;
	esac
	printf '%s\n' "${packed%.ko*}.ko"
}
