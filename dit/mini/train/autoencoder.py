"""Trains the autoencoder (64x64x3 to 16x16x4 and back) and whitens its latents.

--decoder-only goes on with the decoder of an earlier one, so that latents stay as they are.
"""
import argparse
import pathlib
import time

import numpy as np
import torch
from diffusers import AutoencoderKL

import scenes
from latents import encode, pixels


def create():
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(16, 32, 64), layers_per_block=1,
        norm_num_groups=1, down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        sample_size=scenes.SIZE, scaling_factor=1.0)


@torch.no_grad()
def whiten(vae, latents):
    """Folds a linear map into quant_conv and post_quant_conv that makes the four channels uncorrelated, each of unit
    variance; directions with a standard deviation below 1 are not amplified."""
    flat = torch.from_numpy(latents).float().permute(1, 0, 2, 3).flatten(1).double()
    mean = flat.mean(1)
    values, vectors = torch.linalg.eigh(torch.cov(flat))
    scale = 1 / values.sqrt().clamp(min=1.0)
    there = (vectors * scale) @ vectors.T
    back = (vectors / scale) @ vectors.T
    into, out = vae.quant_conv, vae.post_quant_conv
    weight, bias = into.weight[:4, :, 0, 0].double(), into.bias[:4].double()
    into.weight[:4, :, 0, 0] = (there @ weight).float()
    into.bias[:4] = (there @ (bias - mean)).float()
    weight = out.weight[:, :, 0, 0].double()
    out.bias += (weight @ mean).float()
    out.weight[:, :, 0, 0] = (weight @ back).float()


def draw_set(count, seed, disguised=0.0):
    """Pictures of scenes, a share of them with colours and shapes beyond the captions' (scenes.disguise)."""
    rng = np.random.default_rng(seed)
    out = []
    for spec in scenes.sample_scenes(count, rng):
        objects = scenes.place(spec, rng)
        if rng.random() < disguised:
            objects, _ = scenes.disguise(spec, objects, rng)
        out.append(scenes.render(int(spec[1]), objects))
    return np.stack(out)


def quality(vae, images):
    with torch.inference_mode():
        back = torch.cat([vae.decode(torch.from_numpy(encode(vae, part)).float()).sample
                          for part in np.array_split(images, 4)])
    error = (back.clamp(-1, 1) - pixels(images)).square().mean((1, 2, 3)) / 4
    return float((-10 * error.log10()).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=pathlib.Path, required=True, help="folder of this training")
    parser.add_argument("--init", type=pathlib.Path, help="autoencoder to start from")
    parser.add_argument("--decoder-only", action="store_true")
    parser.add_argument("--out", default="vae")
    parser.add_argument("--scenes", type=int, default=12_000)
    parser.add_argument("--disguised", type=float, default=0.0, help="share of scenes with other colours and shapes")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--noise", type=float, default=0.05, help="noise on the decoder's input, share of its deviation")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    images, held = draw_set(args.scenes, 20 + args.seed, args.disguised), draw_set(64, 19)
    vae = AutoencoderKL.from_pretrained(args.init, torch_dtype=torch.float32) if args.init else create()
    vae = vae.to(memory_format=torch.channels_last)
    fixed = torch.from_numpy(encode(vae, images)) if args.decoder_only else None
    trained = [p for n, p in vae.named_parameters()
               if not (args.decoder_only and n.startswith(("encoder.", "quant_conv.")))]
    average = [p.detach().clone() for p in trained]
    optimizer = torch.optim.AdamW(trained, lr=args.rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    start, step = time.time(), 0
    print(f"{len(images)} scenes; {quality(vae, held):.2f} dB", flush=True)
    while (done := (time.time() - start) / (60 * args.minutes)) < 1:
        rate = args.rate * min(1, (step + 1) / 100) * 0.5 * (1 + np.cos(np.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = torch.randint(len(images), (args.batch,))
        want = pixels(images[rows.numpy()]).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            if args.decoder_only:
                z, kl = fixed[rows].float(), 0.0
            else:
                posterior = vae.encode(want).latent_dist
                z, kl = posterior.sample(), posterior.kl().mean() / (4 * 16 * 16)
            z = z + args.noise * z.detach().float().std() * torch.randn(z.shape)
            got = vae.decode(z).sample.float()
        loss = (got - want).abs().mean() + 2 * (got - want).square().mean() + 1e-4 * kl
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(average, trained, 1 - min(0.995, (1 + step) / (10 + step)))
        if step % 100 == 0:
            print(f"step {step} {time.time() - start:.0f} s loss {loss.item():.4f}", flush=True)
    with torch.no_grad():
        for p, a in zip(trained, average):
            p.copy_(a)
    if not args.decoder_only:
        whiten(vae, encode(vae, images[:2000]))
    print(f"step {step}: {quality(vae, held):.2f} dB", flush=True)
    vae.save_pretrained(args.run / args.out)


if __name__ == "__main__":
    main()
