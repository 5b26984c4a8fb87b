#!/bin/sh
# make examples: what a user of libecad does, from a folder outside the tree. Runs the commands of kernels/README.md as they are printed there, then
# compares the results: the three examples with ecadx denoise bit for bit, the pictures with each other, the installed files with what they promise.
set -eu
build=$(cd "$1" && pwd -P)
tree=$(pwd -P)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset MAKEFLAGS MFLAGS MAKELEVEL

# What the Python example and the comparison of pictures need, where python3 lacks it.
if ! python3 -c 'import numpy, PIL' 2>/dev/null; then
	PYTHONPATH=$build/python
	export PYTHONPATH
	python3 -c 'import numpy, PIL' 2>/dev/null ||
		python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --upgrade --target "$build/python" numpy==2.2.6 pillow==11.3.0
fi

# ---- the page ----

ln -s "$tree" "$work/ecadx"
mkdir "$work/app"
cd "$work/app"
awk '/^```/ { on = $0 == "```sh"; next } on' "$tree/kernels/README.md" >"$work/page.sh"
[ "$(wc -l <"$work/page.sh")" -ge 10 ] || { echo "examples: kernels/README.md has lost its commands" >&2; exit 1; }
sh -eux "$work/page.sh"

# ---- what came out ----

same() { cmp "$1" "$2" || { echo "examples: $3" >&2; exit 1; }; }

# The values of the one tensor in a safetensors file lie at its end.
latents_of() { tail -c "$(wc -c <"$2")" "$1"; }

# agree DIR MODEL SCHEDULE: the examples and ecadx denoise make the same latents of what DIR holds.
agree() {
	dir=$1
	dtype=$(sed -n 's/^  "dtype": "\(.*\)",/\1/p' "$dir/manifest.json")
	ecad/bin/ecadx denoise --model "$2" --inputs "$dir/inputs.safetensors" --schedule "$3" --device cpu --dtype "$dtype" --out want.safetensors --force --quiet
	./picture -z c.f32 -o c.png -t 1 "$dir"
	states/states "$dir" cpp.f32
	LD_LIBRARY_PATH=ecad/lib python3 ecad/share/ecad/examples/picture.py "$dir" python.png python.f32
	latents_of want.safetensors c.f32 >want.f32
	[ -s want.f32 ] || { echo "examples: $dir: no latents" >&2; exit 1; }
	for name in c cpp python; do
		same want.f32 $name.f32 "$dir: the $name example and ecadx denoise make different latents"
	done
	echo "examples: $2 ($dtype): C, C++, Python and ecadx denoise agree bit for bit"
}
ecad/bin/ecadx compile --model mini-flux --schedule fora:2 --schedule none -p "a tiny green star left of a huge yellow circle on a black background" --out flux --quiet >/dev/null
agree flux mini-flux fora:2
agree ecad/share/ecad/mini-pixart mini-pixart "$tree/kernels/examples/schedule.json"
agree compiled mini-pixart fora:3 # the last one: its latents are compared below
same second.png fourth.png "linked statically it makes another picture"
states/states_static compiled >/dev/null

# The pictures are those of ecadx generate, pixel by pixel, whoever wrote them.
ecad/bin/ecadx generate -p "a tiny green star left of a huge yellow circle on a black background" --seed 1 --schedule fora:3 --out generate.png --quiet
python3 - second.png third.png generate.png <<'END'
import sys
import numpy as np
from PIL import Image

pictures = [np.asarray(Image.open(path).convert("RGB")) for path in sys.argv[1:]]
for path, got in zip(sys.argv[1:], pictures):
    assert got.shape == pictures[0].shape and (got == pictures[0]).all(), f"{path} and {sys.argv[1]} show different pictures"
assert pictures[0].std() > 10, f"{sys.argv[1]} shows nothing"
END

# A cancelled run says so and leaves with 130.
cat >cancel.py <<'END'
import subprocess, sys
run = subprocess.Popen(sys.argv[1:], stderr=subprocess.PIPE)
while (seen := run.stderr.read(5)) and b"step" not in seen:
    pass
run.send_signal(2)
message = run.stderr.read()
assert run.wait() == 130 and b"cancelled" in message, (run.returncode, message)
END
ecad/bin/ecadx compile --steps 500 -p "a tiny green star" --out long --quiet >/dev/null
python3 cancel.py ./picture -o never.png long
[ ! -e never.png ] || { echo "examples: a cancelled run leaves a picture" >&2; exit 1; }

# Under AddressSanitizer, leaks included, and UBSan: the same latents.
for source in picture.c states.cpp; do
	compiler=cc
	[ "${source##*.}" = c ] || compiler="c++ -std=c++17"
	$compiler -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -pthread -o "${source%.*}-sanitized" "$tree/kernels/examples/$source" -Iecad/include \
		-L"$build/sanitize" -lecad -Wl,-rpath,"$build/sanitize"
done
./picture-sanitized -z sanitized.f32 -o sanitized.png compiled >/dev/null
same c.f32 sanitized.f32 "built with sanitizers the C example makes other latents"
./states-sanitized compiled sanitized.f32 >/dev/null
same c.f32 sanitized.f32 "built with sanitizers the C++ example makes other latents"

# ---- what was installed ----

lib=ecad/lib/libecad.so
nm -D --defined-only $lib | awk '$3 !~ /^ecad_/ { print "examples: exported: " $3; bad = 1 } END { exit bad || NR < 30 }'
readelf -d $lib | grep -q 'SONAME.*\[libecad\.so\.0\]' || { echo "examples: $lib has another SONAME" >&2; exit 1; }
echo '#include <ecad.h>' >header.c
cc -Iecad/include -std=c99 -pedantic -Wall -Wextra -Werror -fsyntax-only header.c
c++ -Iecad/include -x c++ -std=c++11 -pedantic -Wall -Wextra -Werror -fsyntax-only header.c
cc -std=c99 -pedantic -Wall -Wextra -Werror -fsyntax-only -Iecad/include "$tree/kernels/examples/picture.c"
c++ -std=c++17 -pedantic -Wall -Wextra -Werror -fsyntax-only -Iecad/include "$tree/kernels/examples/states.cpp"

# Compiled against today's header, run with a library whose structs have grown: the same picture.
cc -O2 -pthread -o grown "$tree/kernels/examples/picture.c" -Iecad/include -Lecad/lib -lecad
LD_LIBRARY_PATH=$build/cmake/kernels/tests/grown ./grown -o grown.png -z grown.f32 compiled
same second.png grown.png "a library with grown structs makes another picture"
same c.f32 grown.f32 "a library with grown structs makes other latents"
echo "examples: done"
