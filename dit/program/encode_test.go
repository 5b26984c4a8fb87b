package program_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"ecadx/dit/program"
	"ecadx/internal/hostile"
)

func encode(t testing.TB, p *program.Program) []byte {
	t.Helper()
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRoundTrip(t *testing.T) {
	programs := []*program.Program{compileTiny(t, "cccc", "crcr", "rrrr", "crcr", "cccc")}
	for seed := uint64(0); seed < 100; seed++ {
		if p := finishRandom(t, generate(seed, false), seed); p != nil {
			programs = append(programs, p)
		}
	}
	for _, p := range programs {
		data := encode(t, p)
		q, err := program.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		again := encode(t, q)
		if !bytes.Equal(data, again) {
			t.Fatal("encode(decode(x)) differs from x")
		}
		program.DropReport(p)
		if !reflect.DeepEqual(normal(p), normal(q)) {
			t.Fatalf("decode(encode(p)) differs from p:\n%+v\n%+v", p, q)
		}
	}
}

// normal replaces nil slices by empty ones.
func normal(p *program.Program) program.Program {
	q := *p
	for i, s := range q.Schedules {
		if len(s.Items) == 0 {
			q.Schedules[i].Items = nil
		}
	}
	if len(q.Constants) == 0 {
		q.Constants = nil
	}
	if len(q.Ops) == 0 {
		q.Ops = nil
	}
	if len(q.Tensors) == 0 {
		q.Tensors = nil
	}
	return q
}

func TestEqualRowsShareOneSection(t *testing.T) {
	p := compileTiny(t, "cccc", "crcr", "rrrr", "crcr", "cccc")
	if len(p.Sections) != 4 { // prologue and three distinct rows
		t.Errorf("%d sections, want 4", len(p.Sections))
	}
	want := []program.Item{{Section: 0, Step: 0}, {Section: 1, Step: 0}, {Section: 2, Step: 1}, {Section: 3, Step: 2}, {Section: 2, Step: 3}, {Section: 1, Step: 4}}
	if !reflect.DeepEqual(p.Schedules[0].Items, want) {
		t.Errorf("items %v, want %v", p.Schedules[0].Items, want)
	}
}

// smallest is y = copy(x), with a persistent buffer on either side.
func smallest(t testing.TB) *program.Program {
	b := program.NewBuilder(2)
	x, y := b.Persistent("x", program.Float32, 2, 3), b.Persistent("y", program.BFloat16, 2, 3)
	b.Input("in", x)
	b.Output("out", y)
	b.Begin(program.Other, "all")
	b.Copy("copy", x, y)
	b.Schedule("run", []program.Item{{Section: b.End(), Step: 1}})
	p, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestGoldenBytes pins the format: testdata/smallest.hex was checked against PROGRAM.md by hand, field by field.
func TestGoldenBytes(t *testing.T) {
	data := encode(t, smallest(t))
	golden(t, "smallest.hex", []byte(hex.Dump(data)))
	le := binary.LittleEndian
	tables := 128 + 2*48 + 2*96 + 2*4 + 96 + 32 + 2*16 + 16 + 8
	names := "xy" + "copy" + "all" + "in" + "out" + "run"
	if want := (tables + len(names) + 63) / 64 * 64; len(data) != want || le.Uint64(data[16:]) != uint64(want) {
		t.Errorf("%d bytes, want %d", len(data), want)
	}
	if got := string(data[tables : tables+len(names)]); got != names {
		t.Errorf("names %q, want %q", got, names)
	}
	op := data[128+2*48+2*96+2*4:]
	if le.Uint32(op) != 1 || le.Uint16(op[12:]) != 1 || le.Uint16(op[14:]) != 1 || int32(le.Uint32(op[16:])) != -1 {
		t.Errorf("op record % x", op[:32])
	}
}

// TestOmittedOperands: optional operands at the end of an op may be left out of the bytes.
func TestOmittedOperands(t *testing.T) {
	p := compileTiny(t, "cccc")
	want := encode(t, p)
	trimmed := 0
	for i := range p.Ops {
		op := &p.Ops[i]
		for n := len(op.In); n > 0 && op.In[n-1] == noTensor; n-- {
			op.In = op.In[:n-1]
			trimmed++
		}
	}
	if trimmed == 0 {
		t.Fatal("no op has an absent operand at its end")
	}
	q, err := program.Decode(program.EncodeUnchecked(p))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encode(t, q), want) {
		t.Error("the operands left out did not come back as absent ones")
	}
}

// repair makes checksum and layout hash fit damaged bytes, so that the checks behind them are reached.
func repair(data []byte) {
	if len(data) < 128 {
		return
	}
	binary.LittleEndian.PutUint64(data[16:], uint64(len(data)))
	binary.LittleEndian.PutUint32(data[92:], crc32.Checksum(data[128:], crc32.MakeTable(crc32.Castagnoli)))
}

// accepts decodes hostile bytes: an error, or a program that encodes, decodes, counts and prints.
func accepts(t *testing.T, data []byte) bool {
	t.Helper()
	p, err := program.Decode(data)
	if err != nil {
		if !strings.HasPrefix(err.Error(), "program: ") || strings.Contains(err.Error(), "\n") {
			t.Fatalf("error is not one line of this package: %v", err)
		}
		return false
	}
	again := encode(t, p)
	if _, err := program.Decode(again); err != nil {
		t.Fatalf("accepted, but not again: %v", err)
	}
	var out bytes.Buffer
	if err := p.Disassemble(&out, program.DisassembleOptions{}); err != nil {
		t.Fatal(err)
	}
	return true
}

func TestDecodeDamaged(t *testing.T) {
	good := encode(t, compileTiny(t, "cccc", "crcr", "rrrr"))
	if !accepts(t, bytes.Clone(good)) {
		t.Fatal("the undamaged program is refused")
	}
	for n := 0; n < len(good); n += 7 {
		if accepts(t, good[:n]) {
			t.Fatalf("accepted when cut to %d bytes", n)
		}
		cut := bytes.Clone(good[:n])
		repair(cut)
		if accepts(t, cut) {
			t.Fatalf("accepted when cut to %d bytes with a fitting header", n)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	refused, tries := 0, 3000
	for range tries {
		bad := bytes.Clone(good)
		bit := r.IntN(8 * len(bad))
		bad[bit/8] ^= 1 << (bit % 8)
		if accepts(t, bad) {
			t.Fatalf("accepted with bit %d of byte %d flipped", bit%8, bit/8)
		}
		repair(bad)
		if !accepts(t, bad) {
			refused++
		}
	}
	if refused < tries/2 {
		t.Errorf("only %d of %d repaired flips refused", refused, tries)
	}
	for _, extra := range []int{1, 64} {
		bad := append(bytes.Clone(good), make([]byte, extra)...)
		repair(bad)
		if accepts(t, bad) {
			t.Errorf("accepted with %d bytes more", extra)
		}
	}
}

// TestDecodeBoundsMemory: a header that promises the largest tables takes no memory.
func TestDecodeBoundsMemory(t *testing.T) {
	good := encode(t, compileTiny(t, "cccc"))
	for field := 56; field < 120; field += 4 {
		for _, value := range []uint32{1 << 10, 1 << 16, 1 << 20, 1 << 22, 1 << 31, 1<<32 - 1} {
			bad := bytes.Clone(good)
			binary.LittleEndian.PutUint32(bad[field:], value)
			repair(bad)
			hostile.Bounded(t, len(bad), func() { accepts(t, bad) })
			if t.Failed() {
				t.Fatalf("field at %d set to %d", field, value)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, smallest(f)))
	f.Add(encode(f, compileTiny(f, "cccc", "rcrr", "rrrr")))
	f.Add(encode(f, compileJoint(f)))
	f.Add([]byte("ECADPROG"))
	f.Fuzz(func(t *testing.T, data []byte) {
		accepts(t, data)
		data = bytes.Clone(data)
		repair(data)
		accepts(t, data)
	})
}
