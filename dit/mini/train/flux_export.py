"""Writes a run of the miniature FLUX as a snapshot in diffusers' layout, float16, with the averaged weights."""
import argparse
import pathlib
import shutil

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, T5EncoderModel

import export
import flux
from flux_text import LENGTH

INDEX = """{
  "_class_name": "FluxPipeline",
  "_diffusers_version": "0.42.1",
  "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
  "text_encoder": ["transformers", "CLIPTextModel"],
  "text_encoder_2": ["transformers", "T5EncoderModel"],
  "tokenizer": ["transformers", "CLIPTokenizer"],
  "tokenizer_2": ["transformers", "T5Tokenizer"],
  "transformer": ["diffusers", "FluxTransformer2DModel"],
  "vae": ["diffusers", "AutoencoderKL"]
}
"""


def prefix(path):
    """Gives a CLIP text model's tensors the names of released snapshots, which transformers writes no more but reads."""
    tensors = {"text_model." + k.removeprefix("text_model."): v for k, v in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})


def write(run, out, averaged=True):
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    transformer = export.restore(flux.create(), state, averaged)
    out.mkdir(parents=True, exist_ok=True)
    transformer.half().save_pretrained(out / "transformer")
    CLIPTextModel.from_pretrained(run / "text_encoder", dtype=torch.float16).save_pretrained(out / "text_encoder")
    prefix(out / "text_encoder" / "model.safetensors")
    T5EncoderModel.from_pretrained(run / "text_encoder_2", dtype=torch.float16).save_pretrained(out / "text_encoder_2")
    vae = AutoencoderKL.from_pretrained(run / "vae", torch_dtype=torch.float16)
    vae.register_to_config(shift_factor=0.0)  # FluxPipeline adds one
    vae.save_pretrained(out / "vae")
    FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000, shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15,
        base_image_seq_len=256, max_image_seq_len=4096).save_pretrained(out / "scheduler")
    (out / "tokenizer_2").mkdir(exist_ok=True)
    shutil.copyfile(run / "tokenizer" / "spiece.model", out / "tokenizer_2" / "spiece.model")
    (out / "tokenizer_2" / "tokenizer_config.json").write_text(
        export.TOKENIZER.replace('"model_max_length": 120', f'"model_max_length": {LENGTH}'))
    shutil.copytree(run / "clip_tokenizer", out / "tokenizer", dirs_exist_ok=True)
    (out / "model_index.json").write_text(INDEX)
    export.tidy(out)
    return state["step"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=pathlib.Path, required=True, help="folder of the training")
    parser.add_argument("out", type=pathlib.Path, help="folder of the snapshot, such as dit/mini/flux")
    args = parser.parse_args()
    print(f"exported step {write(args.run, args.out)}")
