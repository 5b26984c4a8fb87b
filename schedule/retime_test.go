package schedule_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"ecadx/schedule"
)

// evenPositions are those of evenly spread steps over 1000 timesteps, rounded as samplers round them.
func evenPositions(steps int) []float64 {
	out := make([]float64, steps)
	for i := range out {
		out[i] = math.Round(999 * float64(steps-i) / float64(steps))
	}
	return out
}

func randomPositions(r *rand.Rand, steps int) []float64 {
	out := make([]float64, steps)
	for i := range out {
		out[i] = float64(r.IntN(60)) // some are equal
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out
}

func mustRetime(t testing.TB, s *schedule.Schedule, from, to []float64) *schedule.Schedule {
	t.Helper()
	out, err := schedule.Retime(s, from, to)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRetimeProperties: identity for equal positions, step 0 computes, more computing stays more computing, no computation is lost or made
// up, and computations go to a nearest step in order.
func TestRetimeProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		shape := schedule.Shape{Family: schedule.PixArt, Steps: 1 + r.IntN(12), Blocks: 1 + r.IntN(3)}
		if r.IntN(3) == 0 {
			shape.Family, shape.SingleBlocks = schedule.Flux, r.IntN(3)
		}
		from, to := randomPositions(r, shape.Steps), randomPositions(r, 1+r.IntN(14))
		s := randomSchedule(t, r, shape, 0.6)

		same := mustRetime(t, s, from, from)
		for cell, d := range same.All() {
			if want := s.At(cell.Step, cell.Block, cell.Comp); cell.Step > 0 && d != want || cell.Step == 0 && d != schedule.Compute {
				t.Fatalf("positions %v onto themselves: %+v is %v", from, cell, d)
			}
		}
		out := mustRetime(t, s, from, to)
		if out.Shape().Steps != len(to) || out.Shape().RowLen() != shape.RowLen() {
			t.Fatalf("%v became %v", shape, out.Shape())
		}
		more := s.Clone()
		for range 5 {
			more.SetFlat(r.IntN(shape.Cells()), schedule.Compute)
		}
		moreOut := mustRetime(t, more, from, to)
		for i := range out.Shape().Cells() {
			if out.AtFlat(i) == schedule.Compute && moreOut.AtFlat(i) == schedule.Reuse {
				t.Fatalf("%v to %v: computing more in %v reuses more at %d", from, to, shape, i)
			}
		}
		checkMoments(t, s, out, from, to)
	}
}

// checkMoments: each computation of out stands at a step that is nearest to one of s and the other way round.
func checkMoments(t *testing.T, s, out *schedule.Schedule, from, to []float64) {
	t.Helper()
	distance := func(p float64) float64 {
		least := math.Inf(1)
		for _, q := range to {
			least = min(least, math.Abs(p-q))
		}
		return least
	}
	row := s.Shape().RowLen()
	for i := range row {
		for step := 1; step < len(from); step++ {
			found := s.AtFlat(step*row+i) == schedule.Reuse
			for j := range to {
				found = found || out.AtFlat(j*row+i) == schedule.Compute && math.Abs(to[j]-from[step]) == distance(from[step])
			}
			if !found {
				t.Fatalf("%v to %v: the computation of step %d is lost", from, to, step)
			}
		}
		for j := 1; j < len(to); j++ {
			found := out.AtFlat(j*row+i) == schedule.Reuse
			for step := 1; step < len(from); step++ {
				found = found || s.AtFlat(step*row+i) == schedule.Compute && math.Abs(to[j]-from[step]) == distance(from[step])
			}
			if !found {
				t.Fatalf("%v to %v: step %d computes what nobody asked for", from, to, j)
			}
		}
	}
}

// TestRetimeBetweenStepCounts: doubled steps keep the moments, and going back gives the schedule again.
func TestRetimeBetweenStepCounts(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct{ from, to int }{{20, 40}, {20, 100}, {14, 28}, {20, 50}, {10, 25}} {
		shape := schedule.Shape{Family: schedule.PixArt, Steps: c.from, Blocks: 2}
		s := randomSchedule(t, r, shape, 0.6).Canonical()
		there := mustRetime(t, s, evenPositions(c.from), evenPositions(c.to))
		if got, want := there.Shape().Cells()-there.Reused(), shape.Cells()-s.Reused(); got != want {
			t.Errorf("%d to %d steps: %d computations became %d", c.from, c.to, want, got)
		}
		if back := mustRetime(t, there, evenPositions(c.to), evenPositions(c.from)); !back.Equal(s) {
			t.Errorf("%d to %d steps and back is another schedule", c.from, c.to)
		}
	}
	every, err := schedule.Resolve("fora:2", schedule.Shape{Family: schedule.PixArt, Steps: 20, Blocks: 1})
	if err != nil {
		t.Fatal(err)
	}
	if fewer := mustRetime(t, every.Schedule, evenPositions(20), evenPositions(10)); fewer.Reused() != 0 {
		t.Errorf("every second of 20 steps is every one of 10, but %d cells reuse", fewer.Reused())
	}
}

func TestRetimeErrors(t *testing.T) {
	s := randomSchedule(t, rand.New(rand.NewPCG(1, 1)), schedule.Shape{Family: schedule.PixArt, Steps: 3, Blocks: 1}, 0.6)
	for name, c := range map[string]struct{ from, to []float64 }{
		"too few positions": {[]float64{2, 1}, []float64{2, 1}},
		"rising":            {[]float64{3, 1, 2}, []float64{2, 1}},
		"not a number":      {[]float64{3, 2, 1}, []float64{math.NaN()}},
		"infinite":          {[]float64{math.Inf(1), 2, 1}, []float64{2, 1}},
		"no steps":          {[]float64{3, 2, 1}, nil},
	} {
		if _, err := schedule.Retime(s, c.from, c.to); !errors.Is(err, schedule.ErrShape) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
