package bench

import (
	"context"
	"errors"
	"strings"
	"testing"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/mini"
	"ecadx/schedule"
)

// tinyThroughput makes three pictures in batches of two.
func tinyThroughput(t *testing.T) ThroughputConfig {
	t.Helper()
	m := openFirst(t, "mini-pixart", 2)
	g, err := schedule.Resolve("fora:2", m.Shape(3))
	if err != nil {
		t.Fatal(err)
	}
	return ThroughputConfig{Model: m, Pipeline: dit.PipelineConfig{Backend: ecad.CPU, Threads: 2, DType: dit.Float32}, Batch: 2, Images: 3,
		Prompts: mini.Captions(2, 0), Steps: 3, Guidance: 2, Schedule: g.Schedule, ScheduleName: g.Ref, Repeats: 2}
}

func TestThroughput(t *testing.T) {
	c := tinyThroughput(t)
	var said []string
	c.Progress = func(what string) { said = append(said, what) }
	r, err := MeasureThroughput(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if r.Workers != 2 || r.Threads != 1 || r.Rounds != 2 || r.Images != 3 || r.Schedule != "fora:2" || r.Prompts != 2 || r.TextTokens < 2 || r.Resolution != (Resolution{64, 64}) {
		t.Errorf("report %+v", r)
	}
	s := r.ImagesPerSecond
	if !(s.P10 > 0 && s.P10 <= s.Median && s.Median <= s.P90) || r.ImageMS != 1000/s.Median || r.StepsPerSecond != 3*s.Median || !(r.DecodeShare > 0 && r.DecodeShare <= 1) || !(r.TextMS > 0) {
		t.Errorf("figures %+v", r)
	}
	if text := strings.Join(said, "; "); !strings.HasPrefix(text, "text encoder; warming up; round 1 of 2; round 2 of 2, ") {
		t.Errorf("progress: %s", text)
	}
}

func TestThroughputRefuses(t *testing.T) {
	c := tinyThroughput(t)
	c.Steps = 4
	if _, err := MeasureThroughput(t.Context(), c); !errors.Is(err, schedule.ErrShape) {
		t.Errorf("a schedule of 3 steps in a run of 4: %v", err)
	}
	c = tinyThroughput(t)
	c.Images = 0
	if _, err := MeasureThroughput(t.Context(), c); err == nil {
		t.Error("no images were measured")
	}
	c = tinyThroughput(t)
	c.Model = openFirst(t, "random:pixart-alpha-256", 1)
	c.Schedule = nil
	if _, err := MeasureThroughput(t.Context(), c); err == nil || !strings.Contains(err.Error(), "makes no pictures") {
		t.Errorf("a model without autoencoder: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c = tinyThroughput(t)
	c.Progress = func(what string) {
		if strings.HasPrefix(what, "round") {
			cancel()
		}
	}
	if _, err := MeasureThroughput(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestThroughputText(t *testing.T) {
	r := &Throughput{Model: "m", Device: "cpu", DType: "bfloat16", Resolution: Resolution{64, 64}, Batch: 8, Steps: 20, Guidance: 3.5, Schedule: "none",
		Images: 64, Workers: 2, Threads: 1, ImagesPerSecond: Spread{12.5, 12, 13}, ImageMS: 80, StepsPerSecond: 250, DecodeShare: 0.125, TextMS: 4, TextTokens: 18,
		Prompts: 16, Rounds: 5, Hardware: Hardware{Name: "machine"}}
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := `m, bfloat16 on cpu (machine)
64 px, 20 steps, guidance 3.5, schedule none
2 devices side by side with 1 thread each, batches of 8, 64 images a round

12.50 images/s (p10 12.00, p90 13.00; median of 5 rounds), 80.00 ms an image
250.0 steps/s of one image; decoding takes 12.5 % of the time
16 prompts of at most 18 tokens through the text encoder: 4.00 ms, once, not counted above
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
