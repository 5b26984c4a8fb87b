"""Writes flux.json and flux.safetensors: outputs of diffusers' FluxTransformer2DModel and FlowMatch Euler sampler in float32 on one
CPU thread, from weights and inputs that dit/random.go makes again bit for bit (ecadrand.py).

    python -m venv v && v/bin/pip install -r requirements.txt && v/bin/python make_flux_goldens.py

Cases are those of make_goldens.py: `bf16_error` and `CASE.f64` mean the same. `CASE.rounded` and `rounded_error` are those against float64 with timesteps
and guidance rounded as the pipeline and the model round them in bfloat16, which is most of `bf16_error`. Every row has as many text tokens as `text`:
nothing is masked.
"""

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel

import ecadrand
from make_goldens import STEPS, error, run, save

PACK = 2  # the pipeline folds 2 x 2 latents into a token


def config(heads, dim, axes, layers, single, **more):
    c = {"_class_name": "FluxTransformer2DModel", "patch_size": 1, "in_channels": 8, "out_channels": None, "num_layers": layers,
         "num_single_layers": single, "attention_head_dim": dim, "num_attention_heads": heads, "joint_attention_dim": 20,
         "pooled_projection_dim": 12, "guidance_embeds": False, "axes_dims_rope": axes}
    c.update(more)
    return c


# One call on `batch` images of latents [H, W], with `text` tokens each.
FORWARD = [
    dict(name="base", seed=31, config=config(2, 16, [4, 4, 8], 2, 2), latents=[6, 10], text=6, batch=2, timestep=700),
    dict(name="guided", seed=32, config=config(3, 16, [4, 6, 6], 1, 2, guidance_embeds=True), latents=[4, 6], text=5, batch=2,
         timestep=203.5, guidance=5.0),
    dict(name="dev_head", seed=33, config=config(2, 128, [16, 56, 56], 1, 1, in_channels=64, guidance_embeds=True, joint_attention_dim=48),
         latents=[8, 12], text=33, batch=1, timestep=969.0654, guidance=3.5),
    dict(name="more_out", seed=34, config=config(2, 24, [8, 8, 8], 1, 1, out_channels=16), latents=[6, 4], text=1, batch=1, timestep=1),
    dict(name="double_only", seed=35, config=config(1, 32, [8, 12, 12], 3, 0), latents=[4, 4], text=9, batch=1, timestep=1000),
    dict(name="single_only", seed=36, config=config(4, 16, [2, 6, 8], 0, 3, pooled_projection_dim=7), latents=[2, 8], text=4, batch=3, timestep=500),
]

# 20 steps. shift: the scheduler's static shift, None for dynamic shifting as FLUX.1-dev has it.
LOOP = [
    dict(name="loop", seed=41, config=config(2, 32, [4, 12, 16], 2, 3, guidance_embeds=True), latents=[6, 8], text=7, batch=1, guidance=3.5,
         shift=None, schedules=50),
    dict(name="loop_static", seed=42, config=config(1, 64, [16, 24, 24], 1, 1, in_channels=64), latents=[4, 6], text=5, batch=2, shift=3.0),
    dict(name="loop_schnell", seed=43, config=config(1, 16, [4, 4, 8], 1, 1), latents=[4, 4], text=3, batch=1, shift=1.0),
]

# One call whose tokens, text too, stand at random places 0 to `places` - 1 on each of the three axes, as no picture has them.
POSITIONS = [
    dict(name="places", seed=37, config=config(2, 16, [4, 4, 8], 1, 2), latents=[6, 8], text=5, batch=2, timestep=400, places=64),
    dict(name="far_places", seed=38, config=config(1, 128, [16, 56, 56], 1, 1, in_channels=16, guidance_embeds=True), latents=[4, 8], text=7, batch=1,
         timestep=850, guidance=3.5, places=4096),
]


def build(case):
    c = {k: v for k, v in case["config"].items() if not k.startswith("_")}
    return ecadrand.fill(FluxTransformer2DModel(**c), case["seed"]).eval()


def pack(x):
    b, c, h, w = x.shape
    return x.reshape(b, c, h // PACK, PACK, w // PACK, PACK).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // PACK**2, c * PACK**2)


def unpack(x, h, w):
    b, _, c = x.shape
    return x.reshape(b, h // PACK, w // PACK, c // PACK**2, PACK, PACK).permute(0, 3, 1, 4, 2, 5).reshape(b, c // PACK**2, h, w)


def inputs(case, dtype):
    """Packed latents and the model's other arguments."""
    c, (h, w), batch = case["config"], case["latents"], case["batch"]
    normal = lambda name, *shape: torch.from_numpy(ecadrand.normal(case["seed"], name, shape)).to(dtype)
    x = pack(normal("latents", batch, c["in_channels"] // PACK**2, h, w))
    ids = torch.zeros(h // PACK, w // PACK, 3)
    ids[..., 1] += torch.arange(h // PACK)[:, None]
    ids[..., 2] += torch.arange(w // PACK)[None, :]
    ids = torch.cat([torch.zeros(case["text"], 3), ids.reshape(-1, 3)])
    if "places" in case:
        words = ecadrand.words(case["seed"], "places", ids.numel())
        ids = torch.from_numpy((words % np.uint64(case["places"])).astype(np.float32)).reshape(ids.shape)
    more = {"encoder_hidden_states": normal("prompt_embeds", batch, case["text"], c["joint_attention_dim"]),
            "pooled_projections": normal("pooled_prompt_embeds", batch, c["pooled_projection_dim"]),
            "txt_ids": ids[:case["text"]], "img_ids": ids[case["text"]:], "guidance": None, "return_dict": False}
    if c["guidance_embeds"]:
        more["guidance"] = torch.full([batch], case["guidance"], dtype=torch.float32)
    return x, more


def call(model, x, t, more, rounded=False):
    t = torch.as_tensor(t, dtype=torch.float32).expand(x.shape[0]).to(x.dtype)  # as FluxPipeline rounds it
    if rounded:  # give what the model multiplies by 1000 in wider arithmetic the result of the narrow product
        t = ((t.bfloat16() / 1000) * 1000).double()
        more = dict(more)
        if more["guidance"] is not None:
            more["guidance"] = (more["guidance"].bfloat16() * 1000).double() / 1000
    return model(x, timestep=t / 1000, **more)[0]


def forward(model, case, dtype, _schedule=None, rounded=False):
    x, more = inputs(case, dtype)
    return unpack(call(model.to(dtype), x, case["timestep"], more, rounded), *case["latents"])


class Reuse:
    """Replaces the components' outputs by stored ones where ECAD stores them: attn (in double blocks the pair of streams), ff, ff_context and proj_out
    after their output projection and before the gate, proj_mlp before its GELU. An empty store computes."""

    def __init__(self, model, schedule):
        self.step, self.store, self.hooks = 0, {}, []
        blocks = [(b.attn, b.ff, b.ff_context) for b in model.transformer_blocks]
        blocks += [(b.attn, b.proj_mlp, b.proj_out) for b in model.single_transformer_blocks]
        for b, modules in enumerate(blocks):
            for c, module in enumerate(modules):
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


def scheduler(case, tokens):
    """The sampler with its timesteps, as FluxPipeline sets them."""
    sigmas = np.linspace(1.0, 1 / STEPS, STEPS)
    if case["shift"] is not None:
        s = FlowMatchEulerDiscreteScheduler(shift=case["shift"])
        s.set_timesteps(sigmas=sigmas)
        return s
    s = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096)
    m = (1.15 - 0.5) / (4096 - 256)
    s.set_timesteps(sigmas=sigmas, mu=tokens * m + 0.5 - m * 256)
    return s


def loop(model, case, dtype, schedule=None, rounded=False):
    x, more = inputs(case, dtype)
    model = model.to(dtype)
    s = scheduler(case, x.shape[1])
    reuse = Reuse(model, schedule) if schedule is not None else None
    for i, t in enumerate(s.timesteps):
        if reuse:
            reuse.step = i
        x = s.step(call(model, x, t, more, rounded), t, x, return_dict=False)[0]
    if reuse:
        reuse.remove()
    return unpack(x, *case["latents"])


def run_rounded(case, fn, tensors):
    run(case, fn, tensors, build)
    want = fn(build(case), case, torch.float64, rounded=True)
    tensors[case["name"] + ".rounded"] = want.float().numpy()
    case["rounded_error"] = error(fn(build(case), case, torch.bfloat16), want)


def main():
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    tensors = {}
    for case in FORWARD:
        run_rounded(case, forward, tensors)
    for case in LOOP:
        run_rounded(case, loop, tensors)
    for case in POSITIONS:
        run_rounded(case, forward, tensors)
    save("flux", {"forward": FORWARD, "loop": LOOP, "positions": POSITIONS}, tensors)


if __name__ == "__main__":
    main()
