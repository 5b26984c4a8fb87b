package program

// Limits of the program format.
const (
	maxTable    = 1 << 20 // buffers, tensors, ops, items
	maxArgs     = 1 << 22
	maxShort    = 1 << 16 // sections, ios, schedules
	maxStrings  = 1 << 24
	maxBytes    = 1 << 48 // buffer and arena bytes, tensor offsets
	maxDim      = 1<<31 - 1
	maxCount    = 1 << 40
	maxRank     = 4
	maxName     = 255
	maxParts    = 64      // inputs, weights of a linear
	maxTerms    = 4096    // of a chain, of a lincomb
	maxExtent   = 1 << 15 // heads, patches, strides, factors
	maxIOName   = 63
	alignment   = 64
	slotFlag    = 1
	numAttrs    = 8
	numFAttrs   = 3
	absent      = ^uint32(0) // an optional operand that is not there
	noComponent = -1
)

// Program is what libecad runs, as tables. A Program from [Builder.Finish] or [Decode] obeys every rule of
// kernels/PROGRAM.md; treat it as read-only. It may be shared by goroutines.
type Program struct {
	Steps      int
	ArenaBytes int64
	LayoutHash [32]byte // equal hashes: one state fits both programs
	Buffers    []Buffer
	Tensors    []View
	Ops        []Op
	Sections   []Section
	IOs        []IO
	Schedules  []Schedule
	Constants  []byte

	report *report // what Finish did; nil for decoded programs
}

// Buffer is a piece of memory that tensors view.
type Buffer struct {
	Kind      BufferKind
	Slot      bool  // a cache slot; persistent buffers only
	Bytes     int64 // 0 for weights
	Offset    int64 // into the arena or the constants
	Name      string
	Block     int // of a slot, else -1
	Component int // of a slot, else -1
}

// View is a tensor: a strided window of a buffer. Dims, strides and offsets count elements.
type View struct {
	Buffer     uint32
	DType      DType
	Rank       int
	Dims       [maxRank]int64 // unused: 1
	Strides    [maxRank]int64 // unused: 0
	Offset     int64
	StepStride int64 // added per step index
}

// Op is one operation. In and Out index Tensors; an absent optional operand is ^uint32(0).
type Op struct {
	Code      Opcode
	Block     int // -1: none
	Component int // -1: none
	Name      string
	Attr      [numAttrs]int32
	FAttr     [numFAttrs]float64
	In, Out   []uint32
}

// Section is a run of ops: Ops[First : First+Count].
type Section struct {
	Kind  SectionKind
	Name  string
	First int
	Count int
}

// IO names a tensor that the caller writes before a run or reads after it.
type IO struct {
	Name      string
	Tensor    uint32
	Direction Direction
}

// Item is one section run at one step index.
type Item struct {
	Section SectionID
	Step    int
}

// SectionID is the index of a section in a program.
type SectionID int

// Schedule is the list of items that makes one run.
type Schedule struct {
	Name  string
	Items []Item
}

// SectionOps are the ops of section i.
func (p *Program) SectionOps(i int) []Op {
	s := p.Sections[i]
	return p.Ops[s.First : s.First+s.Count]
}

// Operand is the view of an op's operand, nil where an optional one is absent.
func (p *Program) Operand(id uint32) *View {
	if id == absent {
		return nil
	}
	return &p.Tensors[id]
}

// Count is the number of elements.
func (v *View) Count() int64 { return v.Dims[0] * v.Dims[1] * v.Dims[2] * v.Dims[3] }

// Shape is a copy of the used dims.
func (v *View) Shape() []int64 { return append([]int64(nil), v.Dims[:v.Rank]...) }

// last is the last dim.
func (v *View) last() int64 { return v.Dims[v.Rank-1] }

// rows is the product of all dims but the last.
func (v *View) rows() int64 { return v.Count() / v.last() }

// dense says whether the elements follow each other without gaps in row-major order.
func (v *View) dense() bool {
	want := int64(1)
	for i := v.Rank - 1; i >= 0; i-- {
		if v.Dims[i] != 1 && v.Strides[i] != want {
			return false
		}
		want *= v.Dims[i]
	}
	return true
}

// extent is the distance from the first element to one past the last, at one step.
func (v *View) extent() int64 {
	e := int64(1)
	for i := 0; i < v.Rank; i++ {
		e += (v.Dims[i] - 1) * v.Strides[i]
	}
	return e
}

// whole says whether v covers all bytes of b, in order.
func (v *View) whole(b *Buffer) bool {
	return v.Offset == 0 && v.StepStride == 0 && v.dense() && v.Count()*v.DType.Size() == b.Bytes
}

// comb is a view as teeth of inner bytes that start at start plus multiples of pitch (0: one tooth) and end before end.
type comb struct{ start, inner, pitch, end int64 }

func combOf(v *View, steps int) comb {
	inner, pitch := int64(1), int64(0)
	for i := v.Rank - 1; i >= 0; i-- {
		switch {
		case v.Dims[i] == 1:
		case pitch == 0 && v.Strides[i] == inner:
			inner *= v.Dims[i]
		default:
			pitch = gcd(pitch, v.Strides[i])
		}
	}
	if steps > 1 {
		pitch = gcd(pitch, v.StepStride)
	}
	size := v.DType.Size()
	return comb{v.Offset * size, inner * size, pitch * size, (v.Offset + v.extent() + v.StepStride*int64(steps-1)) * size}
}

// mayShare says whether two views of one buffer can touch the same byte at some step. It errs on the side of true: it knows disjoint
// ranges and disjoint columns of rows with a common pitch, which is what slices make. The rule is libecad's (kernels/core/view.cpp).
func mayShare(a, b *View, steps int) bool {
	if a.Buffer != b.Buffer {
		return false
	}
	p, q := combOf(a, steps), combOf(b, steps)
	if p.end <= q.start || q.end <= p.start {
		return false
	}
	pitch := gcd(p.pitch, q.pitch)
	if pitch == 0 {
		return true
	}
	atP, atQ := p.start%pitch, q.start%pitch
	if atP+p.inner > pitch || atQ+q.inner > pitch {
		return true
	}
	return atP < atQ+q.inner && atQ < atP+p.inner
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func alignUp(n int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }
