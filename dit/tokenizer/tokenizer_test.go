package tokenizer

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func unzip(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func load(t testing.TB, name string) *Unigram {
	t.Helper()
	u, err := New(unzip(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// golden reads the format of testdata/make.py.
type golden struct{ b []byte }

func (g *golden) num() int {
	v, n := binary.Uvarint(g.b)
	if n <= 0 {
		panic("broken golden file")
	}
	g.b = g.b[n:]
	return int(v)
}

func (g *golden) blob() []byte {
	n := g.num()
	v := g.b[:n]
	g.b = g.b[n:]
	return v
}

func (g *golden) ids() []int32 {
	v := make([]int32, g.num())
	for i := range v {
		v[i] = int32(g.num())
	}
	return v
}

func checkEncode(t *testing.T, u *Unigram, what, text string, want []int32) {
	t.Helper()
	if got := u.Encode(text); !slices.Equal(got, want) {
		t.Errorf("%s: %.200q\n got %v\nwant %v", what, text, got, want)
	}
}

func checkDecode(t *testing.T, u *Unigram, what string, ids []int32, want string) {
	t.Helper()
	if got, err := u.Decode(ids); err != nil || got != want {
		t.Errorf("%s: decoded %.60v: %.200q, %v, want %.200q", what, ids, got, err, want)
	}
}

// TestGolden compares with the sentencepiece wheel on 10,000 strings and two models trained with T5's settings.
func TestGolden(t *testing.T) {
	names := []string{"mini.model.gz", "web.model.gz"}
	models := []*Unigram{load(t, names[0]), load(t, names[1])}
	if n := models[1].VocabSize(); n < 4000 {
		t.Fatalf("the large model has %d pieces", n)
	}
	g := golden{unzip(t, "golden.bin.gz")}
	n := g.num()
	if n != 10000 {
		t.Fatalf("%d strings", n)
	}
	for i := range n {
		text := string(g.blob())
		for k, u := range models {
			ids := g.ids()
			checkEncode(t, u, names[k], text, ids)
			if i%10 == 0 {
				checkDecode(t, u, names[k], ids, string(g.blob()))
			}
		}
		if t.Failed() && i > 200 {
			t.FailNow()
		}
	}
	if len(g.b) > 0 {
		t.Error("golden file not read to its end")
	}
}

// TestToys compares with the wheel on 700 models that use every option, have tied scores, and show every rounding.
func TestToys(t *testing.T) {
	g := golden{unzip(t, "toys.bin.gz")}
	for m := range g.num() {
		u, err := New(g.blob())
		if err != nil {
			t.Fatalf("toy %d: %v", m, err)
		}
		for range g.num() {
			text, ids, decoded := string(g.blob()), g.ids(), string(g.blob())
			checkEncode(t, u, "toy", text, ids)
			checkDecode(t, u, "toy", ids, decoded)
			if t.Failed() {
				t.Fatalf("toy %d: norm %+v suffix %v", m, u.norm.normSpec, u.norm.suffix)
			}
		}
	}
}

func TestEncodeT5(t *testing.T) {
	u := load(t, "web.model.gz")
	long := strings.Repeat("a red ring ", 200)
	all := u.Encode(long)
	for _, n := range []int{1, 2, 120, 300} {
		ids, err := u.EncodeT5(long, n)
		if err != nil || len(ids) != n || ids[n-1] != 1 || !slices.Equal(ids[:n-1], all[:n-1]) {
			t.Errorf("%d tokens: %d ids, %v", n, len(ids), err)
		}
	}
	for _, blank := range []string{"", " \n "} {
		if ids, err := u.EncodeT5(blank, 120); err != nil || !slices.Equal(ids, []int32{1}) {
			t.Errorf("%q: %v, %v", blank, ids, err)
		}
	}
	if _, err := u.EncodeT5("x", 0); err == nil {
		t.Error("no room for the end-of-sequence token, and no error")
	}
	if id, ok := u.EOS(); id != 1 || !ok || u.Unknown() != 2 || u.Piece(1) != "</s>" || u.Piece(-1) != "" || u.Piece(1<<30) != "" {
		t.Errorf("end of sequence %d %v, unknown %d", id, ok, u.Unknown())
	}
	if _, err := u.Decode([]int32{5, 1 << 20}); err == nil || !strings.Contains(err.Error(), "token 1") {
		t.Errorf("id outside the vocabulary: %v", err)
	}
}

// message builds protobuf messages for the tests of bad models.
func message(parts ...any) []byte {
	var b []byte
	for i := 0; i < len(parts); i += 2 {
		num := uint64(parts[i].(int))
		switch v := parts[i+1].(type) {
		case int:
			b = binary.AppendUvarint(binary.AppendUvarint(b, num<<3), uint64(v))
		case string:
			b = append(binary.AppendUvarint(binary.AppendUvarint(b, num<<3|2), uint64(len(v))), v...)
		case []byte:
			b = append(binary.AppendUvarint(binary.AppendUvarint(b, num<<3|2), uint64(len(v))), v...)
		case uint32:
			b = binary.LittleEndian.AppendUint32(binary.AppendUvarint(b, num<<3|5), v)
		}
	}
	return b
}

func TestBadModels(t *testing.T) {
	unk, a := message(1, "<unk>", 3, 2), message(1, "a")
	charsmap := func(trie, text string) []byte {
		n := binary.LittleEndian.AppendUint32(nil, uint32(len(trie)))
		return message(1, unk, 1, a, 3, message(2, append(append(n, trie...), text...)))
	}
	for _, c := range []struct {
		want  string
		model []byte
	}{
		{"not a vocabulary", nil},
		{"bad number", []byte{0x80}},
		{"bad field number", []byte{0x02, 0x00}},
		{"wire type", []byte{0x0b}},
		{"needs", []byte{0x0a, 0x05, 'a'}},
		{"needs", []byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}},
		{"model_type is 2", message(1, unk, 1, a, 2, message(3, 2))},
		{"field 2: byte 0", message(1, unk, 1, a, 2, "\x80")},
		{"no unknown piece", message(1, a)},
		{"both the unknown", message(1, unk, 1, a, 1, message(1, "u", 3, 2))},
		{`"a" is defined twice`, message(1, unk, 1, a, 1, a)},
		{`"</s>" is defined twice`, message(1, unk, 1, a, 1, message(1, "</s>", 3, 3), 1, message(1, "</s>", 3, 3))},
		{"no piece can match", message(1, unk)},
		{"piece 1: its text is empty", message(1, unk, 1, message(2, uint32(0)))},
		{"piece 1: its text has 8000", message(1, unk, 1, message(1, strings.Repeat("a", 8000)))},
		{"NUL", message(1, unk, 1, message(1, "a\x00"))},
		{"not finite", message(1, unk, 1, message(1, "a", 2, uint32(0x7fc00000)))},
		{"unknown type 7", message(1, unk, 1, message(1, "a", 3, 7))},
		{"not a byte piece", message(1, unk, 1, a, 1, message(1, "<0x41>", 3, 6))},
		{"256 byte pieces, there are 1", message(1, unk, 1, a, 1, message(1, "<0x41>", 3, 6), 2, message(35, 1))},
		{"not a byte piece", message(1, unk, 1, a, 1, message(1, "<0xZZ>", 3, 6), 2, message(35, 1))},
		{"cut short", message(1, unk, 1, a, 3, message(2, "abc"))},
		{"does not fit", charsmap("abc", "\x00")},
		{"does not fit", charsmap("", "\x00")},
		{"does not fit", message(1, unk, 1, a, 3, message(2, "\xff\xff\xff\xff1234"))},
		{"does not end", charsmap("abcd", "x")},
		{"at most 1024", charsmap("abcd", strings.Repeat("x", 1025)+"\x00")},
		{"denormalizer_spec", message(1, unk, 1, a, 5, message(2, "abc"))},
		{"at most", make([]byte, MaxModel+1)},
		{"not a vocabulary", bytes.Repeat([]byte{0x0a, 0x00}, 1<<20)},
	} {
		u, err := New(c.model)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: %v, error %v, want %q", c.model, u != nil, err, c.want)
		}
	}
	if u, err := New(message(1, unk, 1, a)); err != nil {
		t.Error(err)
	} else if _, err := u.EncodeT5("a", 5); err == nil || !strings.Contains(err.Error(), "</s>") {
		t.Errorf("no end-of-sequence token: %v", err)
	}
	// A trie that points outside of its array and text matches nothing.
	if u, err := New(charsmap("\xff\xff\xff\xff", "\x00")); err != nil || len(u.Encode("abc")) == 0 {
		t.Errorf("wild trie: %v", err)
	}
}

// TestMemory bounds what a model of many short pieces makes New allocate.
func TestMemory(t *testing.T) {
	b := message(1, message(1, "<unk>", 3, 2))
	for i := range 60000 {
		b = append(b, message(1, message(1, string([]rune{rune(0x4e00 + i/250), rune('!' + i%250)})))...)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := New(b)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; err != nil || !(got <= uint64(len(b))+1<<20) {
		t.Errorf("allocated %d bytes for a model of %d: %v", got, len(b), err)
	}
}

// FuzzNew: any bytes give an error or a tokenizer that encodes and decodes any text within the vocabulary.
func FuzzNew(f *testing.F) {
	unk := message(1, "<unk>", 3, 2)
	f.Add(message(1, unk, 1, message(1, "a", 2, uint32(0xbf800000)), 1, message(1, "▁ab", 3, 4), 2, message(24, 1)), "ab a  b")
	trie := "\x00\x06\x00\x00" + strings.Repeat("\x61\x01\x00\x00", 16)
	f.Add(message(1, unk, 1, message(1, "b"), 3, message(2, "\x44\x00\x00\x00"+trie+"xy\x00")), "aab\xff")
	g := golden{unzip(f, "toys.bin.gz")}
	for k := range g.num() {
		m := g.blob()
		for i := range g.num() {
			text := g.blob()
			g.ids()
			g.blob()
			if i == 3 && k%30 == 0 {
				f.Add(m, string(text))
			}
		}
	}
	f.Fuzz(func(t *testing.T, model []byte, text string) {
		u, err := New(model)
		if err != nil {
			return
		}
		ids := u.Encode(text)
		for _, id := range ids {
			if id < 0 || int(id) >= u.VocabSize() {
				t.Fatalf("id %d of %d", id, u.VocabSize())
			}
		}
		if _, err := u.Decode(ids); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	u := load(b, "web.model.gz")
	text := strings.Repeat("a small red ring above a large blue square, highly detailed ", 100)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		u.Encode(text)
	}
}
