"""Writes a run as a snapshot in diffusers' layout, float16, with the averaged transformer weights."""
import argparse
import json
import pathlib
import shutil

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler
from transformers import T5EncoderModel

import pixart

INDEX = """{
  "_class_name": "PixArtAlphaPipeline",
  "_diffusers_version": "0.42.1",
  "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
  "text_encoder": ["transformers", "T5EncoderModel"],
  "tokenizer": ["transformers", "T5Tokenizer"],
  "transformer": ["diffusers", "PixArtTransformer2DModel"],
  "vae": ["diffusers", "AutoencoderKL"]
}
"""
TOKENIZER = """{
  "eos_token": "</s>",
  "extra_ids": 0,
  "model_max_length": 120,
  "pad_token": "<pad>",
  "tokenizer_class": "T5Tokenizer",
  "unk_token": "<unk>"
}
"""


def restore(transformer, state, averaged):
    """The transformer with a checkpoint's weights, averaged or as trained."""
    transformer.load_state_dict(state["model"])
    if averaged:
        unknown = transformer.load_state_dict(state["average"], strict=False).unexpected_keys
        if unknown:
            raise SystemExit(f"the checkpoint's averages have unknown names: {unknown}")
    return transformer


def tidy(out):
    """Removes from a snapshot's configurations where its parts were loaded from, and makes its files readable."""
    for path in out.glob("*/*.json"):
        config = json.loads(path.read_text())
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for path in out.glob("*/*"):
        path.chmod(0o644)


def export(run, out, averaged=True):
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    transformer = restore(pixart.create(), state, averaged)
    text = T5EncoderModel.from_pretrained(run / "text_encoder", dtype=torch.float16)
    out.mkdir(parents=True, exist_ok=True)
    transformer.half().save_pretrained(out / "transformer")
    text.save_pretrained(out / "text_encoder")
    AutoencoderKL.from_pretrained(run / "vae", torch_dtype=torch.float16).save_pretrained(out / "vae")
    DPMSolverMultistepScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear",
                                solver_order=2, algorithm_type="dpmsolver++").save_pretrained(out / "scheduler")
    (out / "tokenizer").mkdir(exist_ok=True)
    shutil.copyfile(run / "tokenizer" / "spiece.model", out / "tokenizer" / "spiece.model")
    (out / "tokenizer" / "tokenizer_config.json").write_text(TOKENIZER)
    (out / "model_index.json").write_text(INDEX)
    tidy(out)
    return state["step"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=pathlib.Path, required=True, help="folder of the training")
    parser.add_argument("out", type=pathlib.Path, help="folder of the snapshot, such as dit/mini/pixart")
    args = parser.parse_args()
    print(f"exported step {export(args.run, args.out)}")
