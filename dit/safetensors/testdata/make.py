"""Writes all.safetensors with the reference library: every dtype we share, odd names, empty and scalar tensors.

    pip install -r requirements.txt && python make.py
"""
import torch
from safetensors.torch import save_file

i = torch.arange(-3, 3)
x = torch.tensor([0.0, -0.0, 1.0, -1.5, 65504.0, 1e-7, 3.14159265, float("inf")])
save_file({
    "bool": torch.tensor([True, False, True]),
    "u8": torch.tensor([0, 7, 255], dtype=torch.uint8),
    "i8": i.to(torch.int8), "i16": i.to(torch.int16), "i32": i.to(torch.int32), "i64": i.to(torch.int64),
    "u16": torch.tensor([1, 65535], dtype=torch.uint16), "u32": torch.tensor([1, 2**32 - 1], dtype=torch.uint32),
    "u64": torch.tensor([1, 2**63], dtype=torch.uint64),
    "f16": x.half().reshape(2, 4), "bf16": x.bfloat16().reshape(2, 2, 2), "f32": x.clone(), "f64": x.double(),
    "f8e4": x.to(torch.float8_e4m3fn), "f8e5": x.to(torch.float8_e5m2),
    "scalar": torch.tensor(2.5), "empty": torch.zeros(3, 0, 2),
    "na\u00efve \"quoted\" <&> \\ \u2581": torch.ones(1), "": torch.zeros(1), "zz.b": torch.ones(2), "zz.a": torch.ones(2),
}, "all.safetensors", metadata={"format": "pt"})
