#!/bin/sh
# deps.sh [fuzz] [valgrind] [chromium]: finds what the build (and those checks) need; on a Debian-like machine installs what is missing (and says so),
# elsewhere says what to install.
set -eu

missing=
need() { # command-or-header, Debian package
	case $1 in
	*.h) echo "#include <$1>" | ${CXX:-g++} -E -x c++ - >/dev/null 2>&1 || missing="$missing $2" ;;
	*) command -v "$1" >/dev/null 2>&1 || missing="$missing $2" ;;
	esac
}

command -v go >/dev/null 2>&1 || { echo "deps: Go 1.26 or newer is needed: install it from your system or the Go site" >&2; exit 1; }
need g++ g++
need cmake cmake
need pkg-config pkg-config
need oneapi/dnnl/dnnl.h libdnnl-dev
for extra in "$@"; do
	case $extra in
	fuzz) # clang and its sanitizer runtimes, of one version
		need clang++ clang
		echo 'int LLVMFuzzerTestOneInput() { return 0; }' | clang -fsanitize=fuzzer,address -x c - -o /dev/null 2>/dev/null || missing="$missing libclang-rt-14-dev"
		;;
	valgrind) need valgrind valgrind ;;
	chromium) need chromium chromium ;;
	esac
done
[ -n "$missing" ] || exit 0

if command -v apt-get >/dev/null 2>&1; then
	sudo=
	[ "$(id -u)" = 0 ] || sudo=sudo
	echo "deps: installing$missing (apt-get)"
	$sudo apt-get update -qq
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
	echo "deps: missing:$missing (Debian names). Install a C++17 compiler, CMake 3.16 or newer and oneDNN 2.6 or 3.x (headers and library)," >&2
	echo "deps: e.g. Fedora: dnf install gcc-c++ cmake onednn-devel; Arch: pacman -S gcc cmake onednn; then run make again." >&2
	exit 1
fi
