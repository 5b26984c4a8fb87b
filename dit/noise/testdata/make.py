"""Writes golden.json: torch.randn in float32 on the CPU of an x86-64 machine with AVX2 or AVX-512.

    pip install -r requirements.txt && python make.py

For every seed and list of draw sizes: the SHA-256 of all values' little-endian bytes in order, and the first 20 of each
draw as hexadecimal bits.
"""
import hashlib, json
import torch

sizes = [1, 4, 15, 16, 17, 31, 32, 1000, 4096, 16384]
plans = [[n, n] for n in sizes] + [[1, 16, 1, 33, 3, 16], [15, 15, 4, 5], [3, 1000, 3]]
cases = []
for seed in [0, 1, 42, 2**32 + 5, -1]:
    for plan in plans:
        g = torch.Generator("cpu").manual_seed(seed)
        h, first = hashlib.sha256(), []
        for n in plan:
            raw = torch.randn(n, generator=g, dtype=torch.float32).numpy().astype("<f4")
            h.update(raw.tobytes())
            first.append(" ".join(f"{b:08x}" for b in raw[:20].view("<u4")))
        cases.append({"seed": seed, "draws": plan, "sha256": h.hexdigest(), "first": first})
json.dump({"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability(), "cases": cases}, open("golden.json", "w"), indent=0)
