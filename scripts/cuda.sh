#!/bin/sh
# Prints the nvcc to build with: the one given, the host's if it is version 13.0, else that of pinned wheels, which it installs into a folder.
#   cuda.sh FOLDER [NVCC]
# Nothing but the printed path goes to standard output.
set -eu
folder=$1
given=${2:-}

version() { "$1" --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\),.*/\1/p'; }

if [ -n "$given" ]; then
	[ "$(version "$given")" = 13.0 ] || { echo "cuda: $given is no nvcc 13.0 (it says '$(version "$given")')" >&2; exit 1; }
	echo "$given"
	exit 0
fi
for nvcc in "$(command -v nvcc || true)" /usr/local/cuda-13.0/bin/nvcc /usr/local/cuda/bin/nvcc; do
	if [ -n "$nvcc" ] && [ "$(version "$nvcc")" = 13.0 ]; then
		echo "$nvcc"
		exit 0
	fi
done

nvcc=$folder/site/nvidia/cu13/bin/nvcc
wheels=$(dirname "$0")/cuda-wheels.txt
if [ ! -x "$nvcc" ] || ! cmp -s "$wheels" "$folder/wheels.txt"; then
	python=$(command -v python3 || true)
	if [ -z "$python" ] || ! "$python" -m pip --version >/dev/null 2>&1; then
		if command -v apt-get >/dev/null 2>&1; then
			sudo=
			[ "$(id -u)" = 0 ] || sudo=sudo
			echo "cuda: installing python3-pip (apt-get)" >&2
			$sudo apt-get update -qq >&2
			DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends python3-pip >&2
			python=$(command -v python3)
		else
			echo "cuda: neither nvcc 13.0 nor Python 3 with pip is here: install one of them, or give make NVCC=/path/to/nvcc" >&2
			exit 1
		fi
	fi
	echo "cuda: no nvcc 13.0 on this machine: installing pinned wheels into $folder" >&2
	rm -rf "$folder"
	mkdir -p "$folder"
	"$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder/site" -r "$wheels" >&2
	cp "$wheels" "$folder/wheels.txt"
fi
echo "$nvcc"
