package dit

import (
	"fmt"
	"testing"

	"ecadx/cgo"
)

// Whole programs on the CUDA backend, random schedules of all densities: the result is as near to float64 as plain code of that precision comes.
// TestForksChangeNothing and its neighbours then say that forks, sets of schedules and layouts change no bit of it.
func TestCUDAAgreesWithReference(t *testing.T) {
	needCUDA(t)
	for name, newRig := range map[string]rigMaker{"pixart": newRig, "flux": newFluxRig} {
		t.Run(name, func(t *testing.T) { cudaAgrees(t, newRig) })
	}
}

func cudaAgrees(t *testing.T, newRig rigMaker) {
	const schedules = 2
	results := func(b ecad.Backend, dtype DType) (out [][]float32) {
		r := newRig(t, openDevice(t, b), dtype, 1)
		l := r.loop(t, nil, r.random(schedules, 7)...)
		for k := range schedules {
			runSchedule(t, l, r.in, k) // the sections' first use; the second is that of graphs
			out = append(out, runSchedule(t, l, r.in, k))
		}
		return out
	}
	truth := results(ecad.Reference, Float64)
	for _, dtype := range []DType{Float32, BFloat16} {
		plain, got := results(ecad.Reference, dtype), results(ecad.CUDA, dtype)
		for k := range schedules {
			name := fmt.Sprintf("%v, schedule %d", dtype, k)
			limit := 2*relativeError(plain[k], truth[k]) + 2e-6
			if e := relativeError(got[k], truth[k]); !(e <= limit) {
				t.Errorf("%s: relative error %.3g, twice that of the reference backend is %.3g", name, e, limit)
			}
		}
	}
}

// The text encoders and the image decoder as whole programs: causal attention, bias of relative positions, key counts of padded prompts, convolutions, group norms, the one wide head of
// the decoder's middle block. Against the outputs of transformers and diffusers, with the check for NaN and infinities on.
func TestCUDAEncodersAgreeWithPyTorch(t *testing.T) {
	needCUDA(t)
	backends := []encoderBackend{{ecad.CUDA, Float32}, {ecad.CUDA, BFloat16}}
	t.Run("CLIP", func(t *testing.T) { testCLIP(t, backends) })
	t.Run("T5", func(t *testing.T) { testT5(t, backends) })
	t.Run("decoder", func(t *testing.T) { testImageDecoder(t, backends) })
}

func needCUDA(t *testing.T) {
	t.Helper()
	if n, why := ecad.DeviceCount(ecad.CUDA); n == 0 {
		t.Skipf("SKIP: no CUDA device: %s", why)
	}
}
