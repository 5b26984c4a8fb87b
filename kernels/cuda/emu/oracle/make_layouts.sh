#!/bin/sh
# Makes layouts.txt anew: needs nvcc 13 (NVCC=...) and python3 with venv; fetches the headers of CUTLASS (the nvidia-cutlass wheel, test-only) into a
# temporary folder. Runs on a host without a GPU.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
nvcc=${NVCC:-nvcc}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "${CUTLASS_INCLUDE:-}" ]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" -q install --no-deps nvidia-cutlass==4.2.0.0
  CUTLASS_INCLUDE=$(echo "$work"/venv/lib/python3*/site-packages/cutlass_library/source/include)
fi
"$nvcc" -std=c++17 -arch=sm_90a -DCUTE_SM90_EXTENDED_MMA_SHAPES_ENABLED -I"$CUTLASS_INCLUDE" -cudart static ${NVCC_FLAGS:-} "$here/cute_layouts.cu" -o "$work/layouts"
{
  echo "# Printed by cute_layouts.cu (make_layouts.sh) from CUTLASS 4.2.0, BSD-3-Clause. Do not edit."
  "$work/layouts" | grep -v "^ERROR: cast_smem_ptr_to_uint"  # host code has no shared addresses; the descriptors' other fields are what counts
} >"$here/layouts.txt"
