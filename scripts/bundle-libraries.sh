#!/bin/sh
# bundle-libraries.sh BUNDLE: copies every shared library that the bundle's programs load into BUNDLE/lib, but for glibc's own. Those of the compiler go into
# lib/compiler: a Debian's need a newer glibc than the rest does, and then the machine's own may do (bench/gpucheck/command.go).
set -eu
bundle=$1
mkdir -p "$bundle/lib/compiler"
for program in "$bundle"/bin/* "$bundle"/tests/*; do
	ldd "$program" 2>/dev/null || true  # static ones have none
done | awk '$2 == "=>" { print $1, $3 }' | sort -u | while read -r name path; do
	case $name in
	libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | ld-linux*) ;;
	libstdc++.so.* | libgcc_s.so.*) cp "$path" "$bundle/lib/compiler/$name" ;;
	*)
		[ -f "$path" ] || { echo "bundle-libraries.sh: $name is not found" >&2; exit 1; }
		cp "$path" "$bundle/lib/$name"
		;;
	esac
done
