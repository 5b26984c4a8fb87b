package ga

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"ecadx/schedule"
)

func TestConfigValidate(t *testing.T) {
	for _, want := range []Mode{ModeECAD, ModeECADX} {
		if m, err := ParseMode(want.String()); m != want || err != nil {
			t.Errorf("mode %v: %v, %v", want, m, err)
		}
	}
	if _, err := ParseMode("random"); !errors.Is(err, ErrConfig) {
		t.Errorf("mode random: %v", err)
	}
	for i, change := range []func(*Config){
		func(c *Config) { c.Shape.Steps = 0 }, func(c *Config) { c.Algorithm = nil },
		func(c *Config) { c.Algorithm = NSGA2{} }, func(c *Config) { c.Generations = -1 },
		func(c *Config) { c.Generations = 0 }, func(c *Config) { c.MinDiff = -1 }, func(c *Config) { c.MinDiff = 1e6 },
		func(c *Config) { c.Images = nil }, func(c *Config) { c.Batch = 0 },
		func(c *Config) { c.Seeds[0].Schedule = nil }, func(c *Config) { c.HeldOut[0].ID = 3 },
		func(c *Config) { c.Reference = &Point{math.NaN(), 1} }, func(c *Config) { c.Reference = &Point{0, 0} },
		func(c *Config) {
			c.Baselines[0].Schedule, _ = schedule.New(schedule.Shape{Family: schedule.PixArt, Steps: 6, Blocks: 2})
		},
		func(c *Config) {
			c.Seeds[0].Schedule, _ = schedule.New(schedule.Shape{Family: schedule.PixArt, Steps: 2, Blocks: 3})
		},
	} {
		cfg := testConfig(t)
		change(&cfg)
		if err := cfg.Validate(); err == nil {
			t.Errorf("change %d is accepted", i)
		}
	}
}

func TestScoreChecked(t *testing.T) {
	for _, c := range []struct{ in, want Score }{
		{Score{Value: 2}, Score{Value: 2}},
		{Score{Value: math.Inf(1)}, Score{Invalid: "the score is +Inf"}},
		{Score{Value: 3, Invalid: "a\xffb"}, Score{Invalid: "a?b"}},
		{Score{Invalid: strings.Repeat("é", 400)}, Score{Invalid: strings.Repeat("é", 250)}},
		{Score{Invalid: "x" + strings.Repeat("é", 400)}, Score{Invalid: "x" + strings.Repeat("é", 249)}},
	} {
		if got := c.in.Checked(); got != c.want {
			t.Errorf("%+v becomes %+v", c.in, got)
		}
	}
}

func TestBootstrap(t *testing.T) {
	// 40 prompts with 3 images each; scores differ between prompts only, so images of a prompt carry no more
	// information than one. The interval must be that of 40 values: mean +- 1.96 sd/sqrt(40).
	var images []Image
	var scores []float64
	s := NewStream(5, 0, PurposeInit, 0, 0)
	var values []float64
	for p := range 40 {
		v := s.Float64()
		values = append(values, v)
		for k := range 3 {
			images = append(images, Image{ID: ImageID(3*p + k), Prompt: uint32(p)})
			scores = append(scores, v)
		}
	}
	mean, variance := Mean(values), 0.0
	for _, v := range values {
		variance += (v - mean) * (v - mean) / 40
	}
	half := 1.96 * math.Sqrt(variance/40)
	ci := NewBootstrap(images, 1).Interval(scores)
	if !(math.Abs(ci[0]-(mean-half)) <= 0.1*half && math.Abs(ci[1]-(mean+half)) <= 0.1*half) {
		t.Errorf("interval %v, want about %v", ci, [2]float64{mean - half, mean + half})
	}
	if again := NewBootstrap(images, 1).Interval(scores); again != ci {
		t.Error("the interval is not reproducible")
	}
	if ci := NewBootstrap(images[:3], 1).Interval(scores[:3]); ci[0] != scores[0] || ci[1] != scores[0] {
		t.Errorf("one prompt: interval %v", ci)
	}
	if NewBootstrap(nil, 1).Interval(nil) != [2]float64{} || Mean(nil) != 0 {
		t.Error("nothing has a mean")
	}
	if fmt.Sprint(quantile([]float64{1, 2, 3}, 0.25), quantile([]float64{1, 2, 3}, 1)) != "1.5 3" {
		t.Error("quantiles are wrong")
	}
}
