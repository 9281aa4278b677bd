# SPDX-License-Identifier: GPL-2.0-only
#
# `make` builds kvmpp.ko for the running kernel; `make help` lists the rest.

KERNELRELEASE ?= $(shell uname -r)
KDIR          ?= /lib/modules/$(KERNELRELEASE)/build

all: modules

modules modules_install clean:
	$(MAKE) -C $(KDIR) M=$(CURDIR) $@

# What runs in the test host.
selftests:
	+$(MAKE) -C selftests OUTPUT=$(CURDIR)/build/selftests

command:
	cmake -S userspace -B build/userspace
	+cmake --build build/userspace --target kvmpp

# Each installs what it needs from Debian, and says so.
check:
	@scripts/check

# And what takes longer: about an hour and a half.
check-all: check
	+$(MAKE) check-emulator
	+$(MAKE) fuzz FUZZ_SECONDS=600
	+$(MAKE) check-upstream
	scripts/in-testhost --job swapped

# The emulator against this machine's processor, for as many seconds as LIMIT says.
check-emulator:
	cmake -S userspace -B build/userspace
	+cmake --build build/userspace --target kvmpp-emulator-differential
	build/userspace/tests/emulator/kvmpp-emulator-differential --seconds $(or $(LIMIT),600)

# Linux's own KVM selftests on kvm_intel and on kvmpp.
check-upstream:
	@scripts/check-upstream

demo:
	@scripts/in-testhost --job demo

bench:
	@scripts/in-testhost --job bench $(BENCH)

FUZZ_SECONDS ?= 60

coverage:
	@scripts/coverage $(COVERAGE)

fuzz:
	@scripts/fuzz $(FUZZ_SECONDS) $(FUZZ)

# VMREADs and VMWRITEs of each kind of exit, counted by the simulated processor.
accesses:
	@cmake -S userspace -B build/userspace >/dev/null
	+@cmake --build build/userspace --target kvmpp-accesses >/dev/null
	@build/userspace/tests/kvmpp-accesses

help:
	@echo 'make                   kvmpp.ko for the running kernel (KERNELRELEASE or KDIR for another)'
	@echo 'make modules_install   installs it'
	@echo 'make clean             removes what the build of the module made'
	@echo 'make check             all tests; 15 to 40 minutes'
	@echo 'make check-all         that, check-emulator, check-upstream, ten minutes of each fuzzer, job swapped'
	@echo 'make check-emulator    the emulator against this processor, ten minutes of it (LIMIT=SECONDS)'
	@echo 'make check-upstream    Linux'"'"'s own KVM selftests, beside kvm_intel; a quarter of an hour'
	@echo 'make demo              an emulated Intel machine, in it kvmpp, on it Linux as a guest'
	@echo 'make bench             kvmpp and kvm_intel side by side, in instructions'
	@echo 'make fuzz              the fuzzers, each for FUZZ_SECONDS=60; FUZZ=exits for one of them'
	@echo 'make coverage          which lines of the module the userspace tests execute; COVERAGE=-v for each'
	@echo 'make accesses          VMREADs and VMWRITEs of each kind of exit'
	@echo 'make selftests command what runs in the emulated machine, by themselves'

.PHONY: all modules modules_install clean selftests command check check-all check-emulator demo bench accesses
.PHONY: coverage fuzz check-upstream help
