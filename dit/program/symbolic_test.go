package program_test

import (
	"encoding/binary"
	"hash/fnv"
	"math"

	"ecadx/dit/program"
)

// machine runs a program over symbols: every byte of memory holds a number that stands for how it was computed, so that two programs
// compute the same exactly when their outputs hold the same numbers (up to 64-bit hash collisions). It is the slow twin of everything
// that Finish does.
type machine struct {
	p         *program.Program
	arena     []uint64
	state     map[string][]uint64 // by name of the persistent buffer
	poison    uint64
	readZeros bool // read lincomb terms whose coefficient is 0, which Finish may take for reads
}

func newMachine(p *program.Program) *machine {
	return &machine{p: p, arena: make([]uint64, p.ArenaBytes), state: map[string][]uint64{}}
}

func mix(parts ...uint64) uint64 {
	h := uint64(len(parts))
	for _, x := range parts {
		h += x + 0x9E3779B97F4A7C15 // a splitmix64 step per part
		h = (h ^ h>>30) * 0xBF58476D1CE4E5B9
		h = (h ^ h>>27) * 0x94D049BB133111EB
		h ^= h >> 31
	}
	return h
}

func word(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

// memory is the symbols of buffer id; what nobody wrote yet stands for itself.
func (m *machine) memory(id uint32) []uint64 {
	b := &m.p.Buffers[id]
	switch b.Kind {
	case program.Arena:
		return m.arena[b.Offset : b.Offset+b.Bytes]
	case program.Persistent:
		mem := m.state[b.Name]
		if mem == nil {
			mem = make([]uint64, b.Bytes)
			for i := range mem {
				mem[i] = mix(word(b.Name), uint64(i%(4*genC))) // in every row alike: Finish may leave out the first ones
			}
			m.state[b.Name] = mem
		}
		return mem
	case program.Constant:
		mem := make([]uint64, b.Bytes)
		for i := range mem {
			mem[i] = uint64(m.p.Constants[b.Offset+int64(i)])
		}
		return mem
	}
	return nil
}

// elements calls f with the place of each element of v in row-major order.
func elements(v *program.View, step int, f func(at int64)) {
	for a := int64(0); a < v.Dims[0]; a++ {
		for b := int64(0); b < v.Dims[1]; b++ {
			for c := int64(0); c < v.Dims[2]; c++ {
				for d := int64(0); d < v.Dims[3]; d++ {
					f(v.Offset + a*v.Strides[0] + b*v.Strides[1] + c*v.Strides[2] + d*v.Strides[3] + int64(step)*v.StepStride)
				}
			}
		}
	}
}

const noTensor = ^uint32(0)

// read is one number for all that the tensor holds.
func (m *machine) read(id uint32, step int) uint64 {
	if id == noTensor {
		return 0
	}
	return m.readView(&m.p.Tensors[id], step)
}

func (m *machine) readView(v *program.View, step int) uint64 {
	b := &m.p.Buffers[v.Buffer]
	if b.Kind == program.Weight {
		return word(b.Name)
	}
	mem, size := m.memory(v.Buffer), v.DType.Size()
	h := uint64(1)
	elements(v, step, func(at int64) {
		for k := int64(0); k < size; k++ {
			h = h*0x9E3779B97F4A7C15 + mem[at*size+k] + 1
			h ^= h >> 29
		}
	})
	return h
}

// row is the view of row i of sample b of a tensor [B,N,C].
func row(v *program.View, b, i int64) *program.View {
	r := *v
	r.Offset += b*v.Strides[0] + i*v.Strides[1]
	r.Dims[0], r.Dims[1] = 1, 1
	return &r
}

// byRows runs an op that makes every row of its outputs [B,N,C] from the same row of some inputs and the whole of the others; false if op is none, or of
// another rank.
func (m *machine) byRows(op *program.Op, parts []uint64, step int) bool {
	terms := 1
	perRow := func(i int) bool { return i == 0 }
	switch op.Code {
	case program.OpUnary, program.OpCopy:
	case program.OpLinear:
		perRow = func(i int) bool { return i < int(op.Attr[0]) }
	case program.OpChain:
		terms = 1 + 2*int(op.Attr[0])
		perRow = func(i int) bool { return i < terms && (i == 0 || i%2 == 1) }
	default:
		return false
	}
	x := m.p.Operand(op.In[0])
	if x.Rank != 3 {
		return false
	}
	type made struct {
		at    *program.View
		value uint64
	}
	var rows []made // written when all are read: ops work in place
	for b := range x.Dims[0] {
		for i := range x.Dims[1] {
			h := append([]uint64(nil), parts...)
			values := make([]uint64, len(op.In))
			for k, id := range op.In {
				if perRow(k) {
					values[k] = m.readView(row(m.p.Operand(id), b, i), step)
				} else {
					values[k] = m.read(id, step)
				}
			}
			if op.Code != program.OpChain {
				rows = append(rows, made{row(m.p.Operand(op.Out[0]), b, i), mix(append(h, values...)...)})
				continue
			}
			sum := mix(append([]uint64{uint64(op.Code)}, values[:terms]...)...) // x' depends on less than y
			if v := m.p.Operand(op.Out[0]); v != nil {
				rows = append(rows, made{row(v, b, i), sum})
			}
			if v := m.p.Operand(op.Out[1]); v != nil {
				rows = append(rows, made{row(v, b, i), mix(append(append(h, sum), values[terms:]...)...)})
			}
		}
	}
	for _, r := range rows {
		m.writeView(r.at, step, r.value)
	}
	return true
}

func (m *machine) write(id uint32, step int, value uint64) {
	if id == noTensor {
		return
	}
	m.writeView(&m.p.Tensors[id], step, value)
}

func (m *machine) writeView(v *program.View, step int, value uint64) {
	mem, size := m.memory(v.Buffer), v.DType.Size()
	n := uint64(0)
	elements(v, step, func(at int64) {
		for k := int64(0); k < size; k++ {
			mem[at*size+k] = mix(value, n)
			n++
		}
	})
}

func (m *machine) coefficient(id uint32, i, step int) float64 {
	v := &m.p.Tensors[id]
	b := &m.p.Buffers[v.Buffer]
	at := b.Offset + 8*(v.Offset+int64(i)*v.Strides[0]+int64(step)*v.StepStride)
	return math.Float64frombits(binary.LittleEndian.Uint64(m.p.Constants[at:]))
}

func (m *machine) op(op *program.Op, step int) {
	parts := []uint64{uint64(op.Code)}
	attrs := []uint64{}
	for _, a := range op.Attr {
		attrs = append(attrs, uint64(uint32(a)))
	}
	for _, f := range op.FAttr {
		attrs = append(attrs, math.Float64bits(f))
	}
	parts = append(parts, attrs...)
	if m.byRows(op, parts, step) {
		return
	}
	for i, id := range op.In {
		if op.Code == program.OpLincomb && i < int(op.Attr[0]) {
			if m.coefficient(op.In[op.Attr[0]], i, step) == 0 && !m.readZeros {
				parts = append(parts, 0)
				continue
			}
		}
		parts = append(parts, m.read(id, step))
	}
	for i, id := range op.Out {
		m.write(id, step, mix(append(parts, uint64(i))...))
	}
}

// run runs a schedule. The arena is poisoned before every section with numbers that differ from section to section.
func (m *machine) run(items []program.Item) {
	for _, it := range items {
		for i := range m.arena {
			m.poison++
			m.arena[i] = mix(word("poison"), m.poison)
		}
		ops := m.p.SectionOps(int(it.Section))
		for i := range ops {
			m.op(&ops[i], it.Step)
		}
	}
}

// outputs is what the caller can read after a run.
func (m *machine) outputs() map[string]uint64 {
	out := map[string]uint64{}
	for _, io := range m.p.IOs {
		if io.Direction&program.Out != 0 {
			out[io.Name] = m.read(io.Tensor, 0)
		}
	}
	return out
}
