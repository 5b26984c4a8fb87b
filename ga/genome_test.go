package ga

import (
	"errors"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"ecadx/schedule"
)

func randomGenome(r *rand.Rand, n int) Genome {
	g := NewGenome(n)
	for i := range n {
		g.Set(i, r.IntN(2) == 1)
	}
	return g
}

func TestGenomeBits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 7, 8, 63, 64, 65, 1680} {
		g := randomGenome(r, n)
		back, err := GenomeFromBytes(n, g.Bytes())
		if err != nil || !back.Equal(g) {
			t.Fatalf("%d genes do not survive Bytes: %v", n, err)
		}
		count := 0
		for i := range n {
			if g.Get(i) {
				count++
			}
		}
		if g.Count() != count {
			t.Errorf("%d genes: Count %d, want %d", n, g.Count(), count)
		}
		c := g.Clone()
		for i := range n {
			c.Flip(i)
			if c.Get(i) == g.Get(i) || c.Equal(g) {
				t.Fatalf("gene %d of %d did not flip", i, n)
			}
			c.Set(i, g.Get(i))
		}
		if !c.Equal(g) {
			t.Error("setting every gene back does not give the genome back")
		}
		c.SetAll(true)
		if c.Count() != n {
			t.Errorf("SetAll(true) of %d genes sets %d", n, c.Count())
		}
		c.SetAll(false)
		if c.Count() != 0 {
			t.Errorf("SetAll(false) of %d genes leaves %d", n, c.Count())
		}
	}
}

func TestGenomeFromBytesRejects(t *testing.T) {
	for _, c := range []struct {
		n    int
		data []byte
	}{{-1, nil}, {MaxGenes + 1, nil}, {9, []byte{1}}, {9, []byte{1, 2, 3}}, {9, []byte{0, 2}}, {63, []byte{0, 0, 0, 0, 0, 0, 0, 0x80}}} {
		if _, err := GenomeFromBytes(c.n, c.data); !errors.Is(err, ErrGenome) {
			t.Errorf("%d genes from %x: error %v, want ErrGenome", c.n, c.data, err)
		}
	}
}

func TestSwapRange(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		n := 1 + r.IntN(300)
		lo := r.IntN(n + 1)
		hi := lo + r.IntN(n-lo+1)
		a, b := randomGenome(r, n), randomGenome(r, n)
		x, y := a.Clone(), b.Clone()
		swapRange(x, y, lo, hi)
		for i := range n {
			wantX, wantY := a.Get(i), b.Get(i)
			if i >= lo && i < hi {
				wantX, wantY = wantY, wantX
			}
			if x.Get(i) != wantX || y.Get(i) != wantY {
				t.Fatalf("n %d, range [%d, %d): gene %d is wrong", n, lo, hi, i)
			}
		}
	}
}

func TestGenomeOfSchedule(t *testing.T) {
	for _, shape := range []schedule.Shape{
		{Family: schedule.PixArt, Steps: 20, Blocks: 28},
		{Family: schedule.Flux, Steps: 3, Blocks: 2, SingleBlocks: 3},
	} {
		s, err := schedule.New(shape)
		if err != nil {
			t.Fatal(err)
		}
		s.Set(1, 1, 2, schedule.Reuse)
		g := GenomeOf(s)
		if g.Count() != shape.Cells()-1 || g.Get(shape.Index(schedule.Cell{Step: 1, Block: 1, Comp: 2})) {
			t.Errorf("%v: the genome does not follow Shape.Index", shape)
		}
		back, err := ScheduleOf(shape, g)
		if err != nil || !back.Equal(s) {
			t.Errorf("%v: the schedule does not survive the genome: %v", shape, err)
		}
		if _, err := ScheduleOf(shape, NewGenome(5)); !errors.Is(err, ErrGenome) {
			t.Errorf("a genome of another length: %v, want ErrGenome", err)
		}
	}
}

// slowFronts peels off, by definition, the vectors that no remaining one dominates.
func slowFronts(f [][]float64) [][]int {
	left := make([]int, len(f))
	for i := range left {
		left[i] = i
	}
	var fronts [][]int
	for len(left) > 0 {
		var front, rest []int
		for _, i := range left {
			dominated := false
			for _, j := range left {
				noWorse, better := true, false
				for k := range f[i] {
					noWorse = noWorse && f[j][k] <= f[i][k]
					better = better || f[j][k] < f[i][k]
				}
				dominated = dominated || noWorse && better
			}
			if dominated {
				rest = append(rest, i)
			} else {
				front = append(front, i)
			}
		}
		fronts, left = append(fronts, front), rest
	}
	return fronts
}

func randomObjectives(r *rand.Rand, n, m, values int) [][]float64 {
	f := make([][]float64, n)
	for i := range f {
		f[i] = make([]float64, m)
		for k := range f[i] {
			f[i][k] = float64(r.IntN(values))
		}
	}
	return f
}

func TestNonDominatedSortTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 400 {
		f := randomObjectives(r, r.IntN(50), 1+r.IntN(3), 1+r.IntN(12))
		want := slowFronts(f)
		got := NonDominatedSort(f, 0)
		if len(got) != len(want) {
			t.Fatalf("%d fronts, want %d", len(got), len(want))
		}
		for k := range got {
			sorted := slices.Sorted(slices.Values(got[k]))
			if !slices.Equal(sorted, want[k]) {
				t.Fatalf("front %d is %v, want %v", k, sorted, want[k])
			}
		}
		if stop := r.IntN(len(f) + 1); stop > 0 {
			ranked := 0
			part := NonDominatedSort(f, stop)
			for k, front := range part {
				if ranked >= stop || !slices.Equal(front, got[k]) {
					t.Fatalf("stop %d: front %d differs or is too many", stop, k)
				}
				ranked += len(front)
			}
			if ranked < stop {
				t.Fatalf("stop %d: only %d ranked", stop, ranked)
			}
		}
	}
}

// slowHypervolume counts the unit cells of an integer grid that some point dominates.
func slowHypervolume(f [][]float64, ref int) float64 {
	cells := 0
	for x := range ref {
		for y := range ref {
			if slices.ContainsFunc(f, func(p []float64) bool { return p[0] <= float64(x) && p[1] <= float64(y) }) {
				cells++
			}
		}
	}
	return float64(cells)
}

func TestHypervolumeTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		f := randomObjectives(r, r.IntN(20), 2, 25)
		if got, want := Hypervolume(f, [2]float64{20, 20}), slowHypervolume(f, 20); got != want {
			t.Fatalf("hypervolume %v, want %v of %v", got, want, f)
		}
	}
}

// Subset keeps what the best of all subsets keeps.
func TestSubsetTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	reference := Point{Quality: -1, Cost: 13}
	volume := func(list []Entry) float64 {
		points := make([]Point, len(list))
		for i, e := range list {
			points[i] = e.Point
		}
		raw, _ := HypervolumeOf(points, reference, 0)
		return raw
	}
	for range 200 {
		var a Archive
		for i := range r.IntN(40) {
			a.Add(Entry{Hash: schedule.Hash{byte(i)}, Point: Point{Quality: float64(r.IntN(30)), Cost: 12 * r.Float64()}})
		}
		front := a.Front()
		for n := range len(front) + 2 {
			most := 0.0
			for chosen := range 1 << len(front) {
				if bits.OnesCount(uint(chosen)) > n {
					continue
				}
				var list []Entry
				for i, e := range front {
					if chosen>>i&1 == 1 {
						list = append(list, e)
					}
				}
				most = max(most, volume(list))
			}
			got := Subset(front, n, reference)
			if len(got) > n || !slices.IsSortedFunc(got, func(a, b Entry) int { return compareFloat(a.Point.Cost, b.Point.Cost) }) {
				t.Fatalf("%d of %d entries: %v", n, len(front), got)
			}
			if v := volume(got); !(math.Abs(v-most) <= 1e-9*most) {
				t.Fatalf("%d of %d entries: hypervolume %v, the most is %v", n, len(front), v, most)
			}
		}
	}
}

func TestArchiveTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 200 {
		n := r.IntN(60)
		var entries []Entry
		for i := range n {
			e := Entry{Point: Point{Quality: float64(r.IntN(12)), Cost: float64(r.IntN(12))}}
			e.Hash[0], e.Hash[1] = byte(r.IntN(256)), byte(i)
			entries = append(entries, e)
		}
		var want []Entry
		for _, e := range entries {
			keep := true
			for _, o := range entries {
				if Compare(Objectives(o.Point), Objectives(e.Point)) == Dominates ||
					o.Point == e.Point && string(o.Hash[:]) < string(e.Hash[:]) {
					keep = false
				}
			}
			if keep {
				want = append(want, e)
			}
		}
		sort.Slice(want, func(i, j int) bool { return want[i].Point.Cost < want[j].Point.Cost })
		for range 2 { // in two orders
			r.Shuffle(n, func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
			var a Archive
			for _, e := range entries {
				a.Add(e)
				if a.Add(e) {
					t.Fatal("a schedule entered the front twice")
				}
			}
			got := a.Front()
			if len(got) != len(want) || a.Len() != n {
				t.Fatalf("front of %d, want %d; %d known of %d", len(got), len(want), a.Len(), n)
			}
			for i := range got {
				if got[i].Hash != want[i].Hash || got[i].Point != want[i].Point || a.Points()[i] != want[i].Point {
					t.Fatalf("entry %d is %v, want %v", i, got[i].Point, want[i].Point)
				}
			}
		}
	}
}

func TestSurviveProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 200 {
		n := 1 + r.IntN(40)
		pop := make([]Individual, n)
		feasible := 0
		for i, f := range randomObjectives(r, n, 2, 9) {
			pop[i] = Individual{Genome: NewGenome(i), F: f}
			switch r.IntN(4) {
			case 0:
				pop[i].CV = float64(1 + r.IntN(3))
			case 1:
				pop[i].F, pop[i].CV = nil, math.Inf(1)
			default:
				feasible++
			}
		}
		keep := 1 + r.IntN(n)
		out := Survive(pop, keep, func(n int) []int { return r.Perm(n) })
		if len(out) != keep {
			t.Fatalf("%d survivors, want %d", len(out), keep)
		}
		seen := map[int]bool{}
		rank, cv := 0, 0.0
		for i, ind := range out {
			if seen[ind.Genome.Len()] {
				t.Fatal("an individual survived twice")
			}
			seen[ind.Genome.Len()] = true
			if ind.Feasible() != (i < feasible) {
				t.Fatalf("survivor %d of %d feasible ones: feasible is %v", i, feasible, ind.Feasible())
			}
			if ind.Feasible() && ind.Rank < rank || ind.CV < cv {
				t.Fatal("survivors are not in order of rank and violation")
			}
			rank, cv = max(rank, ind.Rank), max(cv, ind.CV)
		}
		for i := range pop { // nobody who was dropped beats a survivor
			for _, ind := range out {
				if !seen[i] && pop[i].Feasible() && ind.Feasible() && Compare(pop[i].F, ind.F) == Dominates {
					t.Fatal("a survivor is dominated by a dropped individual")
				}
			}
		}
	}
}

func TestAskProperties(t *testing.T) {
	a := DefaultNSGA2(40, 99)
	a.PopulationSize = 15
	first := a.First(nil)
	if len(first) != 15 {
		t.Fatalf("%d random genomes, want 15", len(first))
	}
	if again := a.First(append(first, first...)); len(again) != 15 {
		t.Fatalf("%d first genomes after removing duplicates, want 15", len(again))
	}
	pop := make([]Individual, len(first))
	for i, g := range first {
		pop[i] = Individual{Genome: g, F: []float64{float64(g.Count()), -float64(i)}}
	}
	pop = a.Tell(1, nil, pop)
	off := a.Ask(2, pop)
	if len(off) != 15 {
		t.Fatalf("%d offspring, want 15", len(off))
	}
	for i, g := range off {
		if g.Len() != 40 {
			t.Fatalf("offspring %d has %d genes", i, g.Len())
		}
		for _, ind := range pop {
			if ind.Genome.Equal(g) {
				t.Fatal("an offspring is in the population")
			}
		}
		for _, o := range off[:i] {
			if o.Equal(g) {
				t.Fatal("two offspring are equal")
			}
		}
	}
	again := a.Ask(2, pop)
	other := a.Ask(3, pop)
	same := 0
	for i := range off {
		if !again[i].Equal(off[i]) {
			t.Fatal("the same question has two answers")
		}
		if i < len(other) && other[i].Equal(off[i]) {
			same++
		}
	}
	if same == len(off) {
		t.Error("two generations draw the same numbers")
	}
	// A space with nothing new in it: 2 genes, all 4 genomes in the population.
	tiny := DefaultNSGA2(2, 1)
	tiny.PopulationSize = 4
	var all []Individual
	for i := range 4 {
		g := NewGenome(2)
		g.Set(0, i&1 != 0)
		g.Set(1, i&2 != 0)
		all = append(all, Individual{Genome: g, F: []float64{1, 1}})
	}
	if left := tiny.Ask(2, all); len(left) != 0 {
		t.Errorf("%d offspring out of an exhausted space", len(left))
	}
	if left := tiny.Ask(2, nil); left != nil {
		t.Error("offspring without parents")
	}
}

func TestValidate(t *testing.T) {
	if err := DefaultNSGA2(1680, 0).Validate(); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*NSGA2){
		func(a *NSGA2) { a.Genes = 0 }, func(a *NSGA2) { a.PopulationSize = 1 },
		func(a *NSGA2) { a.CrossoverPoints = 0 }, func(a *NSGA2) { a.MatingRounds = 0 },
		func(a *NSGA2) { a.CrossoverProb = math.NaN() }, func(a *NSGA2) { a.MutationChildProb = 1.5 },
		func(a *NSGA2) { a.MutationBitProb = -0.1 },
	} {
		a := DefaultNSGA2(1680, 0)
		change(&a)
		if err := a.Validate(); !errors.Is(err, ErrConfig) {
			t.Errorf("%+v: error %v, want ErrConfig", a, err)
		}
	}
}

// TestStream pins the streams: a change here changes every study.
func TestStream(t *testing.T) {
	s := NewStream(1, 2, PurposeTie, 3, 4)
	got := []uint64{s.Uint64(), s.Uint64()}
	want := []uint64{0xef18755a41a5255b, 0x94ae019d184567ce}
	if !slices.Equal(got, want) {
		t.Errorf("stream is %#x, want %#x", got, want)
	}
	if p := NewStream(7, 0, PurposeSurvival, 0, 0).Perm(8); !slices.Equal(p, []int{3, 2, 0, 1, 4, 6, 7, 5}) {
		t.Errorf("permutation is %v", p)
	}
	seen := map[uint64]bool{}
	for seed := range uint64(3) {
		for gen := range 3 {
			for purpose := PurposeInit; purpose <= PurposeBootstrap; purpose++ {
				for round := range 3 {
					for index := range 3 {
						seen[NewStream(seed, gen, purpose, round, index).Uint64()] = true
					}
				}
			}
		}
	}
	if len(seen) != 3*3*7*3*3 {
		t.Errorf("%d distinct streams of %d", len(seen), 3*3*7*3*3)
	}
	counts := make([]int, 7)
	for range 70000 {
		counts[s.IntN(7)]++
	}
	for i, c := range counts {
		if c < 9500 || c > 10500 { // 5 standard deviations
			t.Errorf("IntN(7) gave %d %d times of 70000", i, c)
		}
	}
	sum := 0.0
	for range 10000 {
		sum += s.Float64()
	}
	if !(math.Abs(sum/10000-0.5) <= 0.015) {
		t.Errorf("mean of Float64 is %v", sum/10000)
	}
	cuts := NewDraws(1, 1).Cuts(0, 0, 6, 5)
	if slices.Sort(cuts); !slices.Equal(cuts, []int{1, 2, 3, 4, 5}) {
		t.Errorf("all cuts of 6 genes are %v", cuts)
	}
}
