#!/bin/sh
# fuzz.sh BUILD TIME [WORD]: builds every fuzz target and runs each for TIME (20s, 10m), two at a time; with WORD only those whose name holds it.
# C: kernels/fuzz, with the seeds beside it. Go: every Fuzz function, with the corpus under its package's testdata/fuzz. What they learn stays in
# BUILD/fuzz/corpus and in the go command's cache. Prints a line per target with its executions; fails when one found something.
set -eu
build=$1 time=$2 word=${3:-}
case $time in
*m) seconds=$((${time%m} * 60)) ;;
*) seconds=${time%s} ;;
esac
cd "$(dirname "$0")/.."
dir=$build/fuzz
mkdir -p "$dir"

{
	for t in program safetensors api; do echo "c $t"; done
	git grep -n '^func Fuzz[A-Za-z0-9]*(' -- '*_test.go' | sed -E 's|^([^:]*)/[^/:]*:[0-9]+:func (Fuzz[A-Za-z0-9]*)\(.*|go ./\1 \2|'
} | grep -F -e "$word" >"$dir/targets" || { echo "fuzz: no target is called $word" >&2; exit 1; }

if grep -q '^c ' "$dir/targets" && ! { CC=clang CXX=clang++ cmake -S . -B "$dir" -DECAD_SANITIZE=ON -DECAD_CPU=OFF -DECAD_BUILD_FUZZ=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo &&
	cmake --build "$dir" -j 2; } >"$dir/build.log" 2>&1; then
	cat "$dir/build.log"
	exit 1
fi

# One target: its output to a file, one line to the terminal.
cat >"$dir/one.sh" <<'END'
set -eu
dir=$1 seconds=$2 kind=$3 what=$4 name=${5:-}
log=$dir/$(echo "$kind-$what-$name" | tr -c 'A-Za-z0-9\n' _).log
start=$(date +%s)
if [ "$kind" = c ]; then
	label="kernels/fuzz $what"
	mkdir -p "$dir/corpus/$what"
	ASAN_OPTIONS=allocator_may_return_null=1:max_allocation_size_mb=256 "$dir/kernels/fuzz/fuzz_$what" -max_total_time="$seconds" -timeout=20 -malloc_limit_mb=1000000 -print_final_stats=1 \
		-artifact_prefix="$dir/$what-" "$dir/corpus/$what" "kernels/fuzz/seeds/$what" >"$log" 2>&1 && ok=1 || ok=0
	runs=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
else
	label="$what $name"
	${GO:-go} test -run '^$' -fuzz "^$name\$" -fuzztime "${seconds}s" -parallel 1 "$what" >"$log" 2>&1 && ok=1 || ok=0
	runs=$(sed -n 's/.*execs: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
	# When the time ends, go test before 1.27 may fail with that alone (golang.org/issue/75804). What it finds, hangs too, it writes to a file.
	if [ $ok = 0 ] && grep -qx ' *context deadline exceeded' "$log" && ! grep -qE 'Failing input|hung or terminated|panic' "$log"; then ok=1; fi
fi
if [ $ok = 1 ]; then
	echo "fuzz: ok   $label: ${runs:-0} executions in $(($(date +%s) - start)) s"
else
	echo "fuzz: FAIL $label:"
	tail -n 60 "$log"
	exit 1
fi
END
xargs -P 2 -L 1 sh "$dir/one.sh" "$dir" "$seconds" <"$dir/targets"
