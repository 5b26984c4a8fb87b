"""The miniature FLUX's forward pass for training: diffusers' parameters, one fused graph.

Same function as diffusers' FluxTransformer2DModel (flux_transformer.py checks it before training), with stacked
projections and plain matrix attention, which torch.compile turns into faster code at 84 tokens.
"""
import math

import torch
import torch.nn.functional as F
from diffusers import FluxTransformer2DModel
from diffusers.models.embeddings import get_timestep_embedding

HEADS, HEAD = 4, 32
WIDTH = HEADS * HEAD
AXES = (4, 14, 14)  # FLUX's 16, 56, 56 scaled to this head
SIDE = 8  # packed tokens of a picture's side


def create():
    model = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=4, attention_head_dim=HEAD,
        num_attention_heads=HEADS, joint_attention_dim=96, pooled_projection_dim=64, guidance_embeds=True,
        axes_dims_rope=AXES)
    for name, p in model.named_parameters():  # every block begins as the identity
        if "norm1" in name or ".norm.linear" in name or name.startswith(("norm_out", "proj_out")):
            torch.nn.init.zeros_(p)
    return model


def pack(x):
    """Latents [B, C, 2S, 2S] to tokens [B, S*S, 4C], feature c*4 + dy*2 + dx."""
    b, c, h, w = x.shape
    return x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, 4 * c)


def unpack(x):
    b, n, c = x.shape
    side = math.isqrt(n)
    return x.view(b, side, side, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c // 4, 2 * side, 2 * side)


def image_ids(side=SIDE):
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack((torch.zeros_like(rows), rows, columns), -1).flatten(0, 1).float()


def rotation(texts):
    """Cosines and sines [texts + SIDE*SIDE, HEAD/2] of FLUX's rotary positions; text stands at the origin."""
    ids = torch.cat((torch.zeros(texts, 3), image_ids())).double()
    angles = torch.cat([ids[:, k:k + 1] * 10000.0 ** (-torch.arange(0, d, 2).double() / d)
                        for k, d in enumerate(AXES)], 1)
    return angles.cos().float(), angles.sin().float()


def rotated(x, turn):
    """x [B, N, heads, HEAD], adjacent pairs turned."""
    cos, sin = (t[:, None] for t in turn)
    a, b = x.unflatten(3, (-1, 2)).unbind(4)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), 4).flatten(3)


def normed(x, layer):
    """x [B, N, WIDTH] by heads, RMS-normalised in float32: [B, N, heads, HEAD]."""
    x = x.unflatten(2, (HEADS, HEAD)).float()
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * layer.weight


def attend(q, k, v):
    """q, k [B, N, heads, HEAD] float32, v [B, N, WIDTH]: [B, N, WIDTH]."""
    v = v.unflatten(2, (HEADS, HEAD)).transpose(1, 2)
    q, k = ((t * HEAD ** -0.25).to(v.dtype).transpose(1, 2) for t in (q, k))
    return ((q @ k.transpose(2, 3)).float().softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(2)


def stacked(layers):
    return torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])


def modulate(x, shift, scale):
    return F.layer_norm(x, (WIDTH,), eps=1e-6) * (1 + scale) + shift


def double_block(block, x, c, conditioning, turn, texts):
    a = block.attn
    shift, scale, gate, shift2, scale2, gate2 = block.norm1.linear(conditioning).float()[:, None].chunk(6, -1)
    c_shift, c_scale, c_gate, c_shift2, c_scale2, c_gate2 = (
        block.norm1_context.linear(conditioning).float()[:, None].chunk(6, -1))
    q, k, v = F.linear(modulate(x, shift, scale), *stacked((a.to_q, a.to_k, a.to_v))).chunk(3, -1)
    cq, ck, cv = F.linear(modulate(c, c_shift, c_scale),
                          *stacked((a.add_q_proj, a.add_k_proj, a.add_v_proj))).chunk(3, -1)
    q = rotated(torch.cat((normed(cq, a.norm_added_q), normed(q, a.norm_q)), 1), turn)
    k = rotated(torch.cat((normed(ck, a.norm_added_k), normed(k, a.norm_k)), 1), turn)
    out = attend(q, k, torch.cat((cv, v), 1))
    x = x + gate * a.to_out[0](out[:, texts:])
    c = c + c_gate * a.to_add_out(out[:, :texts])
    x = x + gate2 * block.ff.net[2](F.gelu(block.ff.net[0].proj(modulate(x, shift2, scale2)), approximate="tanh"))
    hidden = F.gelu(block.ff_context.net[0].proj(modulate(c, c_shift2, c_scale2)), approximate="tanh")
    return x, c + c_gate2 * block.ff_context.net[2](hidden)


def single_block(block, h, conditioning, turn):
    a = block.attn
    shift, scale, gate = block.norm.linear(conditioning).float()[:, None].chunk(3, -1)
    q, k, v, hidden = F.linear(modulate(h, shift, scale), *stacked((a.to_q, a.to_k, a.to_v, block.proj_mlp))).split(
        (WIDTH, WIDTH, WIDTH, 4 * WIDTH), -1)
    out = attend(rotated(normed(q, a.norm_q), turn), rotated(normed(k, a.norm_k), turn), v)
    return h + gate * block.proj_out(torch.cat((out, F.gelu(hidden, approximate="tanh")), -1))


def forward(model, x, sigma, guidance, text, pooled, turn):
    """Predicts the velocity: x packed [B, 64, 16], sigma and guidance [B], text [B, L, 96], pooled [B, 64]."""
    embed, texts = model.time_text_embed, text.shape[1]
    temb = (embed.timestep_embedder(get_timestep_embedding(1000 * sigma, 256, True, 0.0))
            + embed.guidance_embedder(get_timestep_embedding(1000 * guidance, 256, True, 0.0))
            + embed.text_embedder(pooled))
    conditioning = F.silu(temb.float())
    x, c = model.x_embedder(x).float(), model.context_embedder(text).float()
    for block in model.transformer_blocks:
        x, c = double_block(block, x, c, conditioning, turn, texts)
    h = torch.cat((c, x), 1)
    for block in model.single_transformer_blocks:
        h = single_block(block, h, conditioning, turn)
    with torch.autocast("cpu", enabled=False):
        scale, shift = model.norm_out.linear(conditioning)[:, None].chunk(2, -1)
        return model.proj_out(modulate(h[:, texts:], shift, scale))
