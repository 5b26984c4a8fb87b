// Package sampler turns a diffusers scheduler configuration and a number of steps into the numbers an engine needs to run
// the denoising loop: per step the timestep given to the model and the coefficients of two linear combinations,
//
//	x0   = X0.Sample*x + X0.Model*m                 (then clamped, when Clamp.On)
//	next = Next.Sample*x + Next.Model*m + Next.X0*x0 + Next.Prev*x0_1 + Next.PrevPrev*x0_2
//
// where x are the latents, m is the model's output (after guidance), and x0_1, x0_2 are the x0 of the one and two steps
// before. Every deterministic solver of the DPM-Solver++, DDIM and Euler kind, flow matching included, has this form, so the
// engine needs no solver of its own. Coefficients are float64; the noise levels they come from are rounded to float32 at the
// places where diffusers rounds them, so timesteps are equal and coefficients agree to float32 precision.
//
// Supported are DPMSolverMultistepScheduler with algorithm dpmsolver++ (orders 1 to 3), DDIMScheduler with eta 0 and
// FlowMatchEulerDiscreteScheduler with static and dynamic shift, whose noise levels start as FluxPipeline's do. An option that changes the result and is not supported is an error that names the key and the values allowed.
//
// Sources: huggingface/diffusers 0.42.1, schedulers/scheduling_dpmsolver_multistep.py, scheduling_ddim.py and
// scheduling_flow_match_euler_discrete.py, pipelines/flux/pipeline_flux.py; Lu et al.,
// DPM-Solver++ (arXiv 2211.01095); Song et al., DDIM (arXiv 2010.02502).
package sampler
