#!/bin/sh
# Proves this bundle on a Linux machine with an NVIDIA driver and nothing else. See bench/gpucheck for what it does; at most 8 minutes.
# Exit codes: 0 nothing failed, 1 something failed, 77 everything was skipped (no GPU).
set -eu
dir=$(cd "$(dirname "$0")" && pwd)
for library in "$dir"/lib/*.gz; do
	if [ -e "$library" ] && [ ! -e "${library%.gz}" ]; then gzip -dk "$library"; fi
done
LD_LIBRARY_PATH=$dir/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
exec "$dir/bin/gpucheck" run "$dir"
