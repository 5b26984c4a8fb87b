"""Trains the miniature FLUX: the flow of the training scenes, guidance distilled from the miniature PixArt.

FLUX.1-dev takes the guidance scale as an input, instead of a second pass per step. So does this: the target of a
noisy latent is the velocity that the miniature PixArt, run with and without the caption, gives at a random scale of
guidance. Where there is next to no picture in the noise its predicted pictures mean nothing, and the target is that of
plain flow matching, noise minus latents. Checkpoints hold everything; the same command goes on from the newest one.
"""
import argparse
import math
import os
import pathlib
import time

import numpy as np
import torch
from diffusers import PixArtTransformer2DModel
from transformers import CLIPTextModel, T5EncoderModel

import bpe
import flux
import pixart
from flux_text import LENGTH, pad
from muon import Muon
from tokenizer import Tokenizer
from transformer import alpha_bar

# Above this sigma (timestep 800 of the teacher) a small error of the predicted noise is a large one of the velocity.
TEACHER_LIMIT = 0.96
GUIDANCE = (1.0, 5.0)


class Teacher:
    """The miniature PixArt as a velocity: both of its passes, for any sigma of the flow up to TEACHER_LIMIT."""

    def __init__(self, snapshot):
        self.model = PixArtTransformer2DModel.from_pretrained(snapshot / "transformer", torch_dtype=torch.float32).eval()
        self.encoder = T5EncoderModel.from_pretrained(snapshot / "text_encoder", dtype=torch.float32).eval()
        ab = alpha_bar()
        ratio = ((1 - ab) / ab).sqrt()
        self.sigmas = ratio / (1 + ratio)  # of the 1000 timesteps, rising
        self.forward = torch.compile(lambda *inputs: pixart.forward(self.model, *inputs))

    def timesteps(self, sigma):
        return torch.searchsorted(self.sigmas, sigma).clamp(0, 999)

    @torch.no_grad()
    def velocity(self, noisy, timestep, ids):
        """Conditional and unconditional velocity of x = (1 - sigma) latents + sigma noise, sigma the timestep's."""
        count, sigma = len(noisy), self.sigmas[timestep][:, None, None, None]
        size = ((1 - sigma).square() + sigma.square()).sqrt()
        empty = torch.zeros_like(ids)
        empty[:, 0] = 1
        rows = torch.cat((ids, empty))
        mask = rows != 0
        with torch.autocast("cpu", torch.bfloat16):
            text = self.encoder(rows, attention_mask=mask.long()).last_hidden_state.float()
            noise = self.forward((noisy / size).repeat(2, 1, 1, 1), timestep.repeat(2), text, mask).float()
        # noisy = (1 - sigma) latents + sigma noise, so velocity = noise - latents = (noise - noisy) / (1 - sigma).
        velocity = (noise - noisy.repeat(2, 1, 1, 1)) / (1 - sigma).repeat(2, 1, 1, 1)
        return velocity[:count], velocity[count:]


class Text:
    """Both frozen text encoders."""

    def __init__(self, run):
        tokenizer = Tokenizer(run / "tokenizer" / "spiece.model")
        self.translate = bpe.Translation(run / "clip_tokenizer", tokenizer)
        self.t5 = T5EncoderModel.from_pretrained(run / "text_encoder_2", dtype=torch.float32).eval()
        self.clip = CLIPTextModel.from_pretrained(run / "text_encoder", dtype=torch.float32).eval()

    @torch.no_grad()
    def __call__(self, ids):
        """T5's output on all LENGTH tokens and CLIP's pooled output."""
        pooled = self.clip(torch.from_numpy(self.translate(ids.numpy()))).pooler_output
        return self.t5(pad(ids)).last_hidden_state, pooled


class Samples:
    """Noisy latents with their targets. The teacher's are used several times, each time at another guidance."""

    def __init__(self, run, teacher, stored, shift, generator):
        data = np.load(run / "latents.npz")
        self.latents, self.ids = torch.from_numpy(data["latents"]), torch.from_numpy(data["ids"]).long()
        self.teacher, self.stored, self.shift, self.generator = teacher, stored, shift, generator
        self.store, self.next, self.count = [], 0, 0

    def draw(self, size):
        """Fresh latents, their captions, noise and sigmas."""
        g = self.generator
        scene = torch.randint(len(self.latents), (size,), generator=g)
        ids = self.ids[scene, torch.randint(self.ids.shape[1], (size,), generator=g)]
        u = (torch.arange(size) + torch.rand(size, generator=g)) / size
        sigma = self.shift * u / (1 + (self.shift - 1) * u)
        latents = self.latents[scene].float()
        return latents, ids, torch.randn(latents.shape, generator=g), sigma

    def add(self, size):
        """Puts new samples into the store, over the oldest ones when it is full; returns their rows."""
        latents, ids, noise, sigma = self.draw(size)
        taught = sigma < TEACHER_LIMIT
        timestep = self.teacher.timesteps(sigma.clamp(max=TEACHER_LIMIT))
        sigma = torch.where(taught, self.teacher.sigmas[timestep], sigma)
        s = sigma[:, None, None, None]
        noisy, plain = (1 - s) * latents + s * noise, noise - latents
        velocities = self.teacher.velocity(noisy, timestep, ids)
        guided, unguided = (torch.where(taught[:, None, None, None], v, plain) for v in velocities)
        new = [noisy.half(), sigma, ids, guided.half(), unguided.half()]
        if not self.store:
            self.store = [part.new_zeros(self.stored, *part.shape[1:]) for part in new]
        rows = (self.next + torch.arange(size)) % self.stored
        for old, part in zip(self.store, new):
            old[rows] = part
        self.next, self.count = (self.next + size) % self.stored, min(self.stored, self.count + size)
        return rows

    def batch(self, size, fresh):
        """Packed noisy latents, sigma, guidance, captions and packed velocities; `fresh` of the size are new."""
        while self.count < min(100 * size, self.stored):
            self.add(fresh)
        rows = torch.cat((self.add(fresh), torch.randint(self.count, (size - fresh,), generator=self.generator)))
        noisy, sigma, ids, guided, unguided = (part[rows] for part in self.store)
        low, high = GUIDANCE
        guidance = low + (high - low) * torch.rand(size, generator=self.generator)
        target = torch.lerp(unguided.float(), guided.float(), guidance[:, None, None, None])
        return flux.pack(noisy.float()), sigma, guidance, ids, flux.pack(target)


def check(model):
    """Fails unless flux.forward computes what diffusers computes, with parameters that hide nothing."""
    g, saved = torch.Generator().manual_seed(0), {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.1, generator=g)
        x, text = torch.randn(2, 64, 16, generator=g), torch.randn(2, LENGTH, 96, generator=g)
        pooled, sigma, guidance = torch.randn(2, 64, generator=g), torch.tensor([0.9, 0.2]), torch.tensor([3.5, 1.5])
        want = model(x, text, pooled, sigma, flux.image_ids(), torch.zeros(LENGTH, 3), guidance, return_dict=False)[0]
        got = flux.forward(model, x, sigma, guidance, text, pooled, flux.rotation(LENGTH))
        error = (got - want).norm() / want.norm()
    model.load_state_dict(saved)
    if not error <= 1e-5:
        raise SystemExit(f"flux.forward differs from diffusers by {error:.2e}")


def optimizers(model, rate):
    chosen = [p for n, p in model.named_parameters() if "transformer_blocks" in n and p.ndim == 2 and "norm" not in n]
    kept = {id(p) for p in chosen}
    rest = [p for p in model.parameters() if id(p) not in kept]
    return (Muon(chosen, lr=rate),
            torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True))


class Trainer:
    def __init__(self, args):
        self.args, self.model = args, flux.create().train()
        check(self.model)
        self.generator = torch.Generator().manual_seed(args.seed)
        self.text = Text(args.run)
        self.samples = Samples(args.run, Teacher(args.teacher), args.stored, args.shift, self.generator)
        self.turn = flux.rotation(LENGTH)
        self.optimizers = optimizers(self.model, args.rate)
        self.average = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.step, self.spent, self.fifths = 0, 0.0, torch.zeros(5, 2)
        self.forward = torch.compile(lambda *inputs: flux.forward(self.model, *inputs, self.turn))
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

    def factor(self):
        left = max(0.0, 1 - self.spent / (60 * self.args.minutes))
        return min(1, (self.step + 1) / 100) * min(1, left / self.args.decay)

    def one_step(self):
        args = self.args
        x, sigma, guidance, ids, target = self.samples.batch(args.batch, args.fresh)
        text, pooled = self.text(ids)
        with torch.autocast("cpu", torch.bfloat16, enabled=not args.float32):
            predicted = self.forward(x, sigma, guidance, text, pooled)
        error = (predicted.float() - target).square().mean((1, 2))
        error.mean().backward()
        for optimizer, rate in zip(self.optimizers, (args.rate, 0.6 * args.rate)):
            for group in optimizer.param_groups:
                group["lr"] = rate * self.factor()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(args.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.model.parameters()), 1 - decay)
        self.fifths.index_add_(0, (5 * sigma).long().clamp(max=4), torch.stack((error.detach(), torch.ones(len(x))), 1))

    def train(self):
        logged = saved = time.time()
        before = self.step
        while self.spent < 60 * self.args.minutes:
            tick = time.process_time()
            self.one_step()
            self.spent += time.process_time() - tick
            now = time.time()
            if self.step % 50 == 0:
                parts = " ".join(f"{a / max(b, 1):.4f}" for a, b in self.fifths.tolist())
                speed = (self.step - before) * self.args.batch / (now - logged)
                print(f"step {self.step} {self.spent:.0f} s rate {self.args.rate * self.factor():.2e} "
                      f"{speed:.0f} images/s loss by fifth {parts}", flush=True)
                if not math.isfinite(float(self.fifths.sum())):
                    raise SystemExit("the training diverged; start again from the checkpoint with a smaller --rate")
                self.fifths.zero_()
                logged, before = now, self.step
            if now - saved > 180:
                self.save()
                saved = now
        self.save()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=pathlib.Path, required=True, help="folder of this training")
    parser.add_argument("--teacher", type=pathlib.Path, required=True, help="snapshot of the miniature PixArt")
    parser.add_argument("--minutes", type=float, default=100, help="length of the whole training in CPU time")
    parser.add_argument("--decay", type=float, default=0.35, help="share of it in which the step size falls")
    parser.add_argument("--batch", type=int, default=40)
    parser.add_argument("--fresh", type=int, default=12, help="samples of a batch whose target the teacher makes anew")
    parser.add_argument("--stored", type=int, default=24_000, help="earlier samples kept for the rest of the batch")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--shift", type=float, default=2.5, help="how far sigmas are shifted towards noise")
    parser.add_argument("--ema", type=float, default=0.997)
    parser.add_argument("--float32", action="store_true", help="no bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    Trainer(args).train()


if __name__ == "__main__":
    main()
