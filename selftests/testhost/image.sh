# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What a machine boots: the words a job file is written in fill a directory, the directory becomes
# an initramfs, and for Bochs, which boots from media only, that becomes a CD.

# --- the words of a job file ------------------------------------------------------------------

# job NAME: begins a job; the words below belong to the one begun last.
job() {
	this_job=$stage/testhost/jobs/$1
	mkdir -p "$this_job"
	printf '%s\n' "$1" >>"$stage/testhost/jobs/order"
	: >"$this_job/modules"
	printf '300\n' >"$this_job/limit"
}

# execute STRING: what sh runs, among the files of all jobs. Without any TAP from it, its exit
# status is the result: 0 passed, 4 skipped, anything else failed.
execute() { printf '%s\n' "$1" >"$this_job/command"; }

# limit SECONDS: after so many of the machine's own seconds the job has failed.
limit() { printf '%s\n' "$1" >"$this_job/limit"; }

# module NAME [PARAMETER...]: loaded before the job, after those named before it.
module() {
	printf '%s\n' "$*" >>"$this_job/modules"
	module_file "$1"
}

# module_file NAME: has the module in the machine, for the job to load.
module_file() {
	local path
	# Right here the others come from the machine's own tree, by modprobe.
	[[ $machine_name != here || $1 == kvmpp ]] || return 0
	mkdir -p "$stage/testhost/modules"
	if [[ $1 == kvmpp ]]; then
		path=$kvmpp_ko
		[[ -e $path ]] || die "$path is not built: make KERNELRELEASE=$release"
		[[ $(modinfo -F vermagic "$path") == "$release "* ]] ||
			die "$path is built for another kernel: make KERNELRELEASE=$release"
	elif [[ $1 == vtx_thief ]]; then
		path=$work/thief/$release/vtx_thief.ko
		build_thief "${path%/*}" || die "vtx_thief does not build"
	elif [[ $1 == kvm_intel ]]; then
		module_file irqbypass
		module_file kvm
		path=$(kernel_module kvm-intel)
	else
		path=$(kernel_module "$1") || die "this kernel has no module $1"
	fi
	# Neither debug information nor a signature, whose check takes an emulated CPU seconds.
	strip --strip-debug -o "$stage/testhost/modules/$1.ko" "$path"
}

# build_thief DIRECTORY: the module that takes VT-x away, for the machine's kernel.
build_thief() {
	mkdir -p "$1"
	cp --update "$here"/thief/* "$1"
	make --silent -C "/usr/src/linux-headers-$release" M="$1" modules >"$1/build.log" 2>&1 || {
		cat "$1/build.log" >&2
		return 1
	}
}

# file SOURCE [NAME]: a file for the jobs, relative to the repository; with its shared libraries.
file() {
	local source=$1 name=${2-${1##*/}} library
	[[ $source == /* ]] || source=$root/$source
	[[ -e $source ]] || die "$source is not there: make selftests"
	mkdir -p "$stage/testhost/files"
	if [[ -e $stage/testhost/files/$name ]]; then
		cmp --silent "$source" "$stage/testhost/files/$name" ||
			die "two different files are called $name"
		return 0
	fi
	cp -L "$source" "$stage/testhost/files/$name"
	while read -r library; do
		mkdir -p "$stage${library%/*}"
		cp -L "$library" "$stage$library"
	done < <(ldd "$source" 2>/dev/null | grep -o -E '/[^ ]+' || true)
}

# guest_initramfs NAME INIT FILE...: a file for the jobs: an initramfs of busybox, that init and these.
guest_initramfs() {
	local tree
	tree=$(mktemp -d)
	mkdir -p "$tree"/{bin,dev,proc,sys,tmp}
	cp "$busybox" "$tree/bin/busybox"
	install -m 755 "$root/$2" "$tree/init"
	(($# == 2)) || cp -L "${@:3}" "$tree"
	pack "$tree" "$tree.cpio"
	file "$tree.cpio" "$1"
	rm -rf "$tree" "$tree.cpio"
}

# linux_guest DEVICE 'MODULE [PARAMETER...]' CPUS [WORDS]: the rest of a job that boots Debian's kernel as a guest of
# `kvmpp run`, with these words on its command line (quiet).
linux_guest() {
	# shellcheck disable=SC2086 # a module and its parameters
	module $2
	file build/userspace/kvmpp/kvmpp
	linux_guest_files
	execute "exec sh ./boot-guest $3 '${4-quiet}' ./kvmpp run --device $1 --cpus $3 --memory 256M"
}

# qemu_session short|long DEVICE MODULE pci|mmio OPTION...: the rest of a job that drives Debian's QEMU with
# these options, to which the device is KVM's; its virtio devices are on that bus.
qemu_session() {
	local device=$2 link=''
	[[ $device == /dev/kvm ]] || link="ln -sf ${device#/dev/} /dev/kvm;"
	# shellcheck disable=SC2086 # a module and its parameters
	module $3
	limit 900
	qemu_files
	file build/selftests/drive_qemu
	file "$kernel_root/boot/vmlinuz-$release" guest-kernel
	guest_commands
	"disk_of_$1_session"
	execute "$link $make_disk exec ./drive_qemu $1 disk $4 $qemu ${*:5}"
}

disk_of_short_session() { make_disk='rm -f disk; truncate -s 64M disk;'; }

# One that has room for snapshots, and what else such a session needs.
disk_of_long_session() {
	local disk
	install_packages qemu-utils
	disk=$(mktemp)
	qemu-img create -q -f qcow2 "$disk" 64M
	file "$disk" empty-disk
	rm -f "$disk"
	make_disk='cp empty-disk disk;'
	fetch_gdb
	file "$gdb" gdb
}

# The initramfs of a guest that is told what to do, with the drivers that it loads, in order.
guest_commands() {
	local parts name
	parts=$(mktemp -d)
	for name in failover net_failover virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev \
		virtio_pci virtio_mmio virtio_blk virtio_net virtio-rng; do
		strip --strip-debug -o "$parts/$name.ko" "$(kernel_module "$name")"
		printf '%s\n' "$name" >>"$parts/modules"
	done
	guest_initramfs guest-commands selftests/testhost/guest/commands "$root/build/selftests/in_guest" "$parts"/*
	rm -rf "$parts"
}

linux_guest_files() {
	file "$kernel_root/boot/vmlinuz-$release" guest-kernel
	guest_initramfs guest-initramfs selftests/testhost/guest/init
	file selftests/testhost/guest/boot boot-guest
}

# How jobs call QEMU.
qemu='./qemu-system-x86_64 -accel kvm -L . -nodefaults -no-user-config -display none'

qemu_files() {
	local firmware path
	install_packages qemu-system-x86 seabios ovmf
	file /usr/bin/qemu-system-x86_64
	for firmware in bios-256k bios-microvm kvmvapic linuxboot_dma; do
		path=$(compgen -G "/usr/share/*/$firmware.bin" | head -n 1)
		file "$path"
	done
}

# upstream_tests MODULE PREPARATION: a job for each of Linux's KVM selftests, or for those that were named.
# An emulated machine has neither the memory nor the time that some take by default.
upstream_tests() {
	local programs=("${only[@]}") name words seconds
	# Their guests spin with interrupts off, which nothing ends in Bochs, on kvm_intel neither.
	((${#only[@]})) || mapfile -t programs < <(cd "$root/build/upstream/bin" && ls \
		--ignore={hardware_disable,set_memory_region,vmx_preemption_timer}_test)
	for name in "${programs[@]}"; do
		seconds=240
		case $name in
		demand_paging_test | dirty_log_perf_test | kvm_page_table_test) words='-b 16M -v 1' ;;
		dirty_log_test) words='-i 4 -I 10' seconds=600 ;; # three ways of logging
		memslot_modification_stress_test) words='-i 50 -b 16M -v 1' ;;
		memslot_perf_test) words='-l 1 -s 512 -f 0 -e 0' ;;
		*) words='' ;;
		esac
		job "upstream/$name"
		limit "$seconds"
		module "$1"
		file "build/upstream/bin/$name"
		execute "$2 exec ./$name $words"
	done
}

# --- packing ----------------------------------------------------------------------------------

busybox=/bin/busybox

# pack DIRECTORY ARCHIVE: the same content gives the same bytes.
pack() {
	find "$1" -exec touch --no-dereference --date=@0 {} +
	(cd "$1" && find . -print0 | sort --zero-terminated |
		cpio --null --create --format=newc --owner=0:0 --reproducible --quiet) >"$2"
}

# stage_jobs NAME...: the directory of everything that these jobs need, run-jobs included.
stage_jobs() {
	local name
	stage=$(mktemp -d)
	mkdir -p "$stage/testhost/jobs"
	cp "$here/run-jobs" "$stage/testhost/run-jobs"
	for name; do
		[[ -e $here/jobs/$name ]] || die "there is no job $name; --list shows those there are"
		# shellcheck source=/dev/null
		. "$here/jobs/$name"
	done
	if [[ -n $command ]]; then
		job command
		for name in "${command_modules[@]}"; do
			# shellcheck disable=SC2086 # a module and its parameters
			module $name
		done
		for name in "${command_files[@]}"; do file "$name"; done
		execute "$command"
	fi
	[[ -s $stage/testhost/jobs/order ]] || die 'no job was named'
}

# build_image: from the staged directory; the initramfs is $image.cpio, and $image.iso for Bochs.
# It is named after its content: what was built once is not built again.
build_image() {
	mkdir -p "$stage"/{bin,dev,proc,sys,tmp,run} "$work/images"
	cp "$busybox" "$stage/bin/busybox"
	install -m 755 "$here/init" "$stage/init"
	pack "$stage" "$stage.cpio"
	image=$work/images/$(sha256sum <"$stage.cpio" | cut -c 1-16)
	mv "$stage.cpio" "$image.cpio"
	rm -rf "$stage"
	# Old ones go; what a machine that runs now has open stays readable to it.
	find "$work/images" -type f -mmin +720 ! -path "$image.*" -delete
}

# build_cd CMDLINE: the CD of that initramfs and the kernel's command line; its path is in cd.
build_cd() {
	local tree modules=/usr/lib/syslinux/modules/bios
	cd=$image-$(printf '%s\n' "$release $1" | sha256sum | cut -c 1-8).iso
	if [[ -e $cd ]]; then
		touch "$cd"
		return 0
	fi
	tree=$(mktemp -d)
	cp /usr/lib/ISOLINUX/isolinux.bin "$modules/ldlinux.c32" "$tree"
	cp "$kernel_root/boot/vmlinuz-$release" "$tree/linux"
	cp "$image.cpio" "$tree/initramfs"
	printf 'DEFAULT linux\nPROMPT 0\nTIMEOUT 0\nLABEL linux\nLINUX linux\nINITRD initramfs\nAPPEND %s\n' \
		"$1" >"$tree/isolinux.cfg"
	slow 'building the CD' xorriso -as mkisofs -quiet -o "$cd.part" -b isolinux.bin -c boot.cat \
		-no-emul-boot -boot-load-size 4 -boot-info-table "$tree"
	mv "$cd.part" "$cd"
	rm -rf "$tree"
}
