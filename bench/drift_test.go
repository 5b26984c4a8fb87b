package bench

import (
	"context"
	"math"
	"reflect"
	"testing"

	"ecadx/dit"
	"ecadx/ga"
)

func TestDrift(t *testing.T) {
	e := openEvaluator(t, testConfig(2), dit.Float32)
	images := []ga.ImageID{0, 1, 2, 3}
	last := 0.0
	d, err := e.Drift(context.Background(), images, func(share float64) {
		last = max(last, share)
	})
	if err != nil {
		t.Fatal(err)
	}
	if !(math.Abs(last-1) <= 1e-9) {
		t.Errorf("progress ends at %v", last)
	}
	// Reusing a step later is, summed over the model, worse.
	n := d.Shape.Steps
	total := func(t0, step int) float64 {
		sum := 0.0
		for _, m := range d.Errors {
			sum += m[t0*n+step]
		}
		return sum
	}
	for step := 2; step < n; step++ {
		for t0 := 1; t0 < step; t0++ {
			if !(total(t0-1, step) > total(t0, step)) || !(total(t0, step) > 0) {
				t.Errorf("at step %d the output of step %d drifted by %v, that of step %d by %v", step, t0-1, total(t0-1, step), t0, total(t0, step))
			}
		}
	}
	again, err := e.Drift(context.Background(), images, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(d, again) {
		t.Error("a second pass over the same images finds another drift")
	}
	if _, err := e.Drift(context.Background(), nil, nil); err == nil {
		t.Error("no images: no error")
	}
}

// A sketch keeps squared distances within a few standard deviations of its error.
func TestSketchDistance(t *testing.T) {
	const n = 20000
	a, b := make([]float32, n), make([]float32, n)
	s := ga.NewStream(1, 0, ga.PurposeInit, 0, 0)
	truth := 0.0
	for i := range a {
		a[i], b[i] = float32(s.Float64()), float32(2*s.Float64())
		truth += math.Pow(float64(a[i]-b[i]), 2)
	}
	x, y := sketchOf(a), sketchOf(b)
	if got := x.distance(&y); !(math.Abs(got/truth-1) <= 5*math.Sqrt(2.0/sketchSize)) {
		t.Errorf("squared distance %v, the sketch says %v", truth, got)
	}
	if got := x.distance(&x); got != 0 {
		t.Errorf("distance of a tensor to itself: %v", got)
	}
}
