"""Writes pixart.json and pixart.safetensors: outputs of diffusers' PixArtTransformer2DModel and DPM-Solver++ in float32
on one CPU thread, from weights and inputs that dit/random.go makes again bit for bit (ecadrand.py).

    python -m venv v && v/bin/pip install -r requirements.txt && v/bin/python make_goldens.py [--full]

--full also writes pixart_full.*: one call of the 28-block 256 px architecture (takes 8 GB and some minutes).

Each case holds its configuration, shapes, masks and `bf16_error`: the relative L2 error of diffusers in bfloat16 against
diffusers in float64 (tensor `CASE.f64`, rounded to float32) on the same weights and inputs.
"""

import argparse
import copy
import json
import pathlib

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, PixArtTransformer2DModel
from diffusers.utils import logging
from safetensors.numpy import save_file

import ecadrand

logging.set_verbosity_error()  # says at every .to() that no module is to be kept in float32

HERE = pathlib.Path(__file__).parent
STEPS = 20
LEGACY = {"double_self_attention": False, "only_cross_attention": False, "num_vector_embeds": None,
          "use_linear_projection": False, "caption_channels": 24}


def config(heads, dim, layers, sample, **more):
    c = {"_class_name": "PixArtTransformer2DModel", "num_attention_heads": heads, "attention_head_dim": dim,
         "num_layers": layers, "sample_size": sample, "in_channels": 4, "out_channels": 8, "patch_size": 2,
         "cross_attention_dim": heads * dim, "caption_channels": 20, "attention_bias": True,
         "activation_fn": "gelu-approximate", "norm_type": "ada_norm_single", "num_embeds_ada_norm": 1000,
         "norm_elementwise_affine": False, "norm_eps": 1e-6, "interpolation_scale": None,
         "use_additional_conditions": False}
    c.update(more)
    return c


# One call. masks: one row of 0/1 per sample.
FORWARD = [
    dict(name="base", seed=1, config=config(2, 64, 2, 8), latents=[8, 8], timestep=999,
         masks=["1111111", "1011010", "0000100"]),
    dict(name="scale_half", seed=2, config=config(1, 72, 1, 16, interpolation_scale=0.5), latents=[8, 12], timestep=1,
         masks=["1"]),
    dict(name="micro", seed=3, config=config(3, 64, 3, 16, interpolation_scale=2, use_additional_conditions=True),
         latents=[12, 8], timestep=500, masks=["1" * 20 + "0" * 13, "10" * 16 + "1"],
         resolution=[[512, 768], [640, 1024]], aspect_ratio=[[0.6667], [0.625]]),
    dict(name="deep", seed=4, config=config(2, 72, 4, 16, interpolation_scale=1), latents=[16, 16], timestep=250,
         masks=["1" * 120, "110" * 30 + "0" * 30]),
    dict(name="no_caption_projection", seed=5,
         config=config(3, 72, 2, 24, caption_channels=None, cross_attention_dim=40, out_channels=None),
         latents=[6, 10], timestep=42, masks=["11111", "11100"]),
    dict(name="derived", seed=6, config=config(1, 72, 1, 128, use_additional_conditions=None), latents=[10, 14],
         timestep=0, masks=["1110", "1000"], resolution=[[80, 112], [80, 112]], aspect_ratio=[[0.7143], [0.7143]]),
    dict(name="legacy", seed=7,
         config=config(1, 64, 2, 8, activation_fn="gelu", attention_bias=False, norm_eps=1e-5,
                       **{**LEGACY, "_class_name": "Transformer2DModel"}),
         latents=[4, 8], timestep=777, masks=["1111011"]),
]

# 20 guided steps. masks: negative prompts, then prompts. schedules: how many random ones (numbered from 0).
LOOP = [
    dict(name="loop", seed=11, config=config(2, 72, 3, 16), latents=[8, 12], guidance=4.5, schedules=50,
         masks=["0100000", "1101110"]),
    dict(name="loop_micro", seed=12, config=config(3, 64, 2, 16, use_additional_conditions=True), latents=[10, 6],
         guidance=3.0, schedules=0, masks=["11000000000", "10000000000", "11111111111", "01111100000"],
         resolution=[[80, 48]] * 4, aspect_ratio=[[1.6667]] * 4),
    dict(name="loop_unguided", seed=13, config=config(1, 64, 1, 8), latents=[4, 4], guidance=1.0, schedules=0,
         masks=["111", "110"]),
]

FULL = dict(name="full", seed=0, random="pixart-alpha-256", latents=[32, 32], timestep=500,
            config=config(16, 72, 28, 32, caption_channels=4096), masks=["1" * 17 + "0" * 3])


def build(case):
    c = {k: v for k, v in case["config"].items() if not k.startswith("_")}
    for k in LEGACY:
        if k != "caption_channels":
            c.pop(k, None)
    return ecadrand.fill(PixArtTransformer2DModel(**c), case["seed"]).eval()


def inputs(case, batch):
    """latents of `batch` images; embeddings, mask and conditions of every row."""
    rows = len(case["masks"])
    c = case["config"]
    width = c["caption_channels"] or c["cross_attention_dim"]
    mask = torch.tensor([[int(b) for b in row] for row in case["masks"]])
    x = torch.from_numpy(ecadrand.normal(case["seed"], "latents", (batch, c["in_channels"], *case["latents"])))
    e = torch.from_numpy(ecadrand.normal(case["seed"], "prompt_embeds", (rows, mask.shape[1], width)))
    added = {"resolution": None, "aspect_ratio": None}
    if "resolution" in case:
        added = {k: torch.tensor(case[k], dtype=torch.float32) for k in added}
    return x, e, mask, added


def call(model, x, t, e, mask, added, dtype):
    added = {k: v if v is None else v.to(dtype) for k, v in added.items()}
    t = torch.full((x.shape[0],), float(t), dtype=torch.float32)
    return model(x, encoder_hidden_states=e, encoder_attention_mask=mask, timestep=t, added_cond_kwargs=added,
                 return_dict=False)[0]


def forward(model, case, dtype):
    x, e, mask, added = inputs(case, len(case["masks"]))
    return call(model.to(dtype), x.to(dtype), case["timestep"], e.to(dtype), mask, added, dtype)


def random_schedule(case, k):
    """[steps][blocks][3] booleans, True: reuse. Schedule k reuses about k + 1 of 52 cells."""
    blocks = case["config"]["num_layers"] + case["config"].get("num_single_layers", 0)
    w = ecadrand.words(case["seed"], f"schedule/{k}", STEPS * blocks * 3)
    return ((w >> np.uint64(32)).astype(object) * 52 < (k + 1) * 2**32).astype(bool).reshape(STEPS, blocks, 3)


class Reuse:
    """Forward hooks on attn1, attn2 and ff of every block: reuse returns the stored output of the module, before the
    gate; an empty store computes."""

    def __init__(self, model, schedule):
        self.step, self.store, self.hooks = 0, {}, []
        for b, block in enumerate(model.transformer_blocks):
            for c, module in enumerate((block.attn1, block.attn2, block.ff)):
                self.hooks.append(module.register_forward_hook(self.hook(b, c, schedule)))

    def hook(self, b, c, schedule):
        def run(_module, _args, out):
            if schedule[self.step][b][c] and (b, c) in self.store:
                return self.store[b, c]
            self.store[b, c] = out
            return None
        return run

    def remove(self):
        for h in self.hooks:
            h.remove()


def loop(model, case, dtype, schedule=None):
    g, rows = case["guidance"], len(case["masks"])
    batch = rows // 2 if g > 1 else rows
    x, e, mask, added = inputs(case, batch)
    model, x, e = model.to(dtype), x.to(dtype), e.to(dtype)
    s = DPMSolverMultistepScheduler()
    s.set_timesteps(STEPS)
    reuse = Reuse(model, schedule) if schedule is not None else None
    for i, t in enumerate(s.timesteps):
        if reuse:
            reuse.step = i
        eps = call(model, torch.cat([x, x]) if g > 1 else x, t, e, mask, added, dtype)
        if g > 1:
            u, c = eps.chunk(2)
            eps = u + g * (c - u)
        x = s.step(eps[:, :4], t, x, return_dict=False)[0]
    if reuse:
        reuse.remove()
    return x


def error(got, want):
    return float((got.double() - want).norm() / want.norm())


def run(case, fn, tensors, build=build):
    f32 = build(case)
    out = fn(f32, case, torch.float32)
    truth = fn(copy.deepcopy(f32), case, torch.float64)
    tensors[case["name"]] = out.numpy()
    tensors[case["name"] + ".f64"] = truth.float().numpy()
    case["f32_error"] = error(out, truth)
    for k in range(case.get("schedules", 0)):
        schedule = random_schedule(case, k)
        tensors[f"{case['name']}.schedule{k}"] = fn(f32, case, torch.float32, schedule).numpy()
        if k == 0:
            case["reused0"] = int(schedule.sum())
    case["bf16_error"] = error(fn(f32, case, torch.bfloat16), truth)
    print(case["name"], "rms", float(truth.square().mean().sqrt()), "f32", case["f32_error"], "bf16", case["bf16_error"])


def save(name, doc, tensors):
    (HERE / f"{name}.json").write_text(json.dumps(doc, indent=1) + "\n")
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, HERE / f"{name}.safetensors")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--full", action="store_true", help="make pixart_full instead")
    args = p.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    tensors = {}
    if args.full:
        run(FULL, forward, tensors)
        save("pixart_full", {"forward": [FULL], "loop": []}, tensors)
        return
    for case in FORWARD:
        run(case, forward, tensors)
    for case in LOOP:
        run(case, loop, tensors)
    save("pixart", {"forward": FORWARD, "loop": LOOP}, tensors)


if __name__ == "__main__":
    main()
