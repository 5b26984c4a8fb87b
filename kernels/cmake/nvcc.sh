#!/bin/sh
# nvcc.sh REPORT NVCC ARGS...: compiles, keeps what ptxas says of each kernel in REPORT, and fails on what must not be: warnings, spills, stack frames,
# and remarks C75xx (wgmma that was serialised, setmaxnreg that was ignored).
set -u
report=$1
shift
"$@" >"$report" 2>&1
code=$?
bad=$(grep -nE 'C75[0-9][0-9]|[Ww]arning|error' "$report" || true)
spills=$(awk '/Function properties for|Compiling entry function/ { name = $0 } /bytes stack frame/ && !/ 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads/ { print name; print }' "$report")
if [ $code -ne 0 ] || [ -n "$bad" ] || [ -n "$spills" ]; then
	[ $code -eq 0 ] || cat "$report" >&2
	[ -z "$bad" ] || printf '%s\n' "$bad" >&2
	[ -z "$spills" ] || printf 'spills or stack frames:\n%s\n' "$spills" >&2
	exit 1
fi
