package ga

import (
	"errors"
	"math"
	"testing"

	"ecadx/schedule"
)

// randomDrift grows with staleness, differently for each cell.
func randomDrift(shape schedule.Shape, seed uint64) Drift {
	d := Drift{Shape: shape}
	s := NewStream(seed, 0, PurposeInit, 0, 0)
	n := shape.Steps
	for range shape.RowLen() {
		m := make([]float64, n*n)
		scale := math.Exp(4 * s.Float64())
		for t0 := range n {
			for t := t0 + 1; t < n; t++ {
				m[t0*n+t] = scale * float64(t-t0) * (0.5 + s.Float64())
			}
		}
		d.Errors = append(d.Errors, m)
	}
	return d
}

// errorOf is the sum that the programme minimises.
func errorOf(d Drift, computed []bool, cell int) float64 {
	sum, last, n := 0.0, 0, d.Shape.Steps
	for t := 1; t < n; t++ {
		if computed[t] {
			last = t
		} else {
			sum += d.Errors[cell][last*n+t]
		}
	}
	return sum
}

// The choice of steps is as good as the best of all 2^(steps-1) ways.
func TestComputeStepsIsOptimal(t *testing.T) {
	shape := schedule.Shape{Family: schedule.PixArt, Steps: 9, Blocks: 1}
	for seed := range uint64(5) {
		d := randomDrift(shape, seed)
		for cell := range shape.RowLen() {
			for _, price := range []float64{0, 0.5, 3, 20, 100, 1e6} {
				value := func(c []bool) float64 {
					v := errorOf(d, c, cell)
					for _, on := range c {
						if on {
							v += price
						}
					}
					return v
				}
				least := math.Inf(1)
				for bits := range 1 << (shape.Steps - 1) {
					c := make([]bool, shape.Steps)
					c[0] = true
					for k := 1; k < shape.Steps; k++ {
						c[k] = bits>>(k-1)&1 != 0
					}
					least = min(least, value(c))
				}
				got := value(computeSteps(d.Errors[cell], shape.Steps, price))
				if !(math.Abs(got-least) <= 1e-9*(1+least)) {
					t.Errorf("seed %d, cell %d, price %v: %v, the best is %v", seed, cell, price, got, least)
				}
			}
		}
	}
}

func TestDriftSeeds(t *testing.T) {
	for _, shape := range []schedule.Shape{testShape, fluxShape} {
		d := randomDrift(shape, 1)
		seeds, err := d.Seeds(CostFunc(countCost), nil, 8)
		if err != nil {
			t.Fatal(err)
		}
		if len(seeds) < 4 {
			t.Fatalf("%v: %d seeds", shape, len(seeds))
		}
		last := math.Inf(1)
		for _, s := range seeds {
			cost, _ := countCost(s.Schedule)
			if cost >= last {
				t.Errorf("%v: %s costs %v after %v", shape, s.Name, cost, last)
			}
			last = cost
			if !s.Schedule.Equal(s.Schedule.Canonical()) {
				t.Errorf("%s is not canonical", s.Name)
			}
		}
	}
}

// What is expected of a schedule is what the programme minimises, and what a shorter run errs besides.
func TestDriftError(t *testing.T) {
	d := randomDrift(testShape, 3)
	s, err := schedule.New(testShape)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := d.Error(s); v != 0 || err != nil {
		t.Errorf("uncached: %v, %v", v, err)
	}
	all, _ := ScheduleOf(testShape, NewGenome(testShape.Cells()))
	want := 0.0
	for cell := range d.Errors {
		want += errorOf(d, make([]bool, testShape.Steps), cell)
	}
	if v, err := d.Error(all.Canonical()); !(math.Abs(v-want) <= 1e-9*want) || err != nil {
		t.Errorf("all reused: %v, %v; want %v", v, err, want)
	}
	short := testShape
	short.Steps = 3
	if s, err = schedule.New(short); err != nil {
		t.Fatal(err)
	}
	if v, err := d.Error(s); !(v > 0) || v != d.shorter(3) || err != nil {
		t.Errorf("three steps: %v, %v", v, err)
	}
	if s, err = schedule.New(fluxShape); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Error(s); err == nil {
		t.Error("the drift of another model is taken")
	}
}

func TestDriftErrors(t *testing.T) {
	for name, change := range map[string]func(*Drift){
		"cells":    func(d *Drift) { d.Errors = d.Errors[1:] },
		"entries":  func(d *Drift) { d.Errors[2] = d.Errors[2][1:] },
		"nan":      func(d *Drift) { d.Errors[1][1] = math.NaN() },
		"negative": func(d *Drift) { d.Errors[0][2] = -1 },
		"shape":    func(d *Drift) { d.Shape.Steps = 0 },
	} {
		d := randomDrift(testShape, 1)
		change(&d)
		if _, err := d.Seeds(CostFunc(countCost), nil, 3); err == nil || (name != "shape" && !errors.Is(err, ErrConfig)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
