"""Writes mini_flux.safetensors: what transformers and diffusers in float32 make of two captions with the snapshot dit/mini/flux: T5's embeddings,
CLIP's pooled ones, the latents after four steps from the noise of seeds 0 and 1, and the autoencoder's pictures of them, about -1 to 1.

    python -m venv v && v/bin/pip install -r requirements.txt && v/bin/python make_mini_flux.py

The captions are those of TestMiniFlux; their upper case, which FLUX's T5 does not lower, makes unknown pieces.
"""

import pathlib
import sys

import torch
from diffusers import FluxPipeline
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "mini" / "train"))
import flux  # noqa: E402

SNAPSHOT = HERE.parent / "mini" / "flux"
GOLDEN = HERE / "mini_flux.safetensors"
CAPTIONS = ["a small red circle to the left of a large blue square on a white background", "A Large green ring, BLACK background"]


def outputs(snapshot):
    """What diffusers makes of the captions with a snapshot: name -> array."""
    torch.set_num_threads(1)
    pipe = FluxPipeline.from_pretrained(snapshot, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    length = pipe.tokenizer_2.model_max_length
    with torch.no_grad():
        embeds, pooled, _ = pipe.encode_prompt(prompt=CAPTIONS, prompt_2=None, max_sequence_length=length)
        noise = torch.cat([torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(i)) for i in range(2)])
        packed = pipe(CAPTIONS, num_inference_steps=4, guidance_scale=3.5, latents=flux.pack(noise), height=64, width=64,
                      max_sequence_length=length, output_type="latent").images
        latents = flux.unpack(packed)
        vae = pipe.vae.config
        pictures = pipe.vae.decode(latents / vae.scaling_factor + vae.shift_factor).sample
    return {k: v.contiguous().numpy() for k, v in {"embeds": embeds, "pooled": pooled, "latents": latents, "pictures": pictures}.items()}


def main():
    save_file(outputs(SNAPSHOT), GOLDEN)


if __name__ == "__main__":
    main()
