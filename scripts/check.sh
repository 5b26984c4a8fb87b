#!/bin/sh
# Proves this bundle on a Linux machine with an NVIDIA driver and nothing else. See bench/gpucheck for what it does; at most 8 minutes.
# Exit codes: 0 nothing failed, 1 something failed, 77 everything was skipped (no GPU).
set -eu
dir=$(cd "$(dirname "$0")" && pwd)
"$dir/bin/gpucheck" unpack "$dir"
LD_LIBRARY_PATH=$dir/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
exec "$dir/bin/gpucheck" run "$dir"
