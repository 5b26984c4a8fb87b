"""Writes golden.json.gz: diffusers' timesteps, sigmas and latents after every step, for many scheduler configurations.

    pip install -r requirements.txt && python make.py

The model is m_j = 0.3 x_j + sin(j + t/100), float32, on eight latents cos(1+j).
"""
import gzip, json
import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

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
# With image tokens, which decide dynamic shifting.
FLOW = [
    (ALL, 0, {}), (SOME, 0, dict(shift=3.0)), (SOME, 0, dict(shift=0.5)),
    (ALL, 256, dict(shift=3.0, use_dynamic_shifting=True)), (ALL, 1024, dict(shift=3.0, use_dynamic_shifting=True)),
    (ALL, 4096, dict(shift=3.0, use_dynamic_shifting=True)), (SOME, 4095, dict(use_dynamic_shifting=True)), (SOME, 16, dict(use_dynamic_shifting=True)),
    (SOME, 700, dict(use_dynamic_shifting=True, time_shift_type="linear")),
    (SOME, 700, dict(use_dynamic_shifting=True, base_shift=0.3, max_shift=2.0, base_image_seq_len=64, max_image_seq_len=1000)),
]


def f9(t):
    return [float(f"{v:.9g}") for v in t.double().flatten().tolist()]


cases = []
for cls, table in ((DPMSolverMultistepScheduler, DPM), (DDIMScheduler, DDIM), (FlowMatchEulerDiscreteScheduler, FLOW)):
    for ns, *tokens, kw in table:
        config = json.loads(cls(**kw).to_json_string())
        config = {k: v for k, v in config.items() if k in kw or k == "_class_name"}
        for n in ns:
            s = cls(**kw)
            if cls is FlowMatchEulerDiscreteScheduler:  # as FluxPipeline does
                c = s.config
                mu = calculate_shift(tokens[0], c.base_image_seq_len, c.max_image_seq_len, c.base_shift, c.max_shift)
                s.set_timesteps(sigmas=np.linspace(1.0, 1 / n, n), mu=mu)
            else:
                s.set_timesteps(n)
            j = torch.arange(8, dtype=torch.float32)
            x = torch.cos(1 + j)
            latents = []
            for t in s.timesteps:
                m = 0.3 * x + torch.sin(j + float(t) / 100)
                x = s.step(m.reshape(1, 8, 1, 1), t, x.reshape(1, 8, 1, 1)).prev_sample.reshape(8)
                latents.append(f9(x))
            case = {"config": config, "steps": n, "timesteps": s.timesteps.tolist(), "latents": latents}
            if tokens:
                case["tokens"] = tokens[0]
            if cls is not DDIMScheduler:
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
