#!/bin/sh
# Trains a miniature from nothing and writes its snapshot, its samples and its results.
#   dit/mini/train/run.sh [FOLDER] [MINUTES] [MODEL]
# FOLDER (default build/mini) keeps every stage; a stage that is there is not done again, and the transformer goes on
# from its checkpoint. MINUTES is the length of the transformer's training (default 240, on one core). MODEL is pixart
# (default) or flux, which is taught by the snapshot dit/mini/pixart and shares its autoencoder.
# PYTHON names the interpreter, with requirements.txt installed; THREADS the cores of the transformer's training.
set -eu
cd "$(dirname "$0")/../../.."
run=${1:-build/mini} minutes=${2:-240} model=${3:-pixart} python=${PYTHON:-python3} threads=${THREADS:-1}
here=dit/mini/train

train_pixart() {
	[ -f "$run/tokenizer/spiece.model" ] || "$python" $here/tokenizer.py "$run/tokenizer"
	# Words first; then their effects are driven to be additive, in two stages with growing weight.
	[ -d "$run/text_words" ] || "$python" -u $here/text.py --run "$run" --out text_words --steps 1500 --bind 1500 --batch 160
	[ -d "$run/text_bound" ] || "$python" -u $here/text.py --run "$run" --init "$run/text_words" --out text_bound \
		--steps 700 --bind 0 --additive 3 --batch 80 --rate 2e-3
	[ -d "$run/text_encoder" ] || "$python" -u $here/text.py --run "$run" --init "$run/text_bound" --out text_encoder \
		--steps 600 --bind 0 --additive 20 --batch 80 --rate 2e-3
	[ -d "$run/vae" ] || "$python" -u $here/autoencoder.py --run "$run"
	[ -f "$run/latents.npz" ] || "$python" -u $here/latents.py --run "$run"
	"$python" -u $here/transformer.py --run "$run" --minutes "$minutes" --threads "$threads"
	"$python" $here/export.py --run "$run" dit/mini/pixart
	"$python" $here/evaluate.py dit/mini/pixart --guidance 3.5 --json bench/results/mini-pixart.json \
		--samples dit/mini/samples.png
}

train_flux() {
	teacher=dit/mini/pixart
	[ -d "$run/tokenizer" ] || cp -r $teacher/tokenizer "$run/tokenizer"
	[ -d "$run/vae" ] || cp -r $teacher/vae "$run/vae"
	[ -d "$run/clip_tokenizer" ] || "$python" $here/bpe.py "$run/clip_tokenizer"
	"$python" -u $here/flux_text.py --run "$run" --teacher $teacher/text_encoder
	[ -f "$run/latents.npz" ] || "$python" -u $here/latents.py --run "$run" --scenes 12000 --disguised 10000
	"$python" -u $here/flux_transformer.py --run "$run" --teacher $teacher --minutes "$minutes" --threads "$threads"
	"$python" $here/flux_export.py --run "$run" dit/mini/flux
	"$python" $here/evaluate.py dit/mini/flux --guidance 3.5 --json bench/results/mini-flux.json \
		--samples dit/mini/flux-samples.png
}

mkdir -p "$run"
case $model in
pixart) train_pixart ;;
flux) train_flux ;;
*) echo "run.sh: unknown model $model (pixart, flux)" >&2; exit 2 ;;
esac
