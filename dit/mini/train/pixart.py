"""The transformer's forward pass for training: diffusers' parameters, one fused graph.

Same function as diffusers' PixArtTransformer2DModel (transformer.py checks it before
training), with stacked query, key and value projections and plain matrix attention,
which torch.compile turns into faster code at 64 tokens.
"""
import math

import torch
import torch.nn.functional as F
from diffusers import PixArtTransformer2DModel

HEADS, HEAD = 2, 72
WIDTH = HEADS * HEAD


def create():
    return PixArtTransformer2DModel(
        num_attention_heads=HEADS, attention_head_dim=HEAD, in_channels=4, out_channels=8, num_layers=8,
        cross_attention_dim=WIDTH, sample_size=16, patch_size=2, caption_channels=96, attention_bias=True,
        activation_fn="gelu-approximate", norm_type="ada_norm_single", norm_elementwise_affine=False,
        norm_eps=1e-6, use_additional_conditions=False)


def attend(q, k, v, bias=None):
    """q [B, N, C], k and v [B, L, C], bias [B, 1, 1, L] or None: [B, N, C]."""
    q, k, v = (t.unflatten(2, (HEADS, HEAD)).transpose(1, 2) for t in (q, k, v))
    scores = (q * HEAD ** -0.5) @ k.transpose(2, 3)
    if bias is not None:
        scores = scores + bias
    return (scores.float().softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(2)


def stacked(attention, names):
    layers = [getattr(attention, n) for n in names]
    return torch.cat([l.weight for l in layers]), torch.cat([l.bias for l in layers])


def modulate(x, shift, scale):
    return F.layer_norm(x, (WIDTH,), eps=1e-6) * (1 + scale) + shift


def forward(model, latents, timestep, text, mask):
    """Predicts the noise: latents [B, 4, 16, 16], timestep [B], text [B, L, 96], mask bool [B, L]."""
    batch = latents.shape[0]
    ada = model.adaln_single
    embedded = ada.emb.timestep_embedder(ada.emb.time_proj(timestep).to(latents.dtype))
    modulation = ada.linear(F.silu(embedded)).float().view(batch, 6, WIDTH)
    text = model.caption_projection(text)
    bias = torch.where(mask, 0.0, -10000.0)[:, None, None, :]
    x = model.pos_embed(latents).float()
    for block in model.transformer_blocks:
        shift1, scale1, gate1, shift2, scale2, gate2 = (block.scale_shift_table + modulation)[:, :, None].unbind(1)
        own, cross = block.attn1, block.attn2
        q, k, v = F.linear(modulate(x, shift1, scale1), *stacked(own, ("to_q", "to_k", "to_v"))).chunk(3, -1)
        x = x + gate1 * own.to_out[0](attend(q, k, v))
        k, v = F.linear(text, *stacked(cross, ("to_k", "to_v"))).chunk(2, -1)
        x = x + cross.to_out[0](attend(cross.to_q(x), k, v, bias))
        hidden = F.gelu(block.ff.net[0].proj(modulate(x, shift2, scale2)), approximate="tanh")
        x = x + gate2 * block.ff.net[2](hidden)
    shift, scale = (model.scale_shift_table + embedded.float()[:, None]).chunk(2, 1)
    with torch.autocast("cpu", enabled=False):
        x = model.proj_out(modulate(x, shift, scale))
    side = math.isqrt(x.shape[1])
    x = x.view(batch, side, side, 2, 2, 8).permute(0, 5, 1, 3, 2, 4).reshape(batch, 8, 2 * side, 2 * side)
    return x[:, :4]
