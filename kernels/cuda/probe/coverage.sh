#!/bin/sh
# Every function of the instruction layer is named by a probe.
cd "$(dirname "$0")" || exit 1
names=$( (grep -hoE '^ECAD_DEVICE [a-zA-Z0-9_:]+ [a-z0-9_]+\(' ../ptx_device*.cuh | sed -E 's/.* ([a-z0-9_]+)\(/\1/'
          grep -hoE '^ECAD_UNARY\([a-z0-9_]+' ../ptx_device*.cuh | sed 's/.*(//') | sort -u)
inner=' from_half from_words shuffle to_half to_words touch '  # namespace detail
missing=0 count=0
for name in $names; do
	case $inner in *" $name "*) continue ;; esac
	count=$((count + 1))
	grep -qE "ptx::$name\b" ./*.cu ./*.cuh || { echo "no probe calls ptx::$name"; missing=1; }
done
echo "$count functions"
[ $missing -eq 0 ] && [ $count -ge 80 ]
