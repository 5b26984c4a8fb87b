package program

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"unicode/utf8"
)

func errorf(format string, args ...any) error { return fmt.Errorf("program: "+format, args...) }

// decoder reads tables from data, whose length covers them. The first error stays.
type decoder struct {
	data    []byte
	at      int
	strings string
	named   int // bytes of all names so far
	err     error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = errorf(format, args...)
	}
}

func (d *decoder) u32() uint32 {
	v := binary.LittleEndian.Uint32(d.data[d.at:])
	d.at += 4
	return v
}

func (d *decoder) u64() uint64 {
	v := binary.LittleEndian.Uint64(d.data[d.at:])
	d.at += 8
	return v
}

// size reads a u64 that counts bytes or elements.
func (d *decoder) size(what string) int64 {
	v := d.u64()
	if v > maxBytes {
		d.fail("%s is %d: at most 2^48", what, v)
		return 0
	}
	return int64(v)
}

// zero reads a reserved field of 4 or 8 bytes.
func (d *decoder) zero(bytes int) {
	v := uint64(0)
	if bytes == 4 {
		v = uint64(d.u32())
	} else {
		v = d.u64()
	}
	if v != 0 {
		d.fail("reserved field at byte %d is %d: must be 0", d.at-bytes, v)
	}
}

func (d *decoder) pad(to int) {
	for d.at%to != 0 {
		if d.data[d.at] != 0 {
			d.fail("padding at byte %d is not 0", d.at)
		}
		d.at++
	}
}

func (d *decoder) name() string {
	at, n := uint64(d.u32()), uint64(d.u32())
	if n > maxName || at+n > uint64(len(d.strings)) {
		d.fail("name at byte %d: bytes %d to %d of %d", d.at-8, at, at+n, len(d.strings))
		return ""
	}
	s := d.strings[at : at+n]
	if d.named += int(n); d.named > len(d.data) {
		d.fail("names are longer than the file")
	}
	if !utf8.ValidString(s) {
		d.fail("name at byte %d: not UTF-8", d.at-8)
	}
	return s
}

// counts is what the header says.
type counts struct {
	minor                                                        uint32
	buffers, tensors, args, ops, sections, ios, schedules, items int
	strings, constants                                           int64
	stringsAt, constantsAt                                       int64
}

// Decode reads a program. data is untrusted: every rule of kernels/PROGRAM.md is checked before the result is returned, and memory is
// taken only in proportion to len(data). The result does not refer to data.
func Decode(data []byte) (*Program, error) {
	p := &Program{}
	c, err := decodeHeader(data, p)
	if err != nil {
		return nil, err
	}
	names := data[c.stringsAt : c.stringsAt+c.strings]
	d := &decoder{data: data, at: headerBytes, strings: string(names)}
	d.buffers(p, c)
	d.tensors(p, c)
	d.ops(p, c)
	d.runs(p, c)
	d.pad(8)
	d.at = int(c.stringsAt + c.strings)
	d.pad(alignment)
	if d.err != nil {
		return nil, d.err
	}
	p.Constants = append([]byte(nil), data[c.constantsAt:]...)
	if err := p.validate(); err != nil {
		return nil, err
	}
	if want := p.minorVersion(); c.minor != want {
		return nil, errorf("says version %d.%d, its ops are of %d.%d", versionMajor, c.minor, versionMajor, want)
	}
	return p, nil
}

func decodeHeader(data []byte, p *Program) (*counts, error) {
	if len(data) < headerBytes || string(data[:8]) != magic {
		return nil, errorf("not a program: %d bytes without the header %q", len(data), magic)
	}
	d := &decoder{data: data, at: 8}
	major, minor := d.u32(), d.u32()
	if major != versionMajor || minor > versionMinor {
		return nil, errorf("version %d.%d: this reads %d.0 to %d.%d", major, minor, versionMajor, versionMajor, versionMinor)
	}
	if n := d.u64(); n != uint64(len(data)) {
		return nil, errorf("header says %d bytes, there are %d", n, len(data))
	}
	d.at += copy(p.LayoutHash[:], data[24:56])
	steps := d.u32()
	c := &counts{minor: minor}
	limits := [...]struct {
		n     *int
		what  string
		limit uint32
		bytes int64
	}{{&c.buffers, "buffers", maxTable, bufferBytes}, {&c.tensors, "tensors", maxTable, tensorBytes}, {&c.args, "args", maxArgs, argBytes},
		{&c.ops, "ops", maxTable, opBytes}, {&c.sections, "sections", maxShort, sectionBytes}, {&c.ios, "ios", maxShort, ioBytes},
		{&c.schedules, "schedules", maxShort, scheduleSize}, {&c.items, "items", maxTable, itemBytes}}
	at := int64(headerBytes)
	for _, l := range limits {
		n := d.u32()
		if n > l.limit {
			return nil, errorf("%d %s: at most %d", n, l.what, l.limit)
		}
		*l.n = int(n)
		at = (at + 7) &^ 7
		at += int64(n) * l.bytes
	}
	crc := d.u32()
	c.strings, c.constants, p.ArenaBytes = d.size("string bytes"), d.size("constant bytes"), d.size("arena bytes")
	d.zero(8)
	if d.err != nil {
		return nil, d.err
	}
	if c.strings > maxStrings {
		return nil, errorf("%d bytes of names: at most %d", c.strings, maxStrings)
	}
	if steps < 1 || steps > maxDim {
		return nil, errorf("%d steps: wants 1 to %d", steps, int64(maxDim))
	}
	p.Steps = int(steps)
	c.stringsAt = (at + 7) &^ 7
	c.constantsAt = alignUp(c.stringsAt + c.strings)
	if end := c.constantsAt + c.constants; end != int64(len(data)) {
		return nil, errorf("tables, names and constants make %d bytes, the file has %d", end, len(data))
	}
	if got := crc32.Checksum(data[headerBytes:], castagnoli); got != crc {
		return nil, errorf("checksum %08x, the header says %08x: the bytes are damaged", got, crc)
	}
	return c, nil
}

func (d *decoder) buffers(p *Program, c *counts) {
	p.Buffers = make([]Buffer, c.buffers)
	for i := range p.Buffers {
		b := &p.Buffers[i]
		b.Kind = BufferKind(d.u32())
		flags := d.u32()
		b.Slot = flags == slotFlag
		if flags > slotFlag {
			d.fail("buffer %d: flags %#x", i, flags)
		}
		b.Bytes, b.Offset = d.size("buffer bytes"), d.size("buffer offset")
		b.Name = d.name()
		b.Block, b.Component = int(int32(d.u32())), int(int32(d.u32()))
		d.zero(8)
	}
	d.pad(8)
}

func (d *decoder) tensors(p *Program, c *counts) {
	p.Tensors = make([]View, c.tensors)
	for i := range p.Tensors {
		v := &p.Tensors[i]
		v.Buffer, v.DType = d.u32(), DType(d.u32())
		rank := d.u32()
		if rank < 1 || rank > maxRank {
			d.fail("tensor %d: rank %d", i, rank)
			return
		}
		v.Rank = int(rank)
		d.zero(4)
		for j := range v.Dims {
			v.Dims[j] = int64(d.u64())
		}
		for j := range v.Strides {
			v.Strides[j] = d.size("stride")
		}
		v.Offset, v.StepStride = d.size("tensor offset"), d.size("step stride")
	}
	d.pad(8)
}

func (d *decoder) ops(p *Program, c *counts) {
	if d.err != nil {
		return
	}
	args := make([]uint32, c.args)
	for i := range args {
		args[i] = d.u32()
	}
	d.pad(8)
	p.Ops = make([]Op, c.ops)
	next := 0
	for i := range p.Ops {
		o := &p.Ops[i]
		o.Code = Opcode(d.u32())
		d.zero(4)
		first, io := d.u32(), d.u32()
		in, out := int(io&0xffff), int(io>>16)
		if int64(first) != int64(next) || next+in+out > c.args {
			d.fail("op %d: args %d to %d of %d, wants them to start at %d", i, first, int64(first)+int64(in+out), c.args, next)
			return
		}
		mid := next + in
		o.In, o.Out = args[next:mid:mid], args[mid:mid+out:mid+out]
		next = mid + out
		o.Block, o.Component = int(int32(d.u32())), int(int32(d.u32()))
		o.Name = d.name()
		for j := range o.Attr {
			o.Attr[j] = int32(d.u32())
		}
		for j := range o.FAttr {
			o.FAttr[j] = math.Float64frombits(d.u64())
		}
		d.zero(8)
		fillOperands(o)
	}
	if next != c.args {
		d.fail("%d args belong to no op", c.args-next)
	}
}

// fillOperands puts absent operands where the writer left optional ones out at the end, so that operand i is always at place i.
func fillOperands(o *Op) {
	in, out := len(o.In), len(o.Out)
	attr := func(i int) int { return max(int(o.Attr[i]), 0) }
	switch o.Code {
	case OpLinear:
		in = attr(0) + 2*attr(1)
	case OpAttention:
		in = 5
	case OpChain:
		in, out = 1+2*attr(0)+4, 2
	case OpPatchEmbed:
		in = 4
	case OpConv2D:
		in = 3
	}
	if in > 3*len(o.In)+8 { // attributes are not checked yet; the op's rule refuses this one
		return
	}
	for len(o.In) < in {
		o.In = append(o.In, absent)
	}
	for len(o.Out) < out {
		o.Out = append(o.Out, absent)
	}
}

// runs reads sections, ios and schedules.
func (d *decoder) runs(p *Program, c *counts) {
	if d.err != nil {
		return
	}
	p.Sections = make([]Section, c.sections)
	for i := range p.Sections {
		s := &p.Sections[i]
		s.Kind, s.First, s.Count = SectionKind(d.u32()), int(d.u32()), int(d.u32())
		s.Name = d.name()
		d.zero(4)
		d.zero(8)
	}
	p.IOs = make([]IO, c.ios)
	for i := range p.IOs {
		name := d.name()
		p.IOs[i] = IO{Name: name, Tensor: d.u32(), Direction: Direction(d.u32())}
	}
	p.Schedules = make([]Schedule, c.schedules)
	next := uint64(0)
	for i := range p.Schedules {
		first, n := uint64(d.u32()), uint64(d.u32())
		if first != next || next+n > uint64(c.items) {
			d.fail("schedule %d: items %d to %d of %d, wants them to start at %d", i, first, first+n, c.items, next)
			return
		}
		next += n
		p.Schedules[i] = Schedule{Name: d.name(), Items: make([]Item, n)}
	}
	if next != uint64(c.items) {
		d.fail("%d items belong to no schedule", uint64(c.items)-next)
	}
	for i := range p.Schedules {
		for j := range p.Schedules[i].Items {
			p.Schedules[i].Items[j] = Item{Section: SectionID(d.u32()), Step: int(d.u32())}
		}
	}
}
