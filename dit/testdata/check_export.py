"""Reads a snapshot that `ecadx model export` wrote with diffusers.

Of `--model mini-flux` it compares all parts, from captions to pictures, with the golden mini_flux.safetensors. Of `--model random:pixart-alpha-256` it compares one
call with the golden pixart_full.safetensors and, if given, with the output of `ecadx denoise --forward 500` on the inputs written by --inputs.

    python check_export.py DIR                        diffusers on the export against the golden
    python check_export.py DIR --inputs in.safetensors   also writes the inputs for `ecadx denoise`
    python check_export.py DIR --output out.safetensors  also compares what `ecadx denoise` wrote
"""

import argparse
import json
import pathlib
import sys

import torch
from diffusers import PixArtTransformer2DModel
from safetensors.torch import load_file, save_file

import make_goldens as goldens


def main():
    p = argparse.ArgumentParser()
    p.add_argument("snapshot")
    p.add_argument("--inputs")
    p.add_argument("--output")
    args = p.parse_args()
    torch.set_grad_enabled(False)
    index = json.loads(pathlib.Path(args.snapshot, "model_index.json").read_text())
    verdict(mini_flux(args) if index["_class_name"] == "FluxPipeline" else pixart(args))


def mini_flux(args):
    import make_mini_flux

    golden = load_file(make_mini_flux.GOLDEN)
    return {name: goldens.error(torch.from_numpy(x), golden[name].double()) for name, x in make_mini_flux.outputs(args.snapshot).items()}


def pixart(args):
    case = json.loads((goldens.HERE / "pixart_full.json").read_text())["forward"][0]
    golden = load_file(goldens.HERE / "pixart_full.safetensors")["full"]
    if args.inputs:
        x, e, mask, _ = goldens.inputs(case, len(case["masks"]))
        save_file({"latents": x.contiguous(), "prompt_embeds": e.contiguous(), "prompt_mask": mask.to(torch.int32)}, args.inputs)
    errors = {}
    model, info = PixArtTransformer2DModel.from_pretrained(args.snapshot, subfolder="transformer", output_loading_info=True)
    if any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")):
        sys.exit(f"diffusers does not find what it expects: {info}")
    errors["diffusers on the export"] = goldens.error(goldens.forward(model.eval(), case, torch.float32), golden.double())
    if args.output:
        errors["ecadx denoise"] = goldens.error(load_file(args.output)["output"], golden.double())
    return errors


def verdict(errors):
    for name, e in errors.items():
        print(f"{name}: relative error {e:.3g}")
    if not all(e <= 1e-5 for e in errors.values()):
        sys.exit("more than 1e-5")


if __name__ == "__main__":
    main()
