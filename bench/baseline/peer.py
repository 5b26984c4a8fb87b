"""The other side of make bench: diffusers, eager and compiled, and ECAD's caching by hooks.

Reads one request per line, a JSON object with the member "do", and answers each with one JSON line. Models stay loaded between requests,
so that both sides can take turns. Times are milliseconds of wall clock. Weights are random: their values do not change the time.
"""
import json
import platform
import sys
import time

import diffusers
import torch
from diffusers import PixArtAlphaPipeline, PixArtTransformer2DModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# What the released configurations differ in: latent size, scale of the position embedding, micro-conditions.
RELEASED = {256: (32, None, False), 512: (64, 1, False), 1024: (128, 2, True)}
COMPONENTS = ("attn1", "attn2", "ff")


def timed(work):
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


class Cached(torch.nn.Module):
    """A component that returns its last output when the schedule says reuse, as ECAD does it: the module is replaced, the block's code
    stays. clock.step is the step that runs; decisions[step] is true where it computes."""

    def __init__(self, module, clock, decisions):
        super().__init__()
        self.module, self.clock, self.decisions, self.last = module, clock, decisions, None

    def forward(self, *args, **kwargs):
        if self.last is None or self.decisions[self.clock.step]:
            self.last = self.module(*args, **kwargs)
        return self.last


class Clock:
    step = 0


class Transformer:
    """PixArt-XL/2 at one resolution; two samples, one image with guidance; every text token counts."""

    def __init__(self, resolution, dtype, tokens):
        size, scale, conditions = RELEASED[resolution]
        torch.manual_seed(0)
        self.model = PixArtTransformer2DModel(
            sample_size=size, num_layers=28, num_attention_heads=16, attention_head_dim=72, in_channels=4, out_channels=8, patch_size=2,
            cross_attention_dim=1152, caption_channels=4096, attention_bias=True, norm_type="ada_norm_single", norm_elementwise_affine=False,
            activation_fn="gelu-approximate", interpolation_scale=scale, use_additional_conditions=conditions).to(DTYPES[dtype]).eval()
        t = DTYPES[dtype]
        conditions = {"resolution": torch.full((2, 2), float(resolution), dtype=t), "aspect_ratio": torch.ones(2, 1, dtype=t)} if conditions else \
            {"resolution": None, "aspect_ratio": None}
        self.inputs = dict(hidden_states=torch.randn(2, 4, size, size, dtype=t), encoder_hidden_states=torch.randn(2, tokens, 4096, dtype=t),
                           encoder_attention_mask=torch.ones(2, tokens, dtype=t), timestep=torch.tensor([500, 500]), added_cond_kwargs=conditions,
                           return_dict=False)
        self.compiled = torch.compile(self.model)

    def steps(self, compiled, repeat):
        f = self.compiled if compiled else self.model
        return [timed(lambda: f(**self.inputs)) for _ in range(repeat)]

    def run(self, schedule, steps):
        """A run of transformer calls under a schedule file, or of all of them computed, eager."""
        if not schedule:
            return timed(lambda: [self.model(**self.inputs) for _ in range(steps)])
        with open(schedule) as f:
            rows = json.load(f)["cache_schedule"]["schedule"]
        clock = Clock()
        wrapped = []
        for b, block in enumerate(self.model.transformer_blocks):
            for name in COMPONENTS:
                module = getattr(block, name)
                decisions = [rows[f"{step:03}"][str(b)][name] for step in range(steps)]
                setattr(block, name, Cached(module, clock, decisions))
                wrapped.append((block, name, module))

        def loop():
            for clock.step in range(steps):
                self.model(**self.inputs)
        try:
            return timed(loop)
        finally:
            for block, name, module in wrapped:
                setattr(block, name, module)


class Pictures:
    """The miniature's pipeline: denoising and decoding of embeddings made before."""

    def __init__(self, snapshot, dtype, prompts):
        self.pipe = PixArtAlphaPipeline.from_pretrained(snapshot, torch_dtype=DTYPES[dtype])
        self.pipe.set_progress_bar_config(disable=True)
        names = ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")
        self.embeds = dict(zip(names, self.pipe.encode_prompt(prompts, negative_prompt="", clean_caption=False)))
        self.eager = self.pipe.transformer
        self.compiled = torch.compile(self.eager, dynamic=False)

    def make(self, images, batch, steps, guidance, compiled):
        self.pipe.transformer = self.compiled if compiled else self.eager
        for first in range(0, images, batch):
            pick = [i % len(self.embeds["prompt_embeds"]) for i in range(first, min(first + batch, images))]
            self.pipe(negative_prompt=None, num_inference_steps=steps, guidance_scale=guidance, use_resolution_binning=False, output_type="np",
                      height=64, width=64, **{k: v[pick] for k, v in self.embeds.items()})


class Peer:
    def __init__(self):
        self.model = None

    def about(self):
        return {"torch": torch.__version__, "diffusers": diffusers.__version__, "python": platform.python_version(), "threads": torch.get_num_threads()}

    def threads(self, n):
        torch.set_num_threads(n)

    def matmul(self, dtype, size, repeat):
        """GFLOP/s of torch.matmul on square matrices, the best of some."""
        a, b = (torch.randn(size, size).to(DTYPES[dtype]) for _ in range(2))
        return 2e-6 * size**3 / min(timed(lambda: a @ b) for _ in range(repeat))

    def load(self, resolution, dtype, tokens):
        self.model = None  # the old one goes first
        self.model = Transformer(resolution, dtype, tokens)

    def steps(self, compiled, repeat):
        return self.model.steps(compiled, repeat)

    def run(self, schedule, steps):
        return self.model.run(schedule, steps)

    def pictures(self, snapshot, dtype, prompts):
        self.model = Pictures(snapshot, dtype, prompts)

    def make(self, images, **kwargs):
        return 1000 * images / timed(lambda: self.model.make(images, **kwargs))


def main():
    peer = Peer()
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print
    with torch.inference_mode():
        for line in sys.stdin:
            request = json.loads(line)
            result = getattr(peer, request.pop("do"))(**request)
            print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    main()
