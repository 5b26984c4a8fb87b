package bench

import (
	"bytes"
	"context"
	"image"
	"sync"
	"testing"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/mini"
	"ecadx/ga"
	"ecadx/schedule"
)

const testSteps = 5

func openEvaluator(t testing.TB, cfg EvaluatorConfig, dtype dit.DType) *Evaluator {
	t.Helper()
	m, err := dit.Open(dit.DefaultModel)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	p, err := m.OpenPipeline(dit.PipelineConfig{Backend: ecad.CPU, Threads: 2, DType: dtype, KeepEncoder: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	e, err := NewEvaluator(context.Background(), p, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func testConfig(batch int) EvaluatorConfig {
	return EvaluatorConfig{Prompts: mini.Captions(3, 1), ImagesPerPrompt: 2, Height: 64, Width: 64, Steps: testSteps, Guidance: 3, Batch: batch,
		Quality: sceneQuality{}}
}

func testSchedules(t testing.TB, e *Evaluator) []*schedule.Schedule {
	t.Helper()
	var list []*schedule.Schedule
	for _, ref := range []string{"none", "fora:2", "fora:3", "random:0.5:1"} {
		g, err := schedule.Resolve(ref, e.p.Model.Shape(testSteps))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, g.Schedule.Canonical())
	}
	return list
}

// pictures collects what Pictures makes, by schedule and image.
func pictures(t *testing.T, e *Evaluator, list []*schedule.Schedule, ids []ga.ImageID) [][]*image.NRGBA {
	t.Helper()
	out := make([][]*image.NRGBA, len(list))
	for i := range out {
		out[i] = make([]*image.NRGBA, len(ids))
	}
	var mu sync.Mutex
	if err := e.Pictures(context.Background(), list, ids, func(s, k int, picture *image.NRGBA, failure error) error {
		mu.Lock()
		defer mu.Unlock()
		out[s][k] = picture
		return failure
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// A picture depends on its schedule, prompt and seed alone: not on the prefix it shares, nor on its neighbours in the batch.
func TestSharedEqualsUnshared(t *testing.T) {
	for _, dtype := range []dit.DType{dit.Float32, dit.BFloat16} {
		e := openEvaluator(t, testConfig(4), dtype)
		list := testSchedules(t, e)
		ids := []ga.ImageID{0, 1, 2, 3, 4, 5} // two batches, the second filled up
		shared := pictures(t, e, list, ids)
		if run, asked := e.Sharing(); !(run < asked) {
			t.Errorf("%v: %d steps run of %d: nothing was shared", dtype, run, asked)
		}
		for s := range list {
			for _, k := range []int{0, 5} {
				alone := pictures(t, e, list[s:s+1], []ga.ImageID{ids[k]})[0][0]
				if shared[s][k] == nil || !bytes.Equal(alone.Pix, shared[s][k].Pix) {
					t.Errorf("%v: schedule %d, image %d: another picture alone than with others", dtype, s, k)
				}
			}
		}
		if bytes.Equal(shared[0][0].Pix, shared[2][0].Pix) {
			t.Errorf("%v: fora:3 makes the uncached picture", dtype)
		}
	}
}

func TestPSNRQuality(t *testing.T) {
	cfg := testConfig(2)
	cfg.Quality = psnrQuality{}
	e := openEvaluator(t, cfg, dit.Float32)
	scores, err := e.Evaluate(context.Background(), testSchedules(t, e)[:3], []ga.ImageID{0, 4})
	if err != nil {
		t.Fatal(err)
	}
	for k := range 2 {
		if got := scores[0][k]; got.Invalid != "" || got.Value != MaxPSNR {
			t.Errorf("uncached to itself: %+v, want %v dB", got, MaxPSNR)
		}
		if got := scores[2][k]; got.Invalid != "" || !(got.Value > 5 && got.Value < MaxPSNR) {
			t.Errorf("fora:3: %+v dB", got)
		}
	}
}

// A schedule of fewer steps is a run with so many, whatever it is evaluated with, and is held against the pictures of the full run.
func TestFewerSteps(t *testing.T) {
	cfg := testConfig(4)
	cfg.Quality = psnrQuality{}
	e := openEvaluator(t, cfg, dit.Float32)
	short, err := schedule.New(e.p.Model.Shape(3))
	if err != nil {
		t.Fatal(err)
	}
	ids := []ga.ImageID{0, 1, 2, 3, 4}
	list := append([]*schedule.Schedule{short}, testSchedules(t, e)...)
	mixed := pictures(t, e, list, ids)
	cfg.Steps = 3
	own := pictures(t, openEvaluator(t, cfg, dit.Float32), list[:1], ids)
	for k := range ids {
		if mixed[0][k] == nil || !bytes.Equal(mixed[0][k].Pix, own[0][k].Pix) {
			t.Errorf("image %d: not the picture of 3 steps", k)
		}
	}
	// Alone and first, with no reference made yet.
	cfg.Steps = testSteps
	scores, err := openEvaluator(t, cfg, dit.Float32).Evaluate(context.Background(), list[:1], ids)
	if err != nil {
		t.Fatal(err)
	}
	for k := range ids {
		want, err := PSNR(own[0][k], mixed[1][k]) // the first of testSchedules computes everything
		if err != nil {
			t.Fatal(err)
		}
		if got := scores[0][k]; got.Invalid != "" || got.Value != want || want == MaxPSNR {
			t.Errorf("image %d: %+v, want %v dB to the full run", k, got, want)
		}
	}
}

func TestEvaluateCancelled(t *testing.T) {
	e := openEvaluator(t, testConfig(2), dit.Float32)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.Evaluate(ctx, testSchedules(t, e), []ga.ImageID{0, 1}); err == nil {
		t.Error("no error although the context was done")
	}
}

func BenchmarkEvaluate(b *testing.B) {
	for _, dtype := range []dit.DType{dit.Float32, dit.BFloat16} {
		b.Run(dtype.String(), func(b *testing.B) {
			cfg := testConfig(8)
			cfg.Steps, cfg.Prompts = 20, mini.Captions(16, 1)
			e := openEvaluator(b, cfg, dtype)
			g, err := schedule.Resolve("none", e.p.Model.Shape(20))
			if err != nil {
				b.Fatal(err)
			}
			ids := make([]ga.ImageID, 16)
			for i := range ids {
				ids[i] = ga.ImageID(i)
			}
			for b.Loop() {
				if _, err := e.Evaluate(context.Background(), []*schedule.Schedule{g.Schedule}, ids); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(16*b.N)/b.Elapsed().Seconds(), "images/s")
		})
	}
}
