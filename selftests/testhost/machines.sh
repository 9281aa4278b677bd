# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# The three machines. start_MACHINE starts one whose process is $machine; in the directory $boot
# its kernel's console becomes the file "kernel" and what its jobs print the file "output".

# Bochs counts this many instructions as a second of its machine's time. It is what it really does
# on a CPU of today, so that the machine's clock and the wall's go about alike.
ips=50000000

bochs_packages=(bochs bochsbios vgabios isolinux syslinux-common xorriso)

# Several models' CPUID claims another TSC frequency than they have, so it is given. Some models
# have features that Bochs's save area for them does not match. Its SYSRET leaves the attributes of SS as they
# were, like AMD's, so programs of 32 bits shall not return by it: the kernel knows that of AMD alone.
bochs_cmdline() {
	printf 'console=ttyS0,115200 quiet panic=0 oops=panic cryptomgr.notests vdso32=0 tsc=reliable no_timer_check tsc_early_khz=%d' \
		$((ips / 1000))
	case $model in
	corei7_icelake_u | tigerlake) printf ' clearcpuid=pku,fsrm,avx512f' ;;
	esac
}

start_bochs() {
	# Bochs has little room for the names of its files: they lie where it runs.
	ln "$cd" "$boot/cd.iso"
	sed -e "s|@model@|$model|; s|@cpus@|$cpus|; s|@ips@|$ips|; s|@memory@|$memory|" \
		"$here/bochsrc.in" >"$boot/bochsrc"
	# Debian's Bochs is built with its debugger, which waits for this word.
	echo c >"$boot/rc"
	env -C "$boot" bochs-bin -q -f bochsrc -rc rc >"$boot/bochs.log" 2>&1 </dev/null &
	machine=$!
}

start_qemu() {
	local nested=/sys/module/kvm_intel/parameters/nested
	[[ -r $nested && $(<"$nested") == [Y1] ]] ||
		die 'the machine qemu needs kvm_intel with nested=1 here; --machine bochs needs nothing'
	qemu-system-x86_64 -machine q35,accel=kvm -cpu host -smp "$cpus" -m "$memory" \
		-kernel "$kernel_root/boot/vmlinuz-$release" -initrd "$image.cpio" \
		-append "console=ttyS0,115200 quiet panic=-1 oops=panic${append:+ $append}" \
		-display none -monitor none -no-reboot -serial "file:$boot/kernel" -serial "file:$boot/output" \
		>"$boot/qemu.log" 2>&1 </dev/null &
	machine=$!
}

# The jobs run right here, on this machine's kernel and with its modules.
start_here() {
	as_root sh "$stage/testhost/run-jobs" "$stage/testhost" here >"$boot/output" 2>&1 </dev/null &
	machine=$!
}
