// Package dit holds the model families: what their checkpoints contain, and how model, schedule, size, batch and sampler
// become a program (dit/program) that libecad runs.
//
//	Open        a model reference: built-in, directory, or random:NAME
//	Snapshot    its folders and configurations; Tensors: its weights, lent to libecad without a copy
//	Compile...  (model, schedules, size, batch, steps) to a program
//	Denoiser    runs compiled programs on a device: packs prompts, caches programs and weights
//
// Shape letters, as in ARCHITECTURE.md: B images, R rows (2B with classifier-free guidance: unconditional rows first), N image tokens, L
// text tokens, C channels = heads x head dim, S steps.
package dit
