"""PixArt-XL/2 in plain PyTorch modules, for machines that have PyTorch and no diffusers: the same layers, the same arithmetic, random weights."""
import torch
import torch.nn.functional as F
from torch import nn

WIDTH, HEADS, BLOCKS, TEXT = 1152, 16, 28, 4096


class Attention(nn.Module):
    """x [B,N,C] to y [B,L,C]; bias [B,1,1,L] or None."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x, y, bias=None):
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (self.q(x), self.k(y), self.v(y)))
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.modulation = nn.Parameter(torch.randn(6, WIDTH) / WIDTH**0.5)
        self.norm = nn.LayerNorm(WIDTH, elementwise_affine=False, eps=1e-6)
        self.self_attention, self.cross_attention = Attention(), Attention()
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x, text, bias, t):
        shift, scale, gate, shift_ff, scale_ff, gate_ff = (self.modulation + t.unflatten(-1, (6, WIDTH))).chunk(6, dim=1)
        n = self.norm(x) * (1 + scale) + shift
        x = x + gate * self.self_attention(n, n)
        x = x + self.cross_attention(x, text, bias)
        n = self.norm(x) * (1 + scale_ff) + shift_ff
        return x + gate_ff * self.down(F.gelu(self.up(n), approximate="tanh"))


class Embedding(nn.Module):
    """Sines of numbers [B], through two linears."""

    def __init__(self, width):
        super().__init__()
        self.first, self.second = nn.Linear(256, width), nn.Linear(width, width)

    def forward(self, t):
        angles = t.float()[..., None] * torch.exp(torch.arange(128, device=t.device) * (-9.210340371976184 / 128))
        waves = torch.cat((angles.cos(), angles.sin()), -1)
        return self.second(F.silu(self.first(waves.to(self.first.weight.dtype))))


class PixArt(nn.Module):
    def __init__(self, size, conditions):
        super().__init__()
        self.patches = nn.Conv2d(4, WIDTH, 2, 2)
        self.register_buffer("positions", torch.randn(1, size * size // 4, WIDTH))
        self.time = Embedding(WIDTH)
        self.sizes = nn.ModuleList(Embedding(WIDTH // 3) for _ in range(2 if conditions else 0))
        self.modulate = nn.Linear(WIDTH, 6 * WIDTH)
        self.text_up, self.text_down = nn.Linear(TEXT, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(WIDTH, elementwise_affine=False, eps=1e-6)
        self.last = nn.Parameter(torch.randn(2, WIDTH) / WIDTH**0.5)
        self.out = nn.Linear(WIDTH, 2 * 2 * 8)

    def forward(self, latents, text, mask, timestep, resolution=None, aspect_ratio=None):
        b, _, height, width = latents.shape
        x = self.patches(latents).flatten(2).transpose(1, 2) + self.positions
        t = self.time(timestep)
        if resolution is not None:
            t = t + torch.cat((self.sizes[0](resolution.flatten()).view(b, -1), self.sizes[1](aspect_ratio.flatten()).view(b, -1)), -1)
        bias = ((1 - mask) * -10000.0)[:, None, None, :]
        text = self.text_down(F.gelu(self.text_up(text), approximate="tanh"))
        modulation = self.modulate(F.silu(t))
        for block in self.blocks:
            x = block(x, text, bias, modulation)
        shift, scale = (self.last[None] + t[:, None]).chunk(2, dim=1)
        x = self.out(self.norm(x) * (1 + scale) + shift)
        return x.view(b, height // 2, width // 2, 2, 2, 8).permute(0, 5, 1, 3, 2, 4).reshape(b, 8, height, width)


class Transformer:
    """As peer.Transformer: two samples, one image with guidance; every text token counts."""

    def __init__(self, resolution, dtype, tokens):
        size, conditions, t = resolution // 8, resolution == 1024, getattr(torch, dtype)
        torch.manual_seed(0)
        self.model = PixArt(size, conditions).to(t).eval()
        self.inputs = dict(latents=torch.randn(2, 4, size, size, dtype=t), text=torch.randn(2, tokens, TEXT, dtype=t), mask=torch.ones(2, tokens, dtype=t),
                           timestep=torch.tensor([500, 500]))
        if conditions:
            self.inputs |= dict(resolution=torch.full((2, 2), float(resolution), dtype=t), aspect_ratio=torch.ones(2, 1, dtype=t))
        self.compiled = torch.compile(self.model)
