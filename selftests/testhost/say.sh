# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# How the scripts speak: one line per step, and how long a step that takes long has been at it.

say() { printf '%s: %s\n' "${speaker:-testhost}" "$*" >&2; }

die() {
	say "$*"
	exit 1
}

# slow WHAT COMMAND...: runs the command with its output put aside, which is shown if it fails.
slow() {
	local what=$1 began=$SECONDS log pid status=0
	shift
	log=$(mktemp)
	say "$what"
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.5
		if ((SECONDS - began >= next_word)); then
			say "$what: $((SECONDS - began)) s"
			next_word=$((next_word + 15))
		fi
	done
	next_word=15
	wait "$pid" || status=$?
	if ((status)); then
		say "failed: $*"
		tail -n 30 "$log" >&2
	elif ((SECONDS - began >= 5)); then
		say "$what: done after $((SECONDS - began)) s"
	fi
	rm -f "$log"
	return "$status"
}
next_word=15
