"""Writes golden.json.gz: diffusers' timesteps, sigmas and latents after every step, for many scheduler configurations.

    pip install -r requirements.txt && python make.py

The model is m_j = 0.3 x_j + sin(j + t/100), float32, on eight latents cos(1+j).
"""
import gzip, json
import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

torch.set_num_threads(1)
ALL, SOME = [1, 2, 4, 14, 15, 20, 50], [1, 4, 15, 20]
DPM = [
    (ALL, {}), (ALL, dict(solver_type="heun")), (SOME, dict(solver_order=1)), (ALL, dict(solver_order=3)),
    (ALL, dict(timestep_spacing="leading")), (ALL, dict(timestep_spacing="leading", steps_offset=1)),
    (ALL, dict(timestep_spacing="trailing")), (ALL, dict(final_sigmas_type="sigma_min")),
    (SOME, dict(final_sigmas_type="sigma_min", solver_order=3, lower_order_final=False)),
    (SOME, dict(final_sigmas_type="sigma_min", solver_order=3)), (SOME, dict(lower_order_final=False)), (SOME, dict(euler_at_final=True)),
    (SOME, dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)),
    (SOME, dict(beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1)), (SOME, dict(lambda_min_clipped=-4.0, timestep_spacing="leading")),
    (SOME, dict(prediction_type="v_prediction")), (SOME, dict(prediction_type="sample")),
    (SOME, dict(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")),
    (ALL, dict(use_karras_sigmas=True)), (ALL, dict(use_exponential_sigmas=True)), (ALL, dict(use_lu_lambdas=True)),
    (SOME, dict(use_karras_sigmas=True, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1)),
    (SOME, dict(trained_betas=[float(b) for b in np.linspace(0.001, 0.01, 50)], num_train_timesteps=50)),
]
DDIM = [
    (ALL, {}), (ALL, dict(clip_sample=False)), (ALL, dict(clip_sample=False, timestep_spacing="linspace")),
    (ALL, dict(clip_sample=False, timestep_spacing="trailing")), (SOME, dict(clip_sample=True, clip_sample_range=2.5)),
    (SOME, dict(clip_sample=False, set_alpha_to_one=False, steps_offset=1, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)),
    (SOME, dict(prediction_type="v_prediction")), (SOME, dict(prediction_type="sample", clip_sample_range=0.7)),
    (SOME, dict(prediction_type="v_prediction", clip_sample=False, rescale_betas_zero_snr=True, timestep_spacing="trailing")),
]


def f9(t):
    return [float(f"{v:.9g}") for v in t.double().flatten().tolist()]


cases = []
for cls, table in ((DPMSolverMultistepScheduler, DPM), (DDIMScheduler, DDIM)):
    for ns, kw in table:
        config = json.loads(cls(**kw).to_json_string())
        config = {k: v for k, v in config.items() if k in kw or k == "_class_name"}
        for n in ns:
            s = cls(**kw)
            s.set_timesteps(n)
            j = torch.arange(8, dtype=torch.float32)
            x = torch.cos(1 + j)
            latents = []
            for t in s.timesteps:
                m = 0.3 * x + torch.sin(j + float(t) / 100)
                x = s.step(m.reshape(1, 8, 1, 1), t, x.reshape(1, 8, 1, 1)).prev_sample.reshape(8)
                latents.append(f9(x))
            case = {"config": config, "steps": n, "timesteps": s.timesteps.tolist(), "latents": latents}
            if cls is DPMSolverMultistepScheduler:
                case["sigmas"] = f9(s.sigmas)
            cases.append(case)
tables = {}
for name, kw in {"linear": {}, "scaled_linear": dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
                 "cosine": dict(beta_schedule="squaredcos_cap_v2")}.items():
    ac = DPMSolverMultistepScheduler(**kw).alphas_cumprod
    tables[name] = {"at": list(range(0, 1000, 37)) + [999], "alphas_cumprod": f9(ac[list(range(0, 1000, 37)) + [999]])}
out = {"tables": tables, "cases": cases}
with gzip.GzipFile("golden.json.gz", "wb", mtime=0) as f:
    f.write(json.dumps(out, separators=(",", ":")).encode())
