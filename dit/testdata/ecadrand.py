"""The random numbers of ecadx's `random:` models and goldens: the same values, bit for bit, as dit/random.go.

Element i of the tensor NAME under SEED comes from one 64-bit word

    key  = mix(SEED + G) ^ fnv1a64(NAME)            G = 0x9E3779B97F4A7C15, all arithmetic modulo 2^64
    word = mix(key + (i + 1) * G)                   mix: the finaliser of splitmix64

Its four 16-bit parts are summed and centred: s = a + b + c + d - 131070, an integer with mean 0 and variance
(2^32 - 1) / 3, close to normal (Irwin-Hall). The value is mean + s * float32(std / sqrt(variance)) with each operation
rounded once to float32: s is exact in float32, so every machine gets the same bits.
"""

import math

import numpy as np

G = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1
SD = math.sqrt((2.0**32 - 1) / 3)


def mix(z):
    if isinstance(z, int):
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def fnv1a64(name):
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = ((h ^ b) * 0x100000001B3) & MASK
    return h


def words(seed, name, count):
    """The 64-bit words of the first `count` elements."""
    key = mix((seed + G) & MASK) ^ fnv1a64(name)
    i = np.arange(1, count + 1, dtype=np.uint64)
    return mix(np.uint64(key) + i * np.uint64(G))


def normal(seed, name, shape, std=1.0, mean=0.0):
    """float32 values, nearly normal with the given standard deviation and mean."""
    w = words(seed, name, math.prod(shape))
    low = np.uint64(0xFFFF)
    s = (w & low) + (w >> np.uint64(16) & low) + (w >> np.uint64(32) & low) + (w >> np.uint64(48))
    v = (s.astype(np.int64) - 131070).astype(np.float32) * np.float32(std / SD)
    if mean:
        v = v + np.float32(mean)
    return v.reshape(shape)


def weight_rule(name, shape):
    """(std, mean) of a weight tensor: matrices and convolutions 1/sqrt(fan in), so that activations keep their size;
    modulation tables 0.25, so that gates are neither 0 nor 1; biases 0.1; the weights of norms 1 with 0.1."""
    if name.endswith("scale_shift_table"):
        return 0.25, 0.0
    if len(shape) > 1:
        return 1.0 / math.sqrt(math.prod(shape[1:])), 0.0
    if name.endswith("bias"):
        return 0.1, 0.0
    return 0.1, 1.0


def fill(module, seed):
    """Refills every parameter of a torch module, keyed by its name in the state dict."""
    import torch

    with torch.no_grad():
        for name, p in module.named_parameters():
            std, mean = weight_rule(name, p.shape)
            p.copy_(torch.from_numpy(normal(seed, name, tuple(p.shape), std, mean)))
    return module
