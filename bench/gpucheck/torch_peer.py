"""PyTorch beside ours on the same GPU: attention and linears at the shapes of cuda_bench, then a guided step of PixArt, eager and compiled: diffusers', or where
there is none the same layers in plain PyTorch (torch_pixart.py), which the names then say.

    torch_peer.py SECONDS

Prints one JSON line for each figure as soon as it has it, so that what was measured counts when the time is over. peer.py lies beside it.
"""
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

START, SECONDS = time.monotonic(), float(sys.argv[1])


def left():
    return SECONDS - (time.monotonic() - START)


def measure(work, repeat=20):
    """Milliseconds of device time, median; three runs to warm up."""
    for _ in range(3):
        work()
    times = []
    for _ in range(repeat):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def say(what, name, ms):
    print(json.dumps({"what": what, "name": name, "ms": ms}), flush=True)


def ops():
    for name, batch, heads, dim, queries, keys in (
            ("pixart-256 self", 2, 16, 72, 256, 256), ("pixart-256 b100 self", 200, 16, 72, 256, 256), ("pixart-1024 self", 2, 16, 72, 4096, 4096),
            ("pixart-1024 cross", 2, 16, 72, 4096, 120), ("pixart-sigma cross", 2, 16, 72, 4096, 300), ("flux-1024 joint", 1, 24, 128, 4608, 4608)):
        q, k, v = (torch.randn(batch, heads, n, dim, dtype=torch.bfloat16) for n in (queries, keys, keys))
        say("sdpa", name, measure(lambda: F.scaled_dot_product_attention(q, k, v)))
    for name, m, n, k in (("pixart-1024 qkv", 8192, 3456, 1152), ("pixart-1024 down", 8192, 1152, 4608), ("flux-1024 qkv", 4096, 9216, 3072), ("flux-1024 down", 4096, 3072, 12288),
                          ("flux-1024 single", 4608, 21504, 3072)):
        x, w, b = (torch.randn(*shape, dtype=torch.bfloat16) for shape in ((m, k), (n, k), (n,)))
        say("linear", name, measure(lambda: F.linear(x, w, b)))


def steps():
    try:
        import peer
        whose = ""
    except ImportError as e:
        print(f"no diffusers: {e}", file=sys.stderr)
        import torch_pixart as peer
        whose = " plain"
    models = {}
    for name, resolution, samples in (("pixart-256", 256, 2), ("pixart-256 b100", 256, 200), ("pixart-1024", 1024, 2)):
        model = models.get(resolution) or models.setdefault(resolution, peer.Transformer(resolution, "bfloat16", 120))
        inputs = {k: grown(v, samples) for k, v in model.inputs.items()}
        say("eager" + whose, name, measure(lambda: model.model(**inputs), repeat=5))
        models[name] = (model, inputs)
    for name in ("pixart-256", "pixart-1024", "pixart-256 b100"):
        if left() < 60:  # what a compilation takes
            print(f"no time to compile {name}", file=sys.stderr)
            return
        model, inputs = models[name]
        say("compiled" + whose, name, measure(lambda: model.compiled(**inputs), repeat=5))


def grown(value, samples):
    """An input of two samples for as many as are wanted."""
    if isinstance(value, torch.Tensor):
        return value.repeat(samples // 2, *[1] * (value.dim() - 1))
    if isinstance(value, dict):
        return {k: grown(v, samples) for k, v in value.items()}
    return value


torch.set_default_device("cuda")
with torch.inference_mode():
    ops()
    steps()
