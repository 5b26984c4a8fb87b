"""Renders the training scenes, encodes them once and tokenises their captions: latents.npz of a run."""
import argparse
import pathlib
import time

import numpy as np
import torch
from diffusers import AutoencoderKL

import scenes
from tokenizer import MADE_UP, VOCABULARY, Tokenizer


def pixels(images):
    """uint8 [B, 64, 64, 3] to float32 [B, 3, 64, 64] in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def disguised(count, captions, single, rng, tokenizer):
    """Scenes in which about half of the objects have a colour or a shape that made-up words stand for.

    They teach that any shape may have any colour, without ever showing a held-out pair: made-up words name colours
    and shapes that are none of the grammar's.
    """
    specs = scenes.sample_scenes(count, rng, single=single)
    images, ids = [], np.stack([tokenizer([scenes.caption(s, rng) for s in specs]) for _ in range(captions)], 1)
    for spec, rows in zip(specs, ids):
        objects, changed = scenes.disguise(spec, scenes.place(spec, rng), rng)
        images.append(scenes.render(int(spec[1]), objects))
        for colour, kind in zip(spec[[3, 6]], changed):
            if kind:  # the words of an object: size, colour, shape
                piece = tokenizer.model.piece_to_id("\u2581" + scenes.COLOUR_NAMES[colour])
                row, column = np.nonzero(rows == piece)
                rows[row, column + kind - 1] = rng.integers(MADE_UP, VOCABULARY, len(row))
    return specs, np.stack(images), ids


@torch.inference_mode()
def encode(vae, images, batch=64):
    vae = vae.to(memory_format=torch.channels_last)
    out = np.empty((len(images), 4, 16, 16), np.float16)
    for i in range(0, len(images), batch):
        with torch.autocast("cpu", torch.bfloat16):
            out[i:i + batch] = vae.encode(pixels(images[i:i + batch])).latent_dist.mode().float().numpy()
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=pathlib.Path, required=True, help="folder of this training")
    parser.add_argument("--scenes", type=int, default=32_000)
    parser.add_argument("--disguised", type=int, default=24_000, help="further scenes, with made-up words")
    parser.add_argument("--captions", type=int, default=4, help="paraphrases of each scene")
    parser.add_argument("--single", type=float, default=0.2, help="share of scenes of one object")
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--out", default="latents.npz")
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.time()
    rng = np.random.default_rng(args.seed)
    tokenizer = Tokenizer(args.run / "tokenizer" / "spiece.model")
    specs = scenes.sample_scenes(args.scenes, rng, single=args.single)
    images = np.stack([scenes.render(int(s[1]), scenes.place(s, rng)) for s in specs])
    ids = np.stack([tokenizer([scenes.caption(s, rng) for s in specs]) for _ in range(args.captions)], 1)
    if args.disguised:
        more = disguised(args.disguised, args.captions, args.single, rng, tokenizer)
        specs, images, ids = (np.concatenate(pair) for pair in zip((specs, images, ids), more))
    print(f"rendered {len(images)} scenes in {time.time() - start:.0f} s", flush=True)
    vae = AutoencoderKL.from_pretrained(args.run / "vae", dtype=torch.float32).eval()
    latents = encode(vae, images)
    np.savez(args.run / args.out, latents=latents, ids=ids, specs=specs)
    print(f"encoded in {time.time() - start:.0f} s; latents: mean {latents.mean():.3f}, "
          f"std per channel {latents.astype(np.float32).std((0, 2, 3)).round(3)}", flush=True)


if __name__ == "__main__":
    main()
