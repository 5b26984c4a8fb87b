"""Draws captions with diffusers in float32 and judges the pictures with the Go scorer."""
import argparse
import json
import pathlib
import platform
import subprocess
import tempfile

import numpy as np
import torch
from diffusers import FluxPipeline, PixArtAlphaPipeline
from PIL import Image

import flux
import scenes

ROOT = pathlib.Path(__file__).resolve().parents[3]


def judge(images, captions):
    """Results of dit/mini's scorer, one dict per picture."""
    with tempfile.TemporaryDirectory() as folder:
        pictures, texts = pathlib.Path(folder, "pictures.rgb"), pathlib.Path(folder, "captions.txt")
        pictures.write_bytes(np.ascontiguousarray(images).tobytes())
        texts.write_text("\n".join(captions) + "\n")
        out = subprocess.run(["go", "run", "./dit/mini/train/score", pictures, texts], cwd=ROOT, check=True,
                             capture_output=True, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def load(snapshot):
    name = json.loads((snapshot / "model_index.json").read_text())["_class_name"]
    pipeline = {p.__name__: p for p in (PixArtAlphaPipeline, FluxPipeline)}[name]
    pipe = pipeline.from_pretrained(snapshot, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, captions, guidance, first_seed=0, steps=20, batch=25):
    """Picture i is drawn from seed first_seed + i: uint8 [count, 64, 64, 3]."""
    out = []
    for i in range(0, len(captions), batch):
        part = captions[i:i + batch]
        noise = torch.cat([torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(first_seed + i + k))
                           for k in range(len(part))])
        if isinstance(pipe, FluxPipeline):
            options = {"latents": flux.pack(noise), "max_sequence_length": pipe.tokenizer_2.model_max_length}
        else:
            options = {"latents": noise, "use_resolution_binning": False, "clean_caption": False}
        images = pipe(part, num_inference_steps=steps, guidance_scale=guidance, height=scenes.SIZE, width=scenes.SIZE,
                      output_type="np", **options).images
        out.append((images * 255).round().astype(np.uint8))
    return np.concatenate(out)


def summary(results):
    def rate(rows):
        return round(sum(r["strict"] for r in rows) / max(1, len(rows)), 4)

    faults = {}
    for r in results:
        faults[r["fault"]] = faults.get(r["fault"], 0) + 1
    return {
        "captions": len(results), "strict": rate(results),
        "strict_one_object": rate([r for r in results if r["objects"] == 1]),
        "strict_two_objects": rate([r for r in results if r["objects"] == 2]),
        "smooth": round(float(np.mean([r["smooth"] for r in results])), 4),
        "faults": dict(sorted(faults.items(), key=lambda x: -x[1])),
    }


def seen_captions(count, seed=1234):
    rng = np.random.default_rng(seed)
    return [scenes.caption(s, rng) for s in scenes.sample_scenes(count, rng, single=0.25)]


def sheet(images, columns=8):
    """Pictures in rows, doubled."""
    rows = [np.concatenate(images[i:i + columns], 1) for i in range(0, len(images), columns)]
    return Image.fromarray(np.concatenate(rows)).resize((columns * 128, len(rows) * 128), Image.Resampling.NEAREST)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("snapshot", type=pathlib.Path)
    parser.add_argument("--captions", default=str(ROOT / "dit/mini/heldout.txt"),
                        help="a file, or seen:COUNT for captions of trained pairs, or heldout:COUNT for others than the file's")
    parser.add_argument("--count", type=int, help="the first COUNT captions alone")
    parser.add_argument("--guidance", type=float, nargs="+", default=[3.5])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--json", type=pathlib.Path, help="write the last result there")
    parser.add_argument("--samples", type=pathlib.Path, help="write a sheet of the first 24 pictures there")
    parser.add_argument("--note", action="append", default=[], metavar="KEY=VALUE", help="put into the JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    kind, _, count = args.captions.partition(":")
    if kind == "seen":
        captions = seen_captions(int(count))
    elif kind == "heldout":
        rng = np.random.default_rng(4321)
        captions = [scenes.caption(s, rng)
                    for s in scenes.sample_scenes(int(count), rng, pairs=scenes.HELD_OUT_IDS, single=0.25)]
    else:
        captions = pathlib.Path(args.captions).read_text().splitlines()[:args.count]
    pipe = load(args.snapshot)
    for guidance in args.guidance:
        images = draw(pipe, captions, guidance, args.first_seed)
        result = {"guidance": guidance, **summary(judge(images, captions))}
        print(json.dumps(result), flush=True)
    if args.samples:
        sheet(images[:24]).save(args.samples)
    if args.json:
        result |= {"steps": 20, "sampler": type(pipe.scheduler).__name__, "seeds": [args.first_seed, args.first_seed + len(captions) - 1],
                   "machine": platform.machine(), "torch": torch.__version__}
        result |= dict(n.split("=", 1) for n in args.note)
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
