package schedule_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"ecadx/schedule"
)

// machine runs a schedule on symbols: a value is the number of a term, and two
// terms are one exactly if they are the same operation on the same terms. So
// equal numbers mean equal values for any weights, and different numbers mean
// that some weights tell them apart.
type machine struct{ terms map[[4]int]int }

func (m *machine) term(op, a, b, c int) int {
	key := [4]int{op, a, b, c}
	id, ok := m.terms[key]
	if !ok {
		id = len(m.terms) + 1
		m.terms[key] = id
	}
	return id
}

// Operations. A component's is its own number plus a hundred times the block's.
const (
	opLatents = -1 - iota
	opPrompt
	opStart // latents at a timestep
	opAdd   // residual + gate(timestep) * value
	opNext  // sampler: latents, prediction, timestep
	opText  // the text half of an operation
)

// run returns the model's prediction at every step: for FLUX the image tokens.
func (m *machine) run(s *schedule.Schedule) []int {
	shape := s.Shape()
	type pair [2]int // image tokens, text tokens; PixArt has only the first
	slots := map[[2]int]pair{}
	latents := m.term(opLatents, 0, 0, 0)
	var out []int
	for step := range shape.Steps {
		x := pair{m.term(opStart, latents, step, 0), m.term(opPrompt, 0, 0, 0)}
		value := func(block, comp int, compute func(op int) pair) pair {
			key := [2]int{block, comp}
			kept, ok := slots[key]
			if s.At(step, block, comp) == schedule.Compute || !ok {
				kept = compute(block*100 + comp)
			}
			slots[key] = kept
			return kept
		}
		add := func(half int, v int) { x[half] = m.term(opAdd, x[half], step, v) }
		for block := range shape.TotalBlocks() {
			attend := func(op int) pair { // every token sees every token
				v := m.term(op, x[0], x[1], step)
				return pair{v, m.term(opText, v, 0, 0)}
			}
			switch shape.Kind(block) {
			case schedule.PixArtBlock:
				for comp := range 3 {
					add(0, value(block, comp, func(op int) pair { return pair{m.term(op, x[0], step, 0)} })[0])
				}
			case schedule.DoubleBlock:
				attn := value(block, 0, attend)
				add(0, attn[0])
				add(1, attn[1])
				add(0, value(block, 1, func(op int) pair { return pair{m.term(op, x[0], step, 0)} })[0])
				add(1, value(block, 2, func(op int) pair { return pair{0, m.term(op, x[1], step, 0)} })[1])
			case schedule.SingleBlock:
				attn := value(block, 0, attend)
				mlp := value(block, 1, func(op int) pair { return pair{m.term(op, x[0], step, 0), m.term(op, x[1], step, 0)} })
				proj := value(block, 2, func(op int) pair { // no timestep in it
					return pair{m.term(op, attn[0], mlp[0], 0), m.term(op, attn[1], mlp[1], 0)}
				})
				add(0, proj[0])
				add(1, proj[1])
			}
		}
		out = append(out, x[0])
		latents = m.term(opNext, latents, x[0], step)
	}
	return out
}

func randomSchedule(t testing.TB, r *rand.Rand, shape schedule.Shape, reuse float64) *schedule.Schedule {
	t.Helper()
	s, err := schedule.New(shape)
	if err != nil {
		t.Fatal(err)
	}
	for i := range shape.Cells() {
		if r.Float64() < reuse {
			s.SetFlat(i, schedule.Reuse)
		}
	}
	return s
}

// TestCanonicalKeepsMeaning: the canonical form predicts the same, is canonical
// itself and never computes more.
func TestCanonicalKeepsMeaning(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	changed := 0
	for i := range 4000 {
		shape := schedule.Shape{Family: schedule.PixArt, Steps: 1 + r.IntN(7), Blocks: 1 + r.IntN(3)}
		if i%4 != 0 {
			shape.Family, shape.Blocks, shape.SingleBlocks = schedule.Flux, r.IntN(3), r.IntN(4)
			if shape.TotalBlocks() == 0 {
				shape.SingleBlocks = 1
			}
		}
		s := randomSchedule(t, r, shape, []float64{0.3, 0.5, 0.8}[i%3])
		c := s.Canonical()
		m := &machine{terms: map[[4]int]int{}}
		if got, want := m.run(c), m.run(s); !slices.Equal(got, want) {
			t.Fatalf("%v %v: canonical form predicts %v, schedule %v", shape, s.Bools(), got, want)
		}
		if !c.Canonical().Equal(c) {
			t.Fatalf("%v %v: canonical form is not stable", shape, s.Bools())
		}
		for cell, d := range c.All() {
			if cell.Step > 0 && d == schedule.Compute && s.At(cell.Step, cell.Block, cell.Comp) == schedule.Reuse {
				t.Fatalf("%v: canonical form computes %v, the schedule does not", shape, cell)
			}
		}
		for _, g := range s.DeadGenes() {
			if (g.Reason == schedule.ForcedCompute) != (g.Cell.Step == 0) {
				t.Fatalf("%v: %+v", shape, g)
			}
			changed++
		}
	}
	if changed < 1000 {
		t.Fatalf("only %d dead genes in all cases: the test does not test", changed)
	}
}

// meanings checks that schedules of one shape have equal hashes exactly if they
// predict the same.
type meanings struct {
	machine machine
	byHash  map[schedule.Hash]string
	byTerms map[string]schedule.Hash
}

func newMeanings() *meanings {
	return &meanings{machine{map[[4]int]int{}}, map[schedule.Hash]string{}, map[string]schedule.Hash{}}
}

func (m *meanings) check(t *testing.T, s *schedule.Schedule) {
	t.Helper()
	h := s.Hash()
	var key []byte
	for _, id := range m.machine.run(s) {
		key = append(key, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
	}
	if other, ok := m.byHash[h]; ok && other != string(key) {
		t.Fatalf("%v: genome %v shares a hash with a schedule that predicts otherwise", s.Shape(), s.Bools())
	}
	if other, ok := m.byTerms[string(key)]; ok && other != h {
		t.Fatalf("%v: genome %v predicts the same as one with another hash", s.Shape(), s.Bools())
	}
	m.byHash[h], m.byTerms[string(key)] = string(key), h
}

// TestCanonicalIsComplete goes through every schedule of small shapes.
func TestCanonicalIsComplete(t *testing.T) {
	for _, shape := range []schedule.Shape{
		{Family: schedule.PixArt, Steps: 2, Blocks: 2},
		{Family: schedule.PixArt, Steps: 4, Blocks: 1},
		{Family: schedule.Flux, Steps: 4, SingleBlocks: 1},
		{Family: schedule.Flux, Steps: 2, SingleBlocks: 2},
		{Family: schedule.Flux, Steps: 3, SingleBlocks: 2},
		{Family: schedule.Flux, Steps: 2, Blocks: 1, SingleBlocks: 1},
		{Family: schedule.Flux, Steps: 3, Blocks: 1, SingleBlocks: 1},
		{Family: schedule.Flux, Steps: 4, Blocks: 1},
		{Family: schedule.Flux, Steps: 3, Blocks: 2},
		{Family: schedule.Flux, Steps: 2, Blocks: 2, SingleBlocks: 1},
	} {
		m := newMeanings()
		first := 0
		if shape.Cells() > 12 {
			first = shape.RowLen() // row 0 is the same for all; small shapes show it
		}
		for genome := range uint64(1) << (shape.Cells() - first) {
			s, err := schedule.FromWords(shape, []uint64{genome << first})
			if err != nil {
				t.Fatal(err)
			}
			m.check(t, s)
		}
		t.Logf("%v: %d genomes, %d meanings", shape, uint64(1)<<(shape.Cells()-first), len(m.byHash))
	}
}

// TestCanonicalOfNeighbours: random schedules of larger shapes, and what is one
// or two flips away from them, where equal meanings are frequent.
func TestCanonicalOfNeighbours(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, shape := range []schedule.Shape{
		{Family: schedule.PixArt, Steps: 6, Blocks: 3},
		{Family: schedule.Flux, Steps: 5, Blocks: 2, SingleBlocks: 2},
		{Family: schedule.Flux, Steps: 6, Blocks: 3, SingleBlocks: 1},
		{Family: schedule.Flux, Steps: 8, Blocks: 1, SingleBlocks: 2},
		{Family: schedule.Flux, Steps: 6, Blocks: 3},
	} {
		m, n := newMeanings(), 0
		for i := range 120 {
			s := randomSchedule(t, r, shape, []float64{0.3, 0.6, 0.9}[i%3])
			m.check(t, s)
			m.check(t, s.Canonical())
			for range 20 {
				near := s.Clone()
				for range 1 + r.IntN(2) {
					j := r.IntN(shape.Cells())
					near.SetFlat(j, 1-near.AtFlat(j))
				}
				m.check(t, near)
				n++
			}
		}
		if len(m.byHash) >= n {
			t.Errorf("%v: %d schedules, %d meanings: no two were equal, the test does not test", shape, n, len(m.byHash))
		}
		t.Logf("%v: %d schedules, %d meanings", shape, n, len(m.byHash))
	}
}
