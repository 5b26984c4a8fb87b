"""Writes flux_original.json: for every tensor of diffusers' layout the rows of the original layout that it is made of, [name, first row, rows], found by
sending numbered rows through diffusers' own conversion. One block of each kind of the released size.

    v/bin/python make_flux_original.py
"""

import json
import pathlib

import torch
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers

C, HEAD, MLP = 3072, 128, 12288
LINEAR = {"time_in.in_layer": C, "time_in.out_layer": C, "vector_in.in_layer": C, "vector_in.out_layer": C, "guidance_in.in_layer": C,
          "guidance_in.out_layer": C, "txt_in": C, "img_in": C, "final_layer.linear": 64, "final_layer.adaLN_modulation.1": 2 * C,
          "single_blocks.0.modulation.lin": 3 * C, "single_blocks.0.linear1": 3 * C + MLP, "single_blocks.0.linear2": C}
for s in ("img", "txt"):
    LINEAR |= {f"double_blocks.0.{s}_mod.lin": 6 * C, f"double_blocks.0.{s}_attn.qkv": 3 * C, f"double_blocks.0.{s}_attn.proj": C,
               f"double_blocks.0.{s}_mlp.0": MLP, f"double_blocks.0.{s}_mlp.2": C}
SCALE = [f"double_blocks.0.{s}_attn.norm.{n}_norm.scale" for s in ("img", "txt") for n in ("query", "key")]
SCALE += [f"single_blocks.0.norm.{n}_norm.scale" for n in ("query", "key")]


def main():
    rows = {f"{k}.{part}": n for k, n in LINEAR.items() for part in ("weight", "bias")} | {k: HEAD for k in SCALE}
    names = sorted(rows)
    number = {n: i for i, n in enumerate(names)}
    checkpoint = {}
    for name, n in rows.items():
        v = torch.arange(n, dtype=torch.float64) + number[name] * 2**20
        checkpoint[name] = v[:, None] if name.endswith("weight") else v
    out = {}
    for name, x in convert_flux_transformer_checkpoint_to_diffusers(dict(checkpoint)).items():
        runs = []
        for v in x.flatten().long().tolist():
            source, row = names[v >> 20], v & (2**20 - 1)
            if runs and runs[-1][0] == source and runs[-1][1] + runs[-1][2] == row:
                runs[-1][2] += 1
            else:
                runs.append([source, row, 1])
        out[name] = runs
    doc = {"original": {n: rows[n] for n in names}, "diffusers": out}
    (pathlib.Path(__file__).parent / "flux_original.json").write_text(json.dumps(doc, separators=(",", ":")).replace("]],", "]],\n") + "\n")


if __name__ == "__main__":
    main()
