package program

// Readers of a tensor [B,N,C] may take a part of its N rows, as the last norm of a model takes the rows of the image, and most ops make row i of what they
// write from row i of what they read. So where nobody reads the other rows, such an op need not make them, nor read what they are made of. narrow finds these
// rows for each buffer at once, over all sections: the least set that holds what its readers take and what its writers cannot leave out.

// span is the rows from..to-1.
type span struct{ from, to int64 }

func (s span) empty() bool { return s.from >= s.to }
func (s span) rows() int64 { return s.to - s.from }

// hull is the least span that holds both.
func (s span) hull(t span) span {
	switch {
	case s.empty():
		return t
	case t.empty():
		return s
	}
	return span{min(s.from, t.from), max(s.to, t.to)}
}

// frame is how the rows of a buffer lie: [batch,rows,width], dense. No rows: it is not looked at as rows, and all of it is wanted.
type frame struct {
	rows, width int64
	wanted      span
}

// NarrowedOp is an op that Finish made to work on some of its rows only, because nobody reads the others.
type NarrowedOp struct {
	Section          SectionID
	Block, Component int
	Name             string
	Code             Opcode
	Rows, Of         int64 // of each sample
	Saved            Cost
}

// narrowing finds the rows that are wanted.
type narrowing struct {
	*flow
	frames []frame // by buffer
	views  []View  // the builder's tensors, as they are after narrowing, and new ones
	ids    map[View]uint32
	whole  map[*Op]bool // ops that live, though nobody reads a row of theirs: they stay as they are
	grew   bool
	done   []NarrowedOp
}

// narrow takes rows that nobody reads out of the ops of f's sections and out of the buffers that hold them.
func (f *flow) narrow() *narrowing {
	n := &narrowing{flow: f, frames: make([]frame, len(f.b.buffers)), views: append([]View(nil), f.b.tensors...), ids: map[View]uint32{}, whole: map[*Op]bool{}}
	n.layOut()
	for n.grew = true; n.grew; {
		n.grew = false
		n.each(n.spread)
		if !n.grew {
			n.each(n.settle)
		}
	}
	n.each(n.take)
	n.shrink()
	return n
}

// each calls visit with every living op, the last of a section first.
func (n *narrowing) each(visit func(section int, op *Op)) {
	for i := range n.sections {
		s := &n.sections[i]
		for k := len(s.ops) - 1; k >= 0; k-- {
			if s.alive[k] {
				visit(i, &s.ops[k])
			}
		}
	}
}

// layOut finds the buffers that are rows by their first view, which is the one that they were made with. What the caller reads or writes stays whole, and of a
// layout that is given the rows that it has.
func (n *narrowing) layOut() {
	b := n.b
	seen := make([]bool, len(b.buffers))
	for i := range b.tensors {
		v := &b.tensors[i]
		kind := b.buffers[v.Buffer].Kind
		if first := !seen[v.Buffer]; first && v.Rank == 3 && v.Dims[1] > 1 && (kind == Arena || kind == Persistent) {
			n.frames[v.Buffer] = frame{rows: v.Dims[1], width: v.Dims[2]}
		}
		seen[v.Buffer] = true
	}
	keepAll := func(buffer uint32) { n.frames[buffer] = frame{} }
	for _, io := range b.ios {
		keepAll(b.tensors[io.Tensor].Buffer)
	}
	for buffer := range b.keep {
		keepAll(buffer)
	}
	if b.match == nil {
		return
	}
	for _, buffer := range n.persistent {
		if rows := b.match.keptRows(b.buffers[buffer].Name); rows.empty() {
			keepAll(buffer)
		} else {
			n.frames[buffer].wanted = rows
		}
	}
}

// keptRows are the rows that a persistent buffer was narrowed to, none if it was not.
func (p *Program) keptRows(name string) span {
	if p.report == nil {
		return span{}
	}
	return p.report.rows[name]
}

// place is where a view lies among the rows of its buffer, false if it is no plain run of rows.
func (n *narrowing) place(v *View) (span, bool) {
	f := &n.frames[v.Buffer]
	sample := f.rows * f.width
	if f.rows == 0 || v.Rank != 3 || v.StepStride != 0 || (v.Dims[0] > 1 && v.Strides[0] != sample) || (v.Dims[1] > 1 && v.Strides[1] != f.width) {
		return span{}, false
	}
	from := v.Offset % sample / f.width
	if from+v.Dims[1] > f.rows || v.Offset%f.width+v.Dims[2] > f.width {
		return span{}, false
	}
	return span{from, from + v.Dims[1]}, true
}

// want makes rows of a view wanted, counted from its first; those of a view that is no run of rows want the whole buffer.
func (n *narrowing) want(id uint32, rows span) {
	v := &n.views[id]
	f := &n.frames[v.Buffer]
	if f.rows == 0 {
		return
	}
	at, ok := n.place(v)
	if ok {
		at = span{at.from + rows.from, at.from + rows.to}
	} else {
		at = span{0, f.rows}
	}
	if sum := f.wanted.hull(at); sum != f.wanted {
		f.wanted = sum
		n.grew = true
	}
}

// rowWise says whether op makes row i of its outputs from row i of the inputs that ofRow names, and from nothing else that has rows.
func (n *narrowing) rowWise(op *Op) bool {
	switch op.Code {
	case OpCopy, OpUnary, OpLinear, OpGatedLinear, OpChain:
	case OpAttention: // a causal one and one with a bias depend on where a query stands
		if op.Attr[2] != 0 || op.In[4] != absent {
			return false
		}
	default:
		return false
	}
	for i, id := range op.In {
		if ofRow(op, i) && (n.views[id].Rank != 3 || n.b.buffers[n.views[id].Buffer].Kind == Weight) {
			return false
		}
	}
	return true
}

// ofRow says whether input i of a row-wise op has the rows of its outputs: x of most, queries, all x of a linear, x and terms of a chain.
func ofRow(op *Op, i int) bool {
	switch op.Code {
	case OpLinear:
		return i < int(op.Attr[0])
	case OpChain:
		return i == 0 || i%2 == 1 && i < 1+2*int(op.Attr[0])
	}
	return i == 0
}

// needed are the rows of op's outputs that somebody wants, and how many they have.
func (n *narrowing) needed(op *Op) (rows span, of int64) {
	for _, id := range op.Out {
		if id == absent {
			continue
		}
		v := &n.views[id]
		of = v.Dims[1]
		at, ok := n.place(v)
		if !ok || n.whole[op] {
			return span{0, of}, of
		}
		w := n.frames[v.Buffer].wanted
		rows = rows.hull(span{max(w.from, at.from) - at.from, min(w.to, at.to) - at.from})
	}
	return rows, of
}

// spread makes wanted what op needs for the rows of its outputs that are.
func (n *narrowing) spread(_ int, op *Op) {
	rowWise, rows := n.rowWise(op), span{}
	if rowWise {
		if rows, _ = n.needed(op); rows.empty() {
			return
		}
	}
	for i, id := range op.In {
		switch {
		case id == absent:
		case rowWise && ofRow(op, i):
			n.want(id, rows)
		default:
			n.want(id, span{0, n.views[id].Dims[1]})
		}
	}
	for _, id := range op.Out { // all that is written has a place; two outputs are made together
		switch {
		case id == absent:
		case rowWise:
			n.want(id, rows)
		default:
			n.want(id, span{0, n.views[id].Dims[1]})
		}
	}
}

// settle leaves an op whole that lives, though nobody was found to read its rows.
func (n *narrowing) settle(_ int, op *Op) {
	if !n.rowWise(op) {
		return
	}
	if rows, _ := n.needed(op); rows.empty() {
		n.whole[op], n.grew = true, true
	}
}

// take makes op work on the rows that are wanted.
func (n *narrowing) take(section int, op *Op) {
	if !n.rowWise(op) {
		return
	}
	rows, of := n.needed(op)
	if rows.rows() == of {
		return
	}
	before := costOf(op, n.views)
	op.In, op.Out = append([]uint32(nil), op.In...), append([]uint32(nil), op.Out...)
	for i, id := range op.In {
		if ofRow(op, i) {
			op.In[i] = n.slice(id, rows)
		}
	}
	for i, id := range op.Out {
		if id != absent {
			op.Out[i] = n.slice(id, rows)
		}
	}
	after := costOf(op, n.views)
	n.done = append(n.done, NarrowedOp{Section: SectionID(section), Block: op.Block, Component: op.Component, Name: op.Name, Code: op.Code,
		Rows: rows.rows(), Of: of, Saved: Cost{before.Flops - after.Flops, before.Bytes - after.Bytes}})
}

// slice is the tensor of some rows of another.
func (n *narrowing) slice(id uint32, rows span) uint32 {
	v := n.views[id]
	v.Offset += rows.from * v.Strides[1]
	v.Dims[1] = rows.rows()
	at, ok := n.ids[v]
	if !ok {
		at = uint32(len(n.views))
		n.ids[v] = at
		n.views = append(n.views, v)
	}
	return at
}

// shrink gives buffers only the rows that are wanted, and moves the views there.
func (n *narrowing) shrink() {
	for i := range n.views {
		v := &n.views[i]
		f := &n.frames[v.Buffer]
		at, ok := n.place(v)
		if kept := f.wanted.rows(); ok && !f.wanted.empty() && kept < f.rows && f.wanted.hull(at) == f.wanted {
			sample := v.Offset / (f.rows * f.width)
			v.Offset = (sample*kept+at.from-f.wanted.from)*f.width + v.Offset%f.width
			v.Strides[0], v.Strides[1] = kept*f.width, f.width
		}
	}
}

// bytes of a buffer that has so many of all of its rows.
func (f *frame) bytes(all int64) int64 {
	if f.rows == 0 || f.wanted.empty() {
		return all
	}
	return all / f.rows * f.wanted.rows()
}
