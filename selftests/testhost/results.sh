# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Follows the console of a machine while it runs, and counts the results that pass by.

passed=0 failed=0 skipped=0
in_job='' job_results=0 job_failures=0 job_planned='' ended='' stopped='' stop_at=0 expected=''

count() { # passed|failed|skipped
	printf -v "$1" %d $((${!1} + 1))
	((++job_results))
	[[ $1 != failed ]] || ((++job_failures))
}

fail() { # WHAT
	say "failed: $1"
	failures+=("$1")
	count failed
}
failures=()

# A job that ended: what it did not say in TAP is said by its exit status.
end_job() { # STATUS
	if [[ -n $job_planned ]] && ((job_planned > job_results)); then
		fail "$in_job: $job_results of $job_planned results came"
	elif (($1 != 0 && $1 != 4 && !job_failures)); then
		fail "$in_job: ended with $1"
	elif ((!job_results)); then
		if (($1 == 4)); then count skipped; else count passed; fi
	fi
	in_job=''
}

ok='^ok( |$)' not_ok='^not\ ok( |$)' plan='^1\.\.([0-9]+)' skip='#[[:space:]]*[Ss][Kk][Ii][Pp]'
# A job that makes its kernel crash says so before.
expectation='^# expected of the kernel: (.+)$'
begins='^# job (.*) begins$' ends='^# job (.*) ended with ([0-9]+)$'
fatal='Kernel panic|soft power off|Attempted to kill init|---\[ end (trace|Kernel panic)'

# The kernel's own console is another serial port than the jobs': what it says never cuts through
# their lines, and carries this mark.
kernel='kernel| '

read_line() { # LINE
	local line=$1
	printf '%s\n' "$line"
	if [[ $line == "$kernel"* ]]; then
		if [[ -n $expected && $line == *"$expected"* ]]; then
			expected=''
			return 0
		fi
		[[ -z $stopped && $line =~ $fatal ]] || return 0
		# What else it says, a back trace most likely, is worth a moment.
		stopped="the machine's kernel stopped: ${line#"$kernel"}" stop_at=$((SECONDS + 5))
	elif [[ $line =~ $not_ok ]]; then
		failures+=("${in_job:+$in_job: }${line#not ok *- }")
		count failed
	elif [[ $line =~ $ok ]]; then
		if [[ $line =~ $skip ]]; then count skipped; else count passed; fi
	elif [[ $line =~ $plan ]]; then
		((job_planned += BASH_REMATCH[1], 1))
		((BASH_REMATCH[1])) || count skipped
	elif [[ $line =~ $expectation ]]; then
		expected=${BASH_REMATCH[1]}
	elif [[ $line =~ $begins ]]; then
		in_job=${BASH_REMATCH[1]} job_results=0 job_failures=0 job_planned=''
	elif [[ $line =~ $ends ]]; then
		end_job "${BASH_REMATCH[2]}"
	elif [[ $line == '# all jobs ended' ]]; then
		ended=1 stop_at=$((SECONDS + 60))
	fi
}

follow() { # FILE MARK
	tail --pid="$machine" --sleep-interval=0.2 -c +1 -f "$1" |
		sed --unbuffered "s/\r//g; s/^/$2/"
}

watch_console() {
	local began=$SECONDS line='' part status quiet_until=$((SECONDS + 30))
	exec {lines}< <(
		follow "$boot/kernel" "$kernel" &
		follow "$boot/output" ''
	)
	while :; do
		status=0
		IFS= read -r -t 2 -u "$lines" part || status=$?
		line+=$part
		if ((!status)); then
			read_line "$line"
			line='' quiet_until=$((SECONDS + 30))
		elif ((status <= 128)); then
			break
		elif ((SECONDS >= quiet_until)); then
			say "${in_job:-machine} is running: $((SECONDS - began)) s since power-on"
			quiet_until=$((SECONDS + 30))
		fi
		if ((SECONDS - began >= seconds_allowed)); then
			stopped="no end after $seconds_allowed s"
			stop_at=$SECONDS
		fi
		if ((stop_at && SECONDS >= stop_at)); then
			kill -KILL "$machine" 2>/dev/null || true
			break
		fi
	done
	[[ -z $line ]] || read_line "$line"
	exec {lines}<&-
	# Bochs calls a guest's power-off a fatal panic; its status says nothing.
	wait "$machine" 2>/dev/null || true
	machine=''
	ran=$((SECONDS - began))
}

report_results() {
	local failure
	if [[ -n $stopped ]]; then
		fail "${in_job:+$in_job: }$stopped"
	elif [[ -z $ended ]]; then
		fail "${in_job:+$in_job: }the machine went away before its jobs had ended"
	fi
	if [[ -n $stopped || -z $ended ]]; then
		say "the console's last lines:"
		tail -n 40 "$boot/kernel" | sed "s/^/  $kernel/" >&2
		tail -n 15 "$boot/output" | sed 's/^/  /' >&2
	fi
	for failure in "${failures[@]}"; do say "not ok: $failure"; done
	say "the machine ran for $ran s"
	printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
	((!failed))
}
