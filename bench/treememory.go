package bench

import (
	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/program"
)

// freeBytes is how much memory the devices of a pipeline can still take; 0 where the system does not say.
func freeBytes(p *dit.Pipeline) (int64, error) {
	info, err := p.Workers[0].Device.Info()
	if err != nil {
		return 0, err
	}
	if info.Backend == ecad.CUDA {
		return int64(info.MemoryTotal - min(info.MemoryTotal, info.MemoryUsed)), nil
	}
	return availableBytes(), nil
}

// planMemory computes the most bytes that the states of a walk hold at a time, by walking the tree with states that are only counted. While that
// is over the limit (0: none), a branching of the path on which it happens keeps no state any more, the one nearest to the leaf first: what is
// below it is then replayed from a state further up. Without any branching left the peak is that of one schedule, whatever the limit says.
func (t *tree) planMemory(limit int64) {
	if t.root == nil {
		return
	}
	layout := newSlotLayout(t.loop.Source)
	for {
		m := &memory{layout: layout, limit: limit, live: map[int64]int{}, most: map[int64]int{}}
		start := m.start()
		w := &walker{leaf: func([]int, branch) error { return nil }, kept: []keptBranch{{start, 0}}}
		m.walker = w
		first, _ := start.fork()
		_ = w.visit(t.root, first) // counting cannot fail
		t.peak = m.peak
		if m.over == nil {
			return
		}
		m.over.replay = true
	}
}

// slotLayout is what a program's states are made of.
type slotLayout struct {
	bytes  []int64          // of each persistent buffer, as the device rounds them
	inputs []int            // buffers that the caller writes
	writes map[uint32][]int // per section
	source *program.Program
	place  map[uint32]int // buffer to place
}

func newSlotLayout(p *program.Program) *slotLayout {
	l := &slotLayout{writes: map[uint32][]int{}, source: p, place: map[uint32]int{}}
	for i := range p.Buffers {
		if b := &p.Buffers[i]; b.Kind == program.Persistent {
			l.place[uint32(i)] = len(l.bytes)
			l.bytes = append(l.bytes, (b.Bytes+63)/64*64)
		}
	}
	for _, io := range p.IOs {
		if at, ok := l.place[p.Tensors[io.Tensor].Buffer]; ok && io.Direction != program.Out {
			l.inputs = append(l.inputs, at)
		}
	}
	return l
}

// written are the places that a section writes, each once.
func (l *slotLayout) written(section uint32) []int {
	list, known := l.writes[section]
	if known {
		return list
	}
	seen := map[int]bool{}
	for _, op := range l.source.SectionOps(int(section)) {
		for _, id := range op.Out {
			v := l.source.Operand(id)
			if v == nil {
				continue
			}
			if at, ok := l.place[v.Buffer]; ok && !seen[at] {
				seen[at] = true
				list = append(list, at)
			}
		}
	}
	l.writes[section] = list
	return list
}

// memory counts the buffers of a walk. Free ones stay with the device for others of their size, so what counts is the most of each size.
type memory struct {
	layout     *slotLayout
	walker     *walker
	limit      int64
	live, most map[int64]int // buffers by size
	peak       int64         // bytes of most
	over       *node         // the branching that should keep no state; nil while the limit holds
}

// counted is a state as memory sees it: its buffers with their references; nil where nothing was written yet.
type counted struct {
	m       *memory
	buffers []*int
}

func (m *memory) start() *counted {
	c := &counted{m: m, buffers: make([]*int, len(m.layout.bytes))}
	for _, at := range m.layout.inputs {
		c.write(at)
	}
	return c
}

// write takes a fresh buffer, unless the state is the only one that has it.
func (c *counted) write(at int) {
	if b := c.buffers[at]; b != nil && *b == 1 {
		return
	}
	m, size := c.m, c.m.layout.bytes[at]
	m.live[size]++
	if m.live[size] > m.most[size] {
		m.most[size]++
		m.peak += size
		if m.limit > 0 && m.peak > m.limit && m.over == nil {
			m.over = m.branching()
		}
	}
	if b := c.buffers[at]; b != nil {
		*b--
	}
	one := 1
	c.buffers[at] = &one
}

// branching is the deepest node of the path that keeps a state now; nil: there is none.
func (m *memory) branching() *node {
	w := m.walker
	if w == nil {
		return nil
	}
	for i := len(w.kept) - 1; i >= 0; i-- {
		if depth := w.kept[i].depth; depth > 0 {
			return w.path[depth-1]
		}
	}
	return nil
}

func (c *counted) do(n *node) error {
	for _, item := range n.items {
		for _, at := range c.m.layout.written(item.Section) {
			c.write(at)
		}
	}
	return nil
}

func (c *counted) fork() (branch, error) {
	f := &counted{m: c.m, buffers: append([]*int(nil), c.buffers...)}
	for _, b := range f.buffers {
		if b != nil {
			*b++
		}
	}
	return f, nil
}

func (c *counted) close() error {
	for at, b := range c.buffers {
		if b == nil {
			continue
		}
		if *b--; *b == 0 {
			c.m.live[c.m.layout.bytes[at]]--
		}
	}
	return nil
}
