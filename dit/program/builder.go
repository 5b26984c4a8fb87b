package program

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// maxErrors is how many mistakes a Builder reports before it stops listing.
const maxErrors = 10

// Tensor is a handle to a view inside one Builder: a small value, compared with ==. The zero Tensor stands for an absent optional
// operand, and for "make one" where an op's output is asked for.
type Tensor struct {
	id    int32 // index into the builder's tensors + 1; 0: absent; -1: result of a mistake already reported
	dtype DType
	rank  int8
	dims  [maxRank]int64
}

// DType is the element type, Any for weights.
func (t Tensor) DType() DType { return t.dtype }

// Rank is the number of dims, 0 for the zero Tensor.
func (t Tensor) Rank() int { return int(t.rank) }

// Dims are the dims.
func (t Tensor) Dims() []int {
	dims := make([]int, t.rank)
	for i := range dims {
		dims[i] = int(t.dims[i])
	}
	return dims
}

// Dim is dim i, from the end when i is negative; 1 where there is none.
func (t Tensor) Dim(i int) int {
	if i < 0 {
		i += int(t.rank)
	}
	if i < 0 || i >= int(t.rank) {
		return 1
	}
	return int(t.dims[i])
}

// Present says whether t is a tensor and not the zero value.
func (t Tensor) Present() bool { return t.id != 0 }

func (t Tensor) bad() bool { return t.id < 0 }

func (t Tensor) String() string {
	if t.id == 0 {
		return "nothing"
	}
	return dimsText(t.dims[:t.rank]) + t.dtype.String()
}

// Builder collects a program: storage, views, sections of ops, schedules. Mistakes are collected too, and told by Finish, so that
// code that builds a model reads like a model. Not for concurrent use.
type Builder struct {
	steps     int
	buffers   []Buffer
	data      [][]byte // of constant buffers
	tensors   []View
	tensorIDs map[View]int32
	weights   map[string]Tensor
	constants map[string]uint32 // content to buffer
	names     map[string]bool   // of persistent buffers
	ops       []Op
	sections  []Section
	sectionBy map[string]SectionID // content to section
	ios       []IO
	schedules []Schedule

	open      bool // between Begin and End
	block     int
	component int

	keepAll bool
	keep    map[uint32]bool // persistent buffers whose content another program reads or writes
	reserve int64           // least arena bytes
	match   *Program

	errs    []error
	dropped int
}

// NewBuilder starts a program whose step indices are 0 to steps-1.
func NewBuilder(steps int) *Builder {
	b := &Builder{steps: steps, tensorIDs: map[View]int32{}, weights: map[string]Tensor{}, constants: map[string]uint32{},
		names: map[string]bool{}, sectionBy: map[string]SectionID{}, keep: map[uint32]bool{}, block: -1, component: noComponent}
	if steps < 1 || steps > maxTable {
		b.errorf("%d steps: wants 1 to %d", steps, maxTable)
		b.steps = 1
	}
	return b
}

// Steps is the number of steps.
func (b *Builder) Steps() int { return b.steps }

// Err is what went wrong so far, nil if nothing. Finish returns it as well.
func (b *Builder) Err() error {
	errs := b.errs
	if b.dropped > 0 {
		errs = append(errs[:len(errs):len(errs)], fmt.Errorf("program: %d more mistakes", b.dropped))
	}
	return errors.Join(errs...)
}

func (b *Builder) errorf(format string, args ...any) {
	if len(b.errs) >= maxErrors {
		b.dropped++
		return
	}
	where := ""
	if b.open {
		where = fmt.Sprintf("section %q: ", b.sections[len(b.sections)-1].Name)
	}
	b.errs = append(b.errs, fmt.Errorf("program: %s%w", where, fmt.Errorf(format, args...)))
}

func badTensor(dt DType, rank int) Tensor {
	t := Tensor{id: -1, dtype: dt, rank: int8(min(max(rank, 1), maxRank))}
	for i := range t.dims {
		t.dims[i] = 1
	}
	return t
}

// Activation makes scratch memory of the section it is used in; Finish places it in the arena. Its content ends with the section.
func (b *Builder) Activation(dt DType, dims ...int) Tensor {
	return b.storage(Buffer{Kind: Arena, Block: -1, Component: noComponent}, dt, dims)
}

// Persistent makes a buffer of the state: it keeps its content between sections. name is shown in errors and must be new. A persistent
// buffer that is no io and that no section reads before writing it becomes an activation at Finish.
func (b *Builder) Persistent(name string, dt DType, dims ...int) Tensor {
	return b.persistent(Buffer{Kind: Persistent, Name: name, Block: -1, Component: noComponent}, dt, dims)
}

// Slot makes the cache slot of a component: a persistent buffer that reports count as such.
func (b *Builder) Slot(block, component int, name string, dt DType, dims ...int) Tensor {
	if block < 0 || component < 0 {
		b.errorf("slot %q of block %d, component %d: wants 0 or more", name, block, component)
		return badTensor(dt, len(dims))
	}
	return b.persistent(Buffer{Kind: Persistent, Slot: true, Name: name, Block: block, Component: component}, dt, dims)
}

func (b *Builder) persistent(buf Buffer, dt DType, dims []int) Tensor {
	if buf.Name == "" || !validName(buf.Name) || b.names[buf.Name] {
		b.errorf("persistent buffer %q: wants a name not taken, of 1 to %d bytes of UTF-8", buf.Name, maxName)
		return badTensor(dt, len(dims))
	}
	b.names[buf.Name] = true
	return b.storage(buf, dt, dims)
}

// storage makes a buffer and its whole view.
func (b *Builder) storage(buf Buffer, dt DType, dims []int) Tensor {
	what := buf.Kind.String()
	if buf.Name != "" {
		what += fmt.Sprintf(" %q", buf.Name)
	}
	if (dt == Any) != (buf.Kind == Weight) || dt >= numDTypes {
		b.errorf("%s of dtype %v: not possible", what, dt)
		return badTensor(dt, len(dims))
	}
	v := View{Buffer: uint32(len(b.buffers)), DType: dt, Rank: len(dims)}
	if !b.setDims(what, &v, dims) {
		return badTensor(dt, len(dims))
	}
	buf.Bytes = v.Count() * dt.Size()
	b.buffers = append(b.buffers, buf)
	b.data = append(b.data, nil)
	return b.tensor(v)
}

// setDims makes v dense with the given dims.
func (b *Builder) setDims(what string, v *View, dims []int) bool {
	if len(dims) < 1 || len(dims) > maxRank {
		b.errorf("%s of dims %v: wants rank 1 to %d", what, dims, maxRank)
		return false
	}
	count := int64(1)
	for _, d := range dims {
		if d < 1 || int64(d) > maxDim {
			b.errorf("%s of dims %v: dims must be 1 to %d", what, dims, int64(maxDim))
			return false
		}
		if count *= int64(d); count > maxCount {
			b.errorf("%s of dims %v: more than %d elements", what, dims, int64(maxCount))
			return false
		}
	}
	v.Rank = len(dims)
	v.Dims, v.Strides = [maxRank]int64{1, 1, 1, 1}, [maxRank]int64{}
	stride := int64(1)
	for i := len(dims) - 1; i >= 0; i-- {
		v.Dims[i], v.Strides[i] = int64(dims[i]), stride
		stride *= int64(dims[i])
	}
	return true
}

// tensor is the handle of v; equal views share one.
func (b *Builder) tensor(v View) Tensor {
	id, ok := b.tensorIDs[v]
	if !ok {
		b.tensors = append(b.tensors, v)
		id = int32(len(b.tensors))
		b.tensorIDs[v] = id
	}
	return Tensor{id: id, dtype: v.DType, rank: int8(v.Rank), dims: v.Dims}
}

// view is the view of t, or nil when t is absent, bad or of another builder.
func (b *Builder) view(t Tensor) *View {
	if t.id < 1 || int(t.id) > len(b.tensors) {
		return nil
	}
	return &b.tensors[t.id-1]
}

// Float32s makes a constant. Constants of equal content share memory. data is copied.
func (b *Builder) Float32s(name string, data []float32, dims ...int) Tensor {
	raw := make([]byte, 0, 4*len(data))
	for _, x := range data {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return b.constant(name, Float32, raw, dims)
}

// Float64s is as Float32s.
func (b *Builder) Float64s(name string, data []float64, dims ...int) Tensor {
	raw := make([]byte, 0, 8*len(data))
	for _, x := range data {
		raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(x))
	}
	return b.constant(name, Float64, raw, dims)
}

// Int32s is as Float32s.
func (b *Builder) Int32s(name string, data []int32, dims ...int) Tensor {
	raw := make([]byte, 0, 4*len(data))
	for _, x := range data {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(x))
	}
	return b.constant(name, Int32, raw, dims)
}

func (b *Builder) constant(name string, dt DType, raw []byte, dims []int) Tensor {
	var v View
	if !b.setDims(fmt.Sprintf("constant %q", name), &v, dims) {
		return badTensor(dt, len(dims))
	}
	if v.Count()*dt.Size() != int64(len(raw)) {
		b.errorf("constant %q of dims %v: got %d values", name, dims, int64(len(raw))/dt.Size())
		return badTensor(dt, len(dims))
	}
	if !validName(name) {
		b.errorf("constant %q: its name is not UTF-8 of at most %d bytes", name, maxName)
		return badTensor(dt, len(dims))
	}
	id, ok := b.constants[string(raw)]
	if !ok {
		id = uint32(len(b.buffers))
		b.buffers = append(b.buffers, Buffer{Kind: Constant, Bytes: int64(len(raw)), Name: name, Block: -1, Component: noComponent})
		b.data = append(b.data, raw)
		b.constants[string(raw)] = id
	}
	v.Buffer, v.DType = id, dt
	return b.tensor(v)
}

// Weight is the checkpoint's tensor of that key. All uses of a key give the same dims; the stored shape may differ from them by dims of 1, or be
// a matrix [N,K] where dims are those of N filters of K values.
func (b *Builder) Weight(key string, dims ...int) Tensor {
	if t, ok := b.weights[key]; ok {
		want := make([]int, t.rank)
		copy(want, t.Dims())
		if fmt.Sprint(want) != fmt.Sprint(dims) {
			b.errorf("weight %q asked for as %v and as %v: one shape per key", key, want, dims)
			return badTensor(Any, len(dims))
		}
		return t
	}
	if key == "" || !validName(key) {
		b.errorf("weight %q: wants a key of 1 to %d bytes of UTF-8", key, maxName)
		return badTensor(Any, len(dims))
	}
	t := b.storage(Buffer{Kind: Weight, Name: key, Block: -1, Component: noComponent}, Any, dims)
	if !t.bad() {
		b.weights[key] = t
	}
	return t
}

// Input makes t, a whole persistent buffer, one that the caller writes before a run.
func (b *Builder) Input(name string, t Tensor) { b.io(name, t, In) }

// Output makes t, a whole persistent buffer, one that the caller reads after a run.
func (b *Builder) Output(name string, t Tensor) { b.io(name, t, Out) }

// InOut is both Input and Output: latents.
func (b *Builder) InOut(name string, t Tensor) { b.io(name, t, InOut) }

func (b *Builder) io(name string, t Tensor, dir Direction) {
	if t.bad() {
		return
	}
	v := b.view(t)
	if v == nil || b.buffers[v.Buffer].Kind != Persistent || !v.whole(&b.buffers[v.Buffer]) {
		b.errorf("io %q: wants a whole persistent buffer, not %v", name, t)
		return
	}
	if !validIOName(name) {
		b.errorf("io %q: wants a name of 1 to %d bytes of UTF-8", name, maxIOName)
		return
	}
	for _, o := range b.ios {
		if o.Name == name {
			b.errorf("io %q is there already", name)
			return
		}
	}
	b.ios = append(b.ios, IO{Name: name, Tensor: uint32(t.id - 1), Direction: dir})
}

// KeepAllSlots keeps every persistent buffer in the layout, read or not, so that programs compiled apart from each other share one
// layout. Dead writes are still removed.
func (b *Builder) KeepAllSlots() { b.keepAll = true }

// Keep says that other programs on the same state read and write the persistent buffers of ts: they stay, their last content counts as
// read, and reading them first is no mistake.
func (b *Builder) Keep(ts ...Tensor) {
	for _, t := range ts {
		if t.bad() {
			continue
		}
		v := b.view(t)
		if v == nil || b.buffers[v.Buffer].Kind != Persistent {
			b.errorf("keep: %v is not in a persistent buffer", t)
			continue
		}
		b.keep[v.Buffer] = true
	}
}

// ReserveArena makes the arena at least so many bytes, for the same purpose as KeepAllSlots.
func (b *Builder) ReserveArena(bytes int64) {
	if bytes < 0 || bytes > maxBytes {
		b.errorf("reserve arena: %d bytes", bytes)
		return
	}
	b.reserve = max(b.reserve, alignUp(bytes))
}

// MatchLayout makes Finish give the program the layout of p: the same persistent buffers, kept in any case, and the same arena size.
// Finish fails when the two cannot be made equal.
func (b *Builder) MatchLayout(p *Program) { b.match = p }
