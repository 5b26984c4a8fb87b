#!/bin/sh
# make bench: measures the miniature and PixArt-256 with generated weights on this machine, uncached and under schedules, and leaves the
# figures in bench/results (or the folder given).
set -eu
ecadx=$1
out=${2:-bench/results}
mkdir -p "$out"

measure() { # file, then flags of ecadx bench
	file=$out/$1.json
	shift
	echo "bench: $*" >&2
	"$ecadx" bench "$@" --json >"$file.new"
	mv "$file.new" "$file"
}

for dtype in float32 bfloat16; do
	measure "mini-pixart-$dtype" --model mini-pixart --batch 8 --dtype $dtype --schedule fora:3
done
for schedule in fora:2 fora:3; do
	measure "pixart-256-bfloat16-$(echo $schedule | tr : -)" --model random:pixart-alpha-256 --dtype bfloat16 --schedule $schedule
done
measure pixart-256-float32-fora-3 --model random:pixart-alpha-256 --dtype float32 --schedule fora:3
