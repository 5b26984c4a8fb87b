// Package noise reproduces torch's CPU generator bit for bit: torch.Generator("cpu").manual_seed(seed) and torch.randn in
// float32, as torch computes them on x86-64 with AVX2 or AVX-512. So a seed means the same picture here as in diffusers.
//
// A [Generator] is MT19937. Draws of 16 values and more fill groups of 16 by Box-Muller in float32 with the polynomial
// logarithm, sine and cosine of torch's avx_mathfun.h, including the fused multiply-adds that its compiler forms; shorter
// draws take pairs of float64 values. Everything here is integer and correctly rounded IEEE arithmetic, so the long draws
// have the same bits on every platform, torch's own ARM builds excepted, which use another math library.
//
// Sources (pytorch/pytorch): aten/src/ATen/core/MT19937RNGEngine.h, core/DistributionsHelper.h,
// native/cpu/DistributionTemplates.h, native/cpu/avx_mathfun.h. The fused pattern was confirmed against torch 2.15.
package noise
