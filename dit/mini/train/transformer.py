"""Trains the transformer on a run's latents, with its text encoder frozen.

Checkpoints hold everything; the same command goes on from the newest one. The length
of the training is a number of minutes: constant step size, then a linear decay to zero.
"""
import argparse
import os
import pathlib
import time

import numpy as np
import torch
from diffusers import PixArtTransformer2DModel
from transformers import T5EncoderModel

import pixart
from muon import Muon


def alpha_bar():
    """Share of signal of the 1000 timesteps of the linear schedule (0.0001 to 0.02)."""
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)


class Data:
    """Latents and text embeddings of the whole training set, in memory."""

    def __init__(self, run):
        stored = np.load(run / "latents.npz")
        self.latents = torch.from_numpy(stored["latents"])
        ids = torch.from_numpy(stored["ids"]).long()
        encoder = T5EncoderModel.from_pretrained(run / "text_encoder", dtype=torch.float32)
        empty = torch.zeros(1, ids.shape[2], dtype=torch.long)
        empty[0, 0] = 1
        flat, self.per_scene = ids.flatten(0, 1), ids.shape[1]
        rows = torch.cat([empty, flat])  # row 0 is the caption of unguided passes
        self.mask = rows != 0
        with torch.inference_mode():
            self.text = torch.cat([
                encoder(r, attention_mask=r != 0).last_hidden_state.half() for r in rows.split(1024)])

    def batch(self, size, dropped, generator):
        scene = torch.randint(len(self.latents), (size,), generator=generator)
        row = 1 + scene * self.per_scene + torch.randint(self.per_scene, (size,), generator=generator)
        row[torch.rand(size, generator=generator) < dropped] = 0
        return self.latents[scene].float(), self.text[row].float(), self.mask[row]


def draw_timesteps(size, generator, stress):
    """Timesteps 0-999, stratified: a share `stress` of them spread evenly over 350-850, the rest over all."""
    u = (torch.arange(size) + torch.rand(size, generator=generator)) / size
    u = u[torch.randperm(size, generator=generator)]
    inner = u < stress
    t = torch.where(inner, 350 + 500 * u / max(stress, 1e-6), 1000 * (u - stress) / (1 - stress))
    return t.long().clamp(0, 999)


def loss_weights(ab, cap):
    """1/sqrt(alpha_bar), capped: the gradient then follows the error of the predicted picture."""
    return ab.rsqrt().clamp(max=cap)


def check(model):
    """Fails unless pixart.forward computes what diffusers computes."""
    g = torch.Generator().manual_seed(0)
    x, text = torch.randn(2, 4, 16, 16, generator=g), torch.randn(2, 18, 96, generator=g)
    t, mask = torch.tensor([10, 700]), torch.arange(18)[None] < torch.tensor([[5], [18]])
    with torch.no_grad():
        want = model(x, text, t, {"resolution": None, "aspect_ratio": None},
                     encoder_attention_mask=mask.float(), return_dict=False)[0][:, :4]
        error = (pixart.forward(model, x, t, text, mask) - want).norm() / want.norm()
    if not error <= 1e-5:
        raise SystemExit(f"pixart.forward differs from diffusers by {error:.2e}")


def optimizers(model, rate):
    matrices = [p for n, p in model.transformer_blocks.named_parameters() if p.ndim == 2 and "table" not in n]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen and p.requires_grad]
    return (Muon(matrices, lr=rate), torch.optim.AdamW(rest, lr=0.8 * rate, betas=(0.9, 0.99), weight_decay=0.0,
                                                       fused=True))


class Trainer:
    def __init__(self, args):
        self.args, self.data = args, Data(args.run)
        self.model = (PixArtTransformer2DModel.from_pretrained(args.init / "transformer", torch_dtype=torch.float32)
                      if args.init else pixart.create())
        self.model.train()
        # The variance half of the output is not trained (nor used by the samplers).
        check(self.model)
        self.optimizers = optimizers(self.model, args.rate)
        self.average = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.generator = torch.Generator().manual_seed(args.seed)
        self.ab, self.step, self.spent = alpha_bar(), 0, 0.0
        self.fifths = torch.zeros(5, 2)
        self.forward = torch.compile(lambda *inputs: pixart.forward(self.model, *inputs))
        self.checkpoint = args.run / "checkpoint.pt"
        if self.checkpoint.exists():
            self.load()

    def load(self):
        state = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.step, self.spent = state["step"], state["spent"]
        self.generator.manual_seed(self.args.seed + self.step)
        print(f"resumed at step {self.step}, {self.spent:.0f} s", flush=True)

    def save(self):
        partial = self.checkpoint.with_suffix(".tmp")
        torch.save({"model": self.model.state_dict(), "average": self.average, "step": self.step,
                    "spent": self.spent, "optimizers": [o.state_dict() for o in self.optimizers]}, partial)
        os.replace(partial, self.checkpoint)

    def rate(self):
        left = max(0.0, 1 - self.spent / (60 * self.args.minutes))
        return self.args.rate * min(1, (self.step + 1) / 100) * min(1, left / self.args.decay)

    def one_step(self):
        args, g = self.args, self.generator
        latents, text, mask = self.data.batch(args.batch, 0.1, g)
        t = draw_timesteps(args.batch, g, args.stress)
        ab = self.ab[t]
        noise = torch.randn(latents.shape, generator=g)
        noisy = ab.sqrt()[:, None, None, None] * latents + (1 - ab).sqrt()[:, None, None, None] * noise
        with torch.autocast("cpu", torch.bfloat16, enabled=not args.float32):
            predicted = self.forward(noisy, t, text, mask)
        error = (predicted.float() - noise).square().mean((1, 2, 3))
        (error * loss_weights(ab, args.cap)).mean().backward()
        rate = self.rate()
        for optimizer, factor in zip(self.optimizers, (1.0, 0.8)):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(args.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.model.parameters()), 1 - decay)
        self.fifths.index_add_(0, t // 200, torch.stack((error.detach(), torch.ones(len(t))), 1))

    def train(self):
        logged = saved = time.time()
        before = self.step
        while self.spent < 60 * self.args.minutes:
            tick = time.time()
            self.one_step()
            now = time.time()
            self.spent += now - tick
            if self.step % 100 == 0:
                parts = " ".join(f"{a / max(b, 1):.5f}" for a, b in self.fifths.tolist())
                speed = (self.step - before) * self.args.batch / (now - logged)
                print(f"step {self.step} {self.spent:.0f} s rate {self.rate():.2e} {speed:.0f} images/s "
                      f"loss by fifth {parts}", flush=True)
                self.fifths.zero_()
                logged, before = now, self.step
            if now - saved > 300:
                self.save()
                saved = now
        self.save()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=pathlib.Path, required=True, help="folder of this training")
    parser.add_argument("--init", type=pathlib.Path, help="snapshot whose transformer to start from")
    parser.add_argument("--minutes", type=float, default=100, help="length of the whole training")
    parser.add_argument("--decay", type=float, default=0.35, help="share of it in which the step size falls")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--stress", type=float, default=0.5, help="share of timesteps drawn from 350-850")
    parser.add_argument("--cap", type=float, default=30.0, help="largest weight of a timestep's loss")
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--float32", action="store_true", help="no bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    Trainer(args).train()


if __name__ == "__main__":
    main()
