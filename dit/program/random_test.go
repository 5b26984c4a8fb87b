package program_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ecadx/dit/program"
)

// generator makes random programs that are right by construction but full of dead ops, slots that nobody reuses and partial writes.
type generator struct {
	*rand.Rand
	b       *program.Builder
	steps   int
	whole   bool // no views of parts
	state   []program.Tensor
	parts   []keptPart
	scratch []program.Tensor // of the section, written in full
}

// keptPart is a slot of which mostly the same rows are read.
type keptPart struct {
	slot   program.Tensor
	lo, hi int
}

const genB, genN, genC = 2, 3, 8

func generate(seed uint64, whole bool) *program.Builder {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 7)), whole: whole}
	g.steps = 1 + g.IntN(4)
	g.b = program.NewBuilder(g.steps)
	for i := range 3 + g.IntN(5) {
		name := fmt.Sprintf("p%d", i)
		t := g.b.Slot(i, 0, name, program.Float32, genB, genN, genC)
		g.state = append(g.state, t)
	}
	for i := 0; !whole && i < g.IntN(3); i++ {
		p := keptPart{slot: g.b.Slot(i, 1, fmt.Sprintf("q%d", i), program.Float32, genB, genN, genC), lo: g.IntN(genN)}
		p.hi = p.lo + 1 + g.IntN(genN-p.lo)
		g.parts = append(g.parts, p)
	}
	g.b.InOut("latents", g.state[0])
	if g.IntN(3) == 0 {
		g.b.Output("extra", g.state[1])
	}
	var sections []program.SectionID
	for range 2 + g.IntN(4) {
		sections = append(sections, g.section())
	}
	if whole { // every section runs once, in one schedule
		var items []program.Item
		for _, i := range g.Perm(len(sections)) {
			items = append(items, program.Item{Section: sections[i], Step: g.IntN(g.steps)})
		}
		g.b.Schedule("run", items)
		return g.b
	}
	for i := range 1 + g.IntN(3) {
		var items []program.Item
		for range 1 + g.IntN(6) {
			items = append(items, program.Item{Section: sections[g.IntN(len(sections))], Step: g.IntN(g.steps)})
		}
		g.b.Schedule(fmt.Sprintf("run %d", i), items)
	}
	return g.b
}

func (g *generator) section() program.SectionID {
	g.b.Begin(program.Step, "section")
	g.scratch = nil
	for i := range 1 + g.IntN(10) {
		g.b.At(i, 0)
		g.op()
	}
	return g.b.End()
}

func (g *generator) input() program.Tensor {
	if len(g.scratch) > 0 && g.IntN(3) > 0 {
		return g.scratch[g.IntN(len(g.scratch))]
	}
	return g.state[g.IntN(len(g.state))]
}

// output is a state buffer, scratch written before, or new scratch; it differs from the given tensors.
func (g *generator) output(not ...program.Tensor) program.Tensor {
	for range 4 {
		t := program.Tensor{}
		switch {
		case g.IntN(2) == 0:
			t = g.state[g.IntN(len(g.state))]
		case len(g.scratch) > 0 && g.IntN(2) == 0:
			t = g.scratch[g.IntN(len(g.scratch))]
		}
		if t.Present() && !slices.Contains(not, t) {
			return t
		}
	}
	return g.b.Activation(program.Float32, genB, genN, genC)
}

func (g *generator) wrote(t program.Tensor) {
	if !slices.Contains(g.state, t) && !slices.Contains(g.scratch, t) {
		g.scratch = append(g.scratch, t)
	}
}

func (g *generator) op() {
	b, name := g.b, fmt.Sprintf("op%d", g.IntN(100))
	kinds := 7
	if g.whole {
		kinds--
	}
	switch g.IntN(kinds) {
	case 0:
		x := g.input()
		y := g.output(x)
		if g.IntN(3) == 0 && y.Dim(0) > 0 {
			y = x // in place
		}
		g.wrote(b.Unary(name, program.SiLU, x, y))
	case 1:
		x, y := g.input(), g.input()
		g.wrote(b.Add(name, x, y, g.output()))
	case 2:
		xs := []program.Tensor{g.input(), g.input(), g.input()}
		coef := make([]float64, 3*g.steps)
		for i := range coef {
			coef[i] = float64(g.IntN(3))
		}
		g.wrote(b.Lincomb(name, xs, b.Step(b.Float64s("c", coef, g.steps, 3)), nil, g.output()))
	case 3:
		x, s1, s2, scale := g.input(), g.input(), g.input(), g.input()
		xOut, y := g.output(s1, s2, x, scale), g.output(s1, s2, x, scale)
		if g.IntN(2) == 0 && x != s1 && x != s2 && x != scale {
			xOut = x
		}
		if xOut == y {
			y = b.Activation(program.Float32, genB, genN, genC)
		}
		mod := b.Reshape(b.Slice(scale, 1, 1, 2), genB, genC)
		b.Chain(name, program.ChainSpec{X: x, Terms: []program.Term{{S: s1}, {S: s2}}, Norm: program.LayerNorm, Scale: mod, Shift: mod}, xOut, y)
		g.wrote(xOut)
		g.wrote(y)
	case 4:
		x, z := g.input(), g.input()
		g.wrote(b.Linear(name, program.LinearSpec{X: []program.Tensor{x, z}, W: []program.Tensor{b.Weight("w", genC, 2*genC)}}, g.output(x, z)))
	case 5:
		g.joined(name)
	case 6:
		g.rows(name)
	}
}

// rows makes something row by row, in scratch or in a slot that may have been filled before, and reads some rows of it.
func (g *generator) rows(name string) {
	b, x := g.b, g.input()
	p := keptPart{lo: g.IntN(genN)}
	p.hi = p.lo + 1 + g.IntN(genN-p.lo)
	scratch := len(g.parts) == 0 || g.IntN(3) == 0
	if !scratch {
		p = g.parts[g.IntN(len(g.parts))]
	} else {
		p.slot = b.Activation(program.Float32, genB, genN, genC)
	}
	if scratch || g.IntN(4) > 0 {
		up := b.Linear(name+".up", program.LinearSpec{X: []program.Tensor{x, g.input()}, W: []program.Tensor{b.Weight("w", genC, 2*genC)}}, program.Tensor{})
		if g.IntN(2) == 0 {
			b.Chain(name+".norm", program.ChainSpec{X: up, Terms: []program.Term{{S: g.input()}}, Norm: program.LayerNorm}, up, p.slot)
		} else {
			b.Unary(name+".act", program.ReLU, up, p.slot)
		}
	}
	if g.IntN(10) == 0 { // all of it after all
		g.wrote(b.Unary(name+".all", program.SiLU, p.slot, program.Tensor{}))
		return
	}
	y, n := b.Activation(program.Float32, genB, genN, genC), p.hi-p.lo
	b.Unary(name+".rows", program.SiLU, b.Slice(p.slot, 1, p.lo, p.hi), b.Slice(y, 1, 0, n))
	if n < genN {
		b.Copy(name+".rest", b.Slice(x, 1, n, genN), b.Slice(y, 1, n, genN))
	}
	g.wrote(y)
}

// joined fills new scratch in two parts and sometimes reads one part only.
func (g *generator) joined(name string) {
	x := g.input()
	if g.whole {
		g.wrote(g.b.Unary(name, program.ReLU, x, g.output(x)))
		return
	}
	t := g.b.Activation(program.Float32, genB, genN, genC)
	dim, mid := 1+g.IntN(2), 1+g.IntN(2)
	size := [3]int{genB, genN, genC}[dim]
	lo, hi := g.b.Slice(t, dim, 0, mid), g.b.Slice(t, dim, mid, size)
	g.b.Unary(name+".lo", program.ReLU, g.b.Slice(x, dim, 0, mid), lo)
	g.b.Unary(name+".hi", program.ReLU, g.b.Slice(x, dim, mid, size), hi)
	if g.IntN(2) == 0 {
		g.wrote(t)
		return
	}
	y := g.b.Activation(program.Float32, genB, genN, genC)
	g.b.Unary(name+".part", program.SiLU, lo, g.b.Slice(y, dim, size-mid, size))
	g.b.Unary(name+".rest", program.SiLU, g.b.Slice(x, dim, 0, size-mid), g.b.Slice(y, dim, 0, size-mid))
	g.wrote(y)
}

// finishRandom is the finished program, or nil when the random schedules read what nothing wrote.
func finishRandom(t *testing.T, b *program.Builder, seed uint64) *program.Program {
	t.Helper()
	if err := b.Err(); err != nil {
		t.Fatalf("seed %d: the generator made a mistake: %v", seed, err)
	}
	p, err := b.Finish()
	if err != nil {
		if strings.Contains(err.Error(), "before anything writes it") {
			return nil
		}
		t.Fatalf("seed %d: %v", seed, err)
	}
	return p
}

// TestFinishKeepsMeaning runs random programs before and after Finish over symbols: every output of every schedule is the same, on a
// fresh state and on one that other schedules used before.
func TestFinishKeepsMeaning(t *testing.T) {
	programs, removed, demoted, narrowed := 0, 0, 0, 0
	for seed := uint64(0); seed < 900; seed++ {
		b := generate(seed, false)
		p := finishRandom(t, b, seed)
		if p == nil {
			continue
		}
		raw := program.Raw(b)
		programs++
		stats := p.Stats()
		removed += len(stats.Removed)
		demoted += len(stats.Demoted)
		narrowed += len(stats.Narrowed)
		if len(raw.Ops) != len(p.Ops)+len(stats.Removed) {
			t.Fatalf("seed %d: %d ops, %d left, %d removed", seed, len(raw.Ops), len(p.Ops), len(stats.Removed))
		}
		usedRaw, used := newMachine(raw), newMachine(p)
		for i, s := range p.Schedules {
			freshRaw, fresh := newMachine(raw), newMachine(p)
			for j, pair := range [2][2]*machine{{freshRaw, fresh}, {usedRaw, used}} {
				pair[0].run(s.Items)
				pair[1].run(s.Items)
				if want, got := pair[0].outputs(), pair[1].outputs(); !maps.Equal(want, got) {
					t.Fatalf("seed %d, schedule %d, run %d: outputs %v, want %v", seed, i, j, got, want)
				}
			}
		}
		for s := range p.Sections {
			if overlapping(p, s) {
				t.Fatalf("seed %d: section %d has arena buffers that share bytes while both live", seed, s)
			}
		}
	}
	if programs < 400 || removed < 1000 || demoted < 200 || narrowed < 100 {
		t.Errorf("only %d programs, %d removed ops, %d demoted slots, %d narrowed ops: the generator is too tame", programs, removed, demoted, narrowed)
	}
	t.Logf("%d programs, %d ops removed, %d slots demoted, %d ops narrowed", programs, removed, demoted, narrowed)
}

// TestFinishIsTight takes single ops out of finished programs in which every section runs once: without any of them some output changes,
// so none was dead. (A section that runs twice keeps an op that only one of the runs needs.)
func TestFinishIsTight(t *testing.T) {
	programs, ops := 0, 0
	for seed := uint64(0); seed < 2000; seed++ {
		b := generate(seed, true)
		p := finishRandom(t, b, seed)
		if p == nil {
			continue
		}
		run := func(p *program.Program) map[string]uint64 {
			m := newMachine(p)
			m.readZeros = true
			m.run(p.Schedules[0].Items)
			return m.outputs()
		}
		want := run(p)
		programs++
		for s, sec := range p.Sections {
			for i := sec.First; i < sec.First+sec.Count; i++ {
				ops++
				if maps.Equal(run(p.Without(i)), want) {
					t.Fatalf("seed %d: op %d (%s %q) of section %d is dead", seed, i, p.Ops[i].Code, p.Ops[i].Name, s)
				}
			}
		}
	}
	if programs < 100 || ops < 500 {
		t.Errorf("only %d programs with %d ops", programs, ops)
	}
	t.Logf("%d programs, %d ops", programs, ops)
}

// overlapping compares lives and places of all pairs of arena buffers of a section.
func overlapping(p *program.Program, section int) bool {
	type life struct{ first, last int }
	lives := map[uint32]*life{}
	for i, op := range p.SectionOps(section) {
		for _, id := range append(slices.Clone(op.In), op.Out...) {
			if id == noTensor || p.Buffers[p.Tensors[id].Buffer].Kind != program.Arena {
				continue
			}
			buf := p.Tensors[id].Buffer
			if lives[buf] == nil {
				lives[buf] = &life{first: i}
			}
			lives[buf].last = i
		}
	}
	for x, lx := range lives {
		for y, ly := range lives {
			bx, by := p.Buffers[x], p.Buffers[y]
			if x < y && lx.first <= ly.last && ly.first <= lx.last && bx.Offset < by.Offset+by.Bytes && by.Offset < bx.Offset+bx.Bytes {
				return true
			}
		}
	}
	return false
}
