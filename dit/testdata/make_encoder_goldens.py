"""Writes encoders.json and encoders.safetensors: outputs of transformers' T5EncoderModel and CLIPTextModel and of the decoder of
diffusers' AutoencoderKL in float32 on one CPU thread, from weights and inputs that dit/random.go makes again bit for bit (ecadrand.py).
`bf16_error` of a case is the relative L2 error of PyTorch in bfloat16 against float64.

    python -m venv v && v/bin/pip install -r requirements.txt && v/bin/python make_encoder_goldens.py
"""

import copy
import json
import pathlib

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.numpy import save_file
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

import ecadrand

HERE = pathlib.Path(__file__).parent

T5 = [
    dict(name="t5_small", seed=21, tokens=17, lengths=[17, 1, 9],
         config=dict(d_model=48, d_kv=16, num_heads=3, d_ff=80, num_layers=2, vocab_size=100)),
    dict(name="t5_long", seed=22, tokens=160, lengths=[160, 120],
         config=dict(d_model=64, d_kv=24, num_heads=2, d_ff=72, num_layers=3, vocab_size=50)),
    dict(name="t5_buckets", seed=23, tokens=40, lengths=[33],
         config=dict(d_model=32, d_kv=64, num_heads=1, d_ff=64, num_layers=1, vocab_size=33,
                     relative_attention_num_buckets=16, relative_attention_max_distance=24)),
]

# `ids` ends in an end token or has none; what comes behind the first one must not matter, so it is left out in the test.
CLIP = [
    dict(name="clip_legacy_end", seed=41, ids=[[97, 3, 50, 8, 98, 98, 98], [97, 98, 98, 98, 98, 98, 98]], prefix="text_model.",
         config=dict(hidden_size=48, num_attention_heads=3, intermediate_size=80, num_hidden_layers=2, vocab_size=99,
                     max_position_embeddings=9, eos_token_id=2)),
    dict(name="clip_end", seed=42, ids=[[5, 60, 61, 62, 63, 6, 6, 30]], prefix="",
         config=dict(hidden_size=64, num_attention_heads=2, intermediate_size=96, num_hidden_layers=3, vocab_size=64,
                     max_position_embeddings=77, eos_token_id=6)),
    dict(name="clip_no_end_gelu", seed=43, ids=[[1, 2, 3, 5]], prefix="text_model.",
         config=dict(hidden_size=32, num_attention_heads=4, intermediate_size=64, num_hidden_layers=1, vocab_size=20,
                     max_position_embeddings=16, eos_token_id=9, hidden_act="gelu", layer_norm_eps=1e-6)),
]

VAE = [
    dict(name="vae_three_levels", seed=31, latents=[2, 4, 6, 5],
         config=dict(block_out_channels=[16, 32, 64], layers_per_block=1, norm_num_groups=1, latent_channels=4,
                     scaling_factor=1.0)),
    dict(name="vae_four_levels", seed=32, latents=[1, 4, 4, 4],
         config=dict(block_out_channels=[32, 64, 64, 96], layers_per_block=2, norm_num_groups=32, latent_channels=4,
                     scaling_factor=0.18215)),
    dict(name="vae_no_quant", seed=33, latents=[1, 16, 3, 7],
         config=dict(block_out_channels=[24, 40], layers_per_block=1, norm_num_groups=8, latent_channels=16,
                     scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False)),
    dict(name="vae_no_attention", seed=34, latents=[1, 4, 5, 3],
         config=dict(block_out_channels=[16, 16], layers_per_block=1, norm_num_groups=4, latent_channels=4,
                     mid_block_add_attention=False, scaling_factor=0.13025)),
]


def bf16_error(run, model):
    """The relative L2 error of run(model) in bfloat16 against float64."""
    exact = run(copy.deepcopy(model).double())
    rounded = run(copy.deepcopy(model).bfloat16()).double()
    return float((rounded - exact).norm() / exact.norm())


def t5_case(case):
    cfg = T5Config(feed_forward_proj="gated-gelu", dropout_rate=0.0, **case["config"])
    model = ecadrand.fill(T5EncoderModel(cfg).eval(), case["seed"])
    batch, tokens = len(case["lengths"]), case["tokens"]
    ids = (ecadrand.words(case["seed"], "input_ids", batch * tokens) % np.uint64(cfg.vocab_size)).astype(np.int64)
    ids = ids.reshape(batch, tokens)
    mask = np.array([[1] * n + [0] * (tokens - n) for n in case["lengths"]])

    def run(m):
        out = m(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
        out[torch.from_numpy(mask) == 0] = 0  # padding rows are nobody's business
        return out

    out = run(model).numpy().copy()
    case["bf16_error"] = bf16_error(run, model)
    case["config"] = {k: v for k, v in cfg.to_dict().items() if not isinstance(v, (list, dict)) and v is not None}
    return out


def clip_case(case):
    cfg = CLIPTextConfig(**{"bos_token_id": 0, "pad_token_id": 1, **case["config"]})
    model = CLIPTextModel(cfg).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            name = case["prefix"] + name.removeprefix("text_model.")
            std, mean = ecadrand.weight_rule(name, p.shape)
            p.copy_(torch.from_numpy(ecadrand.normal(case["seed"], name, tuple(p.shape), std, mean)))
    ids = torch.tensor(case["ids"])
    out = model(ids).pooler_output.numpy().copy()
    case["bf16_error"] = bf16_error(lambda m: m(ids).pooler_output, model)
    case["config"] = {k: v for k, v in cfg.to_dict().items() if not isinstance(v, (list, dict)) and v is not None}
    return out


def vae_case(case):
    levels = len(case["config"]["block_out_channels"])
    config = dict(in_channels=3, out_channels=3, act_fn="silu", down_block_types=["DownEncoderBlock2D"] * levels,
                  up_block_types=["UpDecoderBlock2D"] * levels, sample_size=32, force_upcast=True)
    config.update(case["config"])
    model = ecadrand.fill(AutoencoderKL(**config).eval(), case["seed"])
    latents = torch.from_numpy(ecadrand.normal(case["seed"], "latents", case["latents"]))
    z = latents / config["scaling_factor"] + config.get("shift_factor", 0.0)
    out = np.ascontiguousarray(model.decode(z).sample.numpy())  # torch may hand out channels last, which save_file ignores
    case["bf16_error"] = bf16_error(lambda m: m.decode(z.to(m.dtype)).sample, model)
    case["config"] = {"_class_name": "AutoencoderKL", **config}
    return out


def main():
    torch.set_num_threads(1)
    tensors = {}
    with torch.no_grad():
        for case in T5:
            tensors[case["name"]] = t5_case(case)
        for case in CLIP:
            tensors[case["name"]] = clip_case(case)
        for case in VAE:
            tensors[case["name"]] = vae_case(case)
    save_file(tensors, HERE / "encoders.safetensors")
    (HERE / "encoders.json").write_text(json.dumps({"t5": T5, "clip": CLIP, "vae": VAE}, indent=1) + "\n")


if __name__ == "__main__":
    main()
