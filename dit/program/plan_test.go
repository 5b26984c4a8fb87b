package program_test

import (
	"math/rand/v2"
	"testing"

	"ecadx/dit/program"
)

// TestPlanArena checks random lives by comparing all pairs.
func TestPlanArena(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var planned, bound int64
	for round := range 400 {
		sizes := make([]int64, 1+r.IntN(40))
		for i := range sizes {
			sizes[i] = 1 + r.Int64N(5000)
		}
		sections := make([][][3]int, 1+r.IntN(4))
		for s := range sections {
			at := 0
			for _, i := range r.Perm(len(sizes))[:r.IntN(len(sizes)+1)] {
				at += r.IntN(3)
				sections[s] = append(sections[s], [3]int{i, at, at + r.IntN(8)})
			}
		}
		offsets, bytes, low := program.PlanRanges(sizes, sections)
		planned, bound = planned+bytes, bound+low
		if bytes < low {
			t.Fatalf("round %d: %d bytes, below the lower bound %d", round, bytes, low)
		}
		for _, ranges := range sections {
			for i, x := range ranges {
				ox := offsets[x[0]]
				if ox < 0 || ox%64 != 0 || ox+sizes[x[0]] > bytes {
					t.Fatalf("round %d: buffer of %d bytes at %d of %d", round, sizes[x[0]], ox, bytes)
				}
				for _, y := range ranges[:i] {
					oy := offsets[y[0]]
					if x[1] <= y[2] && y[1] <= x[2] && ox < oy+sizes[y[0]] && oy < ox+sizes[x[0]] {
						t.Fatalf("round %d: %v at %d and %v at %d share bytes", round, x, ox, y, oy)
					}
				}
			}
		}
	}
	if ratio := float64(planned) / float64(bound); !(ratio <= 1.15) {
		t.Errorf("plans are %.3f times the lower bound", ratio)
	} else {
		t.Logf("plans are %.3f times the lower bound", ratio)
	}
}

// TestValidateArena moves arena buffers of good programs about and compares the verdict with that of all pairs.
func TestValidateArena(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	verdicts := [2]int{}
	for seed := uint64(0); seed < 300; seed++ {
		p := finishRandom(t, generate(seed, false), seed)
		if p == nil {
			continue
		}
		for range 4 {
			for i := range p.Buffers {
				if b := &p.Buffers[i]; b.Kind == program.Arena && r.IntN(4) == 0 {
					b.Offset = 64 * r.Int64N(20)
				}
			}
			for s := range p.Sections {
				got, want := p.ValidateArena(s) != nil, overlapping(p, s)
				if got != want {
					t.Fatalf("seed %d, section %d: refused %t, want %t", seed, s, got, want)
				}
				if got {
					verdicts[1]++
				} else {
					verdicts[0]++
				}
			}
		}
	}
	if verdicts[0] < 100 || verdicts[1] < 100 {
		t.Errorf("%d good and %d bad sections: too few of one kind", verdicts[0], verdicts[1])
	}
}
