"""Writes the schedule files in this folder with Python's own json module, in the
format of ECAD's writer (json.dump with indent=4), and expected.json with their
genomes and hashes, worked out here without the Go code.

    python3 make.py     (any Python 3; standard library only)
"""

import hashlib
import json
import os
import random

HERE = os.path.dirname(os.path.abspath(__file__))
PIXART = ["attn1", "attn2", "ff"]
DOUBLE = ["full_attn", "full_ff", "full_ff_context"]
SINGLE = ["single_attn", "single_proj_mlp", "single_proj_out"]


def schedule(genome, steps, blocks, single=None):
    """The nested dict of a genome, true = compute."""
    genome = iter(genome)
    result = {}
    for step in range(steps):
        row = {}
        for block in range(blocks):
            row[str(block)] = {c: next(genome) for c in (PIXART if single is None else DOUBLE)}
        for block in range(single or 0):
            row[f"single_{block}"] = {c: next(genome) for c in SINGLE}
        result[f"{step:03d}"] = row
    return result


def cache_schedule(genome, steps, blocks, single=None, name="demo", attributes=None):
    result = {
        "num_blocks": blocks,
        "num_inference_steps": steps,
        "name": name,
        "attributes": attributes or {},
        "schedule": schedule(genome, steps, blocks, single),
    }
    if single is not None:
        result["num_single_blocks"] = single
    return result


def pack(bits):
    return bytes(sum(bit << i for i, bit in enumerate(bits[k:k + 8])) for k in range(0, len(bits), 8))


def digest(canonical, family, components, steps, blocks):
    head = f"{family}\n{' '.join(components)}\n{steps}\n{blocks}\n".encode()
    return hashlib.sha256(head + pack(canonical)).hexdigest()


def pixart_hash(genome, steps, blocks):
    row = 3 * blocks
    return digest([True] * row + genome[row:], "pixart", PIXART, steps, blocks)


expected = {}


def write(name, document, genome, digest_, newline=False):
    text = json.dumps(document, indent=4)
    with open(os.path.join(HERE, name), "w", newline="") as file:
        file.write(text + ("\n" if newline else ""))
    expected[name] = {"genome": "".join("01"[bit] for bit in genome), "hash": digest_}


rng = random.Random(7)

# PixArt, everything a file may hold: metrics, unknown members at every level,
# numbers of every kind, text beyond ASCII, a custom function, extra steps.
genome = [rng.random() < 0.5 for _ in range(4 * 3 * 3)]
document = {
    "cache_schedule": cache_schedule(genome, 4, 3, name="handcrafted/b\u00e9b\u00e9 \u96ea \U0001f600 \"q\" \\ \t\x7f",
                                     attributes={"num_affected_steps": 4, "note": None, "ratio": 5.0, "num_affected_blocks": 3}),
    "config": {"height": 256, "width": 256, "guidance_scale": 4.5, "future": [1, 2.50, {"deep": [[]]}]},
    "metrics": {
        "by_inference_step": {"000": {"flops": 571379613696 * 2, "macs": 571379613696}},
        "total_macs": 10**40,
        "total_macs_T": 1e-07,
        "latency": {"avg": 165.73600000000002, "latencies": [1e22, -0.0, 3]},
    },
    "notes": "kept \ud83d",
}
document["cache_schedule"]["unknown_member"] = {"a": [], "b": {}}
document["cache_schedule"]["schedule"]["002"]["1"]["comment"] = "kept"
document["cache_schedule"]["schedule"]["002"]["1"]["custom_compute_attn"] = {
    "name": "compute_attn_tgate", "kwargs": {"gate_step": 2}}
document["cache_schedule"]["schedule"]["002"]["1"]["custom_compute_ff"] = {"name": "Compute_FF_Cached", "kwargs": {}}
document["cache_schedule"]["schedule"]["004"] = {"0": {"attn1": True}, "anything": 1}
write("pixart_everything.json", document, genome, pixart_hash(genome, 4, 3))

# PixArt as older files have it: no config, members in another order, newline.
genome = [rng.random() < 0.5 for _ in range(3 * 2 * 3)]
old = cache_schedule(genome, 3, 2)
old = {key: old[key] for key in ["schedule", "attributes", "name", "num_inference_steps", "num_blocks"]}
write("pixart_old.json", {"cache_schedule": old, "metrics": {}, "config": None}, genome, pixart_hash(genome, 3, 2), newline=True)

# FLUX, the worked example: in step 1 single_proj_out computes from unchanged
# inputs, and the text that full_ff_context would change is read by nobody.
genome = [True] * 6 + [False, True, False, False, False, True]
canonical = [True] * 6 + [False, True, False, False, False, False]
write("flux_example.json",
      {"cache_schedule": cache_schedule(genome, 2, 1, 1), "config": {"height": 256, "width": 256, "guidance_scale": 5},
       "metrics": {}},
      genome, digest(canonical, "flux", DOUBLE + SINGLE, 2, "1 1"))

# FLUX with no dead gene.
genome = [True] * 9 + [True, False, True, True, True, True, True, False, True]
write("flux_live.json",
      {"cache_schedule": cache_schedule(genome, 2, 1, 2, attributes={"num_affected_blocks_single": 1}),
       "config": {"height": 1024, "width": 1024, "guidance_scale": 5.0}, "metrics": {}},
      genome, digest(genome, "flux", DOUBLE + SINGLE, 2, "1 2"))

# FLUX as a hand-edited file of ECAD has it: fewer steps than entries, of which the others do not count; a newline at the end.
genome = [True] * 9 + [rng.random() < 0.5 for _ in range(9)]
genome[9:12], genome[15:18] = [True, True, False], [False, True, True]  # in step 1 the text of the double-stream block is kept; no dead gene
genome[12:15] = [True, True, True]
extra = cache_schedule(genome, 2, 1, 2, name="default_1024x1024_gs_5.0", attributes={"num_affected_steps": 0})
for step in range(2, 6):
    extra["schedule"][f"{step:03d}"] = {"0": {c: True for c in DOUBLE}, "single_0": {c: step != 3 for c in SINGLE}, "single_7": {"single_attn": False}}
write("flux_more_steps.json",
      {"cache_schedule": extra, "config": {"height": 1024, "width": 1024, "guidance_scale": 5.0},
       "metrics": {"by_inference_step": {"005": {"macs": 59512255414272}}}},
      genome, digest(genome, "flux", DOUBLE + SINGLE, 2, "1 2"), newline=True)

with open(os.path.join(HERE, "expected.json"), "w") as file:
    json.dump(expected, file, indent=1)
    file.write("\n")
