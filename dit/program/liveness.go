package program

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// bitset is a set of persistent buffers by their index among them.
type bitset []uint64

func newBitset(n int) bitset     { return make(bitset, (n+63)/64) }
func (s bitset) has(i int) bool  { return s[i/64]>>(i%64)&1 != 0 }
func (s bitset) set(i int)       { s[i/64] |= 1 << (i % 64) }
func (s bitset) copyOf(t bitset) { copy(s, t) }

// union adds t to s and says whether s grew.
func (s bitset) union(t bitset) bool {
	grew := false
	for i, w := range t {
		grew = grew || w&^s[i] != 0
		s[i] |= w
	}
	return grew
}

func (s bitset) subtract(t bitset) {
	for i, w := range t {
		s[i] &^= w
	}
}

func (s bitset) each(f func(i int)) {
	for w, word := range s {
		for ; word != 0; word &= word - 1 {
			f(w*64 + bits.TrailingZeros64(word))
		}
	}
}

// guard is a read that happens only at steps where a constant coefficient is not zero.
type guard struct {
	coefficients *View
	data         []byte
	index        int
}

func (g guard) reads(step int) bool {
	at := g.coefficients.Offset + int64(g.index)*g.coefficients.Strides[0] + int64(step)*g.coefficients.StepStride
	return math.Float64frombits(binary.LittleEndian.Uint64(g.data[8*at:])) != 0
}

// exposure is how a section reads what a persistent buffer held before it: always, or under guards.
type exposure struct {
	always bool
	guards []guard
}

// sectionFlow is what one section does, given what must live after it.
type sectionFlow struct {
	ops     []Op // with outputs taken away that nobody reads
	alive   []bool
	liveOut bitset
	writes  bitset           // persistent buffers that its ops write; those ops live where the content does
	reads   bitset           // exposed, always
	guarded map[int]exposure // exposed, under guards only
}

// flow is liveness over sections and schedules. The content of a persistent buffer lives at a point when some schedule reads it later
// before writing it whole, or when it is an output and the schedule ends first. A section used at several points must suit all of them.
type flow struct {
	b          *Builder
	persistent []uint32       // buffer of index
	index      map[uint32]int // index of buffer
	sections   []sectionFlow
	used       []bool   // sections in a schedule
	atEnd      bitset   // lives when a schedule ends
	always     bitset   // may be read at any time: by sections that are in no schedule
	atStart    []bitset // of each schedule: what it reads of the state it is given
}

func newFlow(b *Builder) *flow {
	f := &flow{b: b, index: map[uint32]int{}, sections: make([]sectionFlow, len(b.sections)), used: make([]bool, len(b.sections)),
		atStart: make([]bitset, len(b.schedules))}
	for i, buf := range b.buffers {
		if buf.Kind == Persistent {
			f.index[uint32(i)] = len(f.persistent)
			f.persistent = append(f.persistent, uint32(i))
		}
	}
	n := len(f.persistent)
	f.atEnd, f.always = newBitset(n), newBitset(n)
	for _, io := range b.ios {
		if io.Direction&Out != 0 {
			f.atEnd.set(f.index[b.tensors[io.Tensor].Buffer])
		}
	}
	for buf := range b.keep {
		f.atEnd.set(f.index[buf])
	}
	for i := range f.atStart {
		f.atStart[i] = newBitset(n)
	}
	for _, s := range b.schedules {
		for _, it := range s.Items {
			f.used[it.Section] = true
		}
	}
	for i := range f.sections {
		s := &f.sections[i]
		s.liveOut, s.writes, s.reads = newBitset(n), newBitset(n), newBitset(n)
		sec := b.sections[i]
		for _, op := range b.ops[sec.First : sec.First+sec.Count] {
			for _, id := range op.Out {
				if id == absent {
					continue
				}
				if j, ok := f.index[b.tensors[id].Buffer]; ok {
					s.writes.set(j)
				}
			}
		}
		if !f.used[i] { // it may run at any time, before anything
			for j := range n {
				s.liveOut.set(j)
			}
		}
		f.analyse(i)
		if !f.used[i] {
			f.always.union(s.exposed())
		}
	}
	f.solve()
	return f
}

// exposed is all that the section may read before writing it.
func (s *sectionFlow) exposed() bitset {
	e := append(bitset(nil), s.reads...)
	for i := range s.guarded {
		e.set(i)
	}
	return e
}

// solve finds the least sets that satisfy all schedules: sets only grow, so it ends.
func (f *flow) solve() {
	n := len(f.persistent)
	live := newBitset(n)
	f.atEnd.union(f.always)
	for grew := true; grew; {
		grew = false
		changed := make([]bool, len(f.sections))
		for i := len(f.b.schedules) - 1; i >= 0; i-- {
			items := f.b.schedules[i].Items
			live.copyOf(f.atEnd)
			for j := len(items) - 1; j >= 0; j-- {
				s := &f.sections[items[j].Section]
				if s.liveOut.union(live) {
					changed[items[j].Section] = true
				}
				live.subtract(s.writes)
				live.union(s.reads)
				for buf, e := range s.guarded {
					for _, g := range e.guards {
						if g.reads(items[j].Step) {
							live.set(buf)
							break
						}
					}
				}
				live.union(f.always)
			}
			f.atStart[i].union(live)
			// What a schedule wants from the state, another may have left there: it lives when a schedule ends.
			if f.atEnd.union(live) {
				grew = true
			}
		}
		for i, c := range changed {
			if c {
				f.analyse(i)
				grew = true
			}
		}
	}
}

// analyse walks section i backwards from its liveOut.
func (f *flow) analyse(i int) {
	b, s := f.b, &f.sections[i]
	sec := b.sections[i]
	s.ops = append([]Op(nil), b.ops[sec.First:sec.First+sec.Count]...)
	s.alive = make([]bool, len(s.ops))
	clear(s.reads)
	w := walk{flow: f, after: append(bitset(nil), s.liveOut...), arena: map[uint32][]*View{}, state: map[int]exposure{}}
	for k := len(s.ops) - 1; k >= 0; k-- {
		op := &s.ops[k]
		if !w.trim(op) {
			continue
		}
		s.alive[k] = true
		for _, id := range op.Out {
			if id != absent {
				w.write(&b.tensors[id])
			}
		}
		w.read(op)
	}
	s.guarded = map[int]exposure{}
	for j, e := range w.state {
		if e.always {
			s.reads.set(j)
		} else {
			s.guarded[j] = e
		}
	}
}

// walk is what lives at one point of a section.
type walk struct {
	*flow
	after bitset             // persistent buffers whose content at this point lives when the section ends
	state map[int]exposure   // persistent buffers that the section still reads
	arena map[uint32][]*View // views of arena buffers that the section still reads
}

// wanted says whether anyone reads what is written to v now.
func (w *walk) wanted(v *View) bool {
	if j, ok := w.index[v.Buffer]; ok {
		_, read := w.state[j]
		return read || w.after.has(j)
	}
	for _, r := range w.arena[v.Buffer] {
		if mayShare(v, r, w.b.steps) {
			return true
		}
	}
	return false
}

// trim takes away the optional outputs of op that nobody wants and says whether any output is left.
func (w *walk) trim(op *Op) bool {
	left := false
	out := append([]uint32(nil), op.Out...)
	for i, id := range out {
		if id == absent {
			continue
		}
		if w.wanted(&w.b.tensors[id]) {
			left = true
		} else if op.Code == OpChain {
			out[i] = absent
		}
	}
	if !left || op.Code != OpChain {
		return left
	}
	if out[1] == absent && op.Out[1] != absent { // no y: no norm, scale, shift, weight, bias
		op.In = append([]uint32(nil), op.In...)
		for i := len(op.In) - 4; i < len(op.In); i++ {
			op.In[i] = absent
		}
		op.Attr[1], op.FAttr[0] = int32(NoNorm), 0
	}
	op.Out = out
	return true
}

// write ends the life of what v overwrites.
func (w *walk) write(v *View) {
	if j, ok := w.index[v.Buffer]; ok {
		delete(w.state, j)
		w.after[j/64] &^= 1 << (j % 64)
		return
	}
	reads := w.arena[v.Buffer]
	kept := reads[:0]
	for _, r := range reads {
		if *r != *v && !v.whole(&w.b.buffers[v.Buffer]) {
			kept = append(kept, r)
		}
	}
	w.arena[v.Buffer] = kept
}

// read makes the operands of op live.
func (w *walk) read(op *Op) {
	for i, id := range op.In {
		if id == absent {
			continue
		}
		v := &w.b.tensors[id]
		j, persistent := w.index[v.Buffer]
		if !persistent {
			if w.b.buffers[v.Buffer].Kind == Arena {
				w.arena[v.Buffer] = append(w.arena[v.Buffer], v)
			}
			continue
		}
		e := w.state[j]
		g, guarded := w.guardOf(op, i)
		if guarded {
			e.guards = append(e.guards[:len(e.guards):len(e.guards)], g)
		} else {
			e.always = true
		}
		w.state[j] = e
	}
}

// guardOf says when operand i of op is read, if that depends on a constant coefficient.
func (w *walk) guardOf(op *Op, i int) (guard, bool) {
	if op.Code != OpLincomb || i >= int(op.Attr[0]) {
		return guard{}, false
	}
	c := &w.b.tensors[op.In[op.Attr[0]]]
	if w.b.buffers[c.Buffer].Kind != Constant {
		return guard{}, false
	}
	return guard{coefficients: c, data: w.b.data[c.Buffer], index: i}, true
}
