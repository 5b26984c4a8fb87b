#!/bin/sh
# Proves this bundle on a Linux machine (x86-64, glibc 2.36, or 2.34 and a libstdc++ of GCC 12) with an NVIDIA driver and nothing else. See bench/gpucheck for what it does; at most 8 minutes. It writes into
# this folder alone: check.json after every section, check.log with what every program printed.
# Exit codes: 0 nothing failed, 1 something failed, 77 everything was skipped (no GPU).
set -eu
dir=$(cd "$(dirname "$0")" && pwd)
"$dir/bin/gpucheck" unpack "$dir"
exec "$dir/bin/gpucheck" run "$dir"
