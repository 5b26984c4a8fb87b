#!/bin/sh
# make demo: searches caching schedules for the built-in miniature, then shows what they do to its pictures. Run again, it goes on.
set -eu
ecadx=$1
out=$2

"$ecadx" evolve --out "$out"
"$ecadx" generate --from-study "$out" --force --quiet
