package program

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"math"
)

const (
	magic        = "ECADPROG"
	versionMajor = 1
	versionMinor = 1 // qk_norm_rope came with it
	headerBytes  = 128
	bufferBytes  = 48
	tensorBytes  = 96
	argBytes     = 4
	opBytes      = 96
	sectionBytes = 32
	ioBytes      = 16
	scheduleSize = 16
	itemBytes    = 8
	maxShared    = 16 // longer names share no bytes, so that all together are no longer than the file
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encoder appends tables and collects names.
type encoder struct {
	out     []byte
	strings []byte
	names   map[string]uint32
}

func (e *encoder) u32(vs ...uint32) {
	for _, v := range vs {
		e.out = binary.LittleEndian.AppendUint32(e.out, v)
	}
}

func (e *encoder) u64(vs ...uint64) {
	for _, v := range vs {
		e.out = binary.LittleEndian.AppendUint64(e.out, v)
	}
}

// name appends the offset and length of s in the string table.
func (e *encoder) name(s string) {
	at, ok := e.names[s]
	if !ok {
		at = uint32(len(e.strings))
		e.strings = append(e.strings, s...)
		if len(s) <= maxShared {
			e.names[s] = at
		}
	}
	e.u32(at, uint32(len(s)))
}

func (e *encoder) pad(to int) {
	for len(e.out)%to != 0 {
		e.out = append(e.out, 0)
	}
}

// Encode is p in the program format. It fails when p breaks a rule of the format, which a Program from Finish or Decode never does.
func (p *Program) Encode() ([]byte, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	data := p.encode()
	if n := binary.LittleEndian.Uint64(data[96:]); n > maxStrings {
		return nil, errorf("%d bytes of names: at most %d", n, maxStrings)
	}
	return data, nil
}

func (p *Program) encode() []byte {
	e := &encoder{out: make([]byte, headerBytes), names: map[string]uint32{}}
	args, items := 0, 0
	for i := range p.Buffers {
		e.buffer(&p.Buffers[i])
	}
	e.pad(8)
	for i := range p.Tensors {
		e.tensor(&p.Tensors[i])
	}
	e.pad(8)
	for i := range p.Ops {
		e.u32(p.Ops[i].In...)
		e.u32(p.Ops[i].Out...)
		args += len(p.Ops[i].In) + len(p.Ops[i].Out)
	}
	e.pad(8)
	first := 0
	for i := range p.Ops {
		e.op(&p.Ops[i], first)
		first += len(p.Ops[i].In) + len(p.Ops[i].Out)
	}
	for _, s := range p.Sections {
		e.u32(uint32(s.Kind), uint32(s.First), uint32(s.Count))
		e.name(s.Name)
		e.u32(0)
		e.u64(0)
	}
	for _, io := range p.IOs {
		e.name(io.Name)
		e.u32(io.Tensor, uint32(io.Direction))
	}
	for _, s := range p.Schedules {
		e.u32(uint32(items), uint32(len(s.Items)))
		e.name(s.Name)
		items += len(s.Items)
	}
	for _, s := range p.Schedules {
		for _, it := range s.Items {
			e.u32(uint32(it.Section), uint32(it.Step))
		}
	}
	e.pad(8)
	e.out = append(e.out, e.strings...)
	e.pad(alignment)
	e.out = append(e.out, p.Constants...)
	e.header(p, args, items)
	return e.out
}

func (e *encoder) buffer(b *Buffer) {
	flags := uint32(0)
	if b.Slot {
		flags = slotFlag
	}
	e.u32(uint32(b.Kind), flags)
	e.u64(uint64(b.Bytes), uint64(b.Offset))
	e.name(b.Name)
	e.u32(uint32(int32(b.Block)), uint32(int32(b.Component)))
	e.u64(0)
}

func (e *encoder) tensor(v *View) {
	e.u32(v.Buffer, uint32(v.DType), uint32(v.Rank), 0)
	for _, d := range v.Dims {
		e.u64(uint64(d))
	}
	for _, s := range v.Strides {
		e.u64(uint64(s))
	}
	e.u64(uint64(v.Offset), uint64(v.StepStride))
}

func (e *encoder) op(o *Op, firstArg int) {
	e.u32(uint32(o.Code), 0, uint32(firstArg), uint32(len(o.In))|uint32(len(o.Out))<<16)
	e.u32(uint32(int32(o.Block)), uint32(int32(o.Component)))
	e.name(o.Name)
	for _, a := range o.Attr {
		e.u32(uint32(a))
	}
	for _, f := range o.FAttr {
		e.u64(math.Float64bits(f))
	}
	e.u64(0)
}

func (e *encoder) header(p *Program, args, items int) {
	le := binary.LittleEndian
	h := e.out[:headerBytes]
	copy(h, magic)
	le.PutUint32(h[8:], versionMajor)
	le.PutUint32(h[12:], p.minorVersion())
	le.PutUint64(h[16:], uint64(len(e.out)))
	copy(h[24:56], p.LayoutHash[:])
	for i, n := range [...]int{p.Steps, len(p.Buffers), len(p.Tensors), args, len(p.Ops), len(p.Sections), len(p.IOs), len(p.Schedules), items} {
		le.PutUint32(h[56+4*i:], uint32(n))
	}
	le.PutUint32(h[92:], crc32.Checksum(e.out[headerBytes:], castagnoli))
	le.PutUint64(h[96:], uint64(len(e.strings)))
	le.PutUint64(h[104:], uint64(len(p.Constants)))
	le.PutUint64(h[112:], uint64(p.ArenaBytes))
}

// minorVersion is the least one that has all of p's opcodes, so that older libraries run what they can.
func (p *Program) minorVersion() uint32 {
	for i := range p.Ops {
		if p.Ops[i].Code == OpQKNormRope {
			return versionMinor
		}
	}
	return 0
}

// layoutHash is the SHA-256 of arena bytes, steps and the persistent buffers.
func (p *Program) layoutHash() [32]byte {
	e := &encoder{names: map[string]uint32{}}
	e.u64(uint64(p.ArenaBytes))
	e.u32(uint32(p.Steps))
	for i := range p.Buffers {
		b := &p.Buffers[i]
		if b.Kind != Persistent {
			continue
		}
		at := len(e.out)
		e.buffer(b)
		binary.LittleEndian.PutUint32(e.out[at+24:], 0)
		e.out = append(e.out, b.Name...)
	}
	return sha256.Sum256(e.out)
}
