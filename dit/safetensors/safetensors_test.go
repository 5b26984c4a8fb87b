package safetensors_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"ecadx/dit/safetensors"
)

const golden = "testdata/all.safetensors"

func readGolden(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// file puts a header and n data bytes together.
func file(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

func TestGolden(t *testing.T) {
	mapped, err := safetensors.Open(golden)
	if err != nil {
		t.Fatal(err)
	}
	defer mapped.Close()
	read, err := safetensors.OpenFS(os.DirFS("testdata"), "all.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	x := []float32{0, float32(math.Copysign(0, -1)), 1, -1.5, 65504, 1e-7, 3.14159265, float32(math.Inf(1))}
	half := []float32{0, float32(math.Copysign(0, -1)), 1, -1.5, 65504, 2 * 0x1p-24, 3.140625, float32(math.Inf(1))}
	brain := []float32{0, float32(math.Copysign(0, -1)), 1, -1.5, 65536, 0, 3.140625, float32(math.Inf(1))}
	brain[5] = math.Float32frombits(0x33d70000)
	seq := []float32{-3, -2, -1, 0, 1, 2}
	for _, c := range []struct {
		name  string
		dtype safetensors.DType
		shape []int64
		want  []float32
	}{
		{"bool", safetensors.BOOL, []int64{3}, []float32{1, 0, 1}},
		{"u8", safetensors.U8, []int64{3}, []float32{0, 7, 255}},
		{"i8", safetensors.I8, []int64{6}, seq}, {"i16", safetensors.I16, []int64{6}, seq},
		{"i32", safetensors.I32, []int64{6}, seq}, {"i64", safetensors.I64, []int64{6}, seq},
		{"u16", safetensors.U16, []int64{2}, []float32{1, 65535}},
		{"u32", safetensors.U32, []int64{2}, []float32{1, 1 << 32}},
		{"u64", safetensors.U64, []int64{2}, []float32{1, 1 << 63}},
		{"f16", safetensors.F16, []int64{2, 4}, half}, {"bf16", safetensors.BF16, []int64{2, 2, 2}, brain},
		{"f32", safetensors.F32, []int64{8}, x}, {"f64", safetensors.F64, []int64{8}, x},
		{"scalar", safetensors.F32, []int64{}, []float32{2.5}}, {"empty", safetensors.F32, []int64{3, 0, 2}, []float32{}},
		{"naïve \"quoted\" <&> \\ ▁", safetensors.F32, []int64{1}, []float32{1}}, {"", safetensors.F32, []int64{1}, []float32{0}},
	} {
		for _, f := range []*safetensors.File{mapped, read} {
			got, ok := f.Tensor(c.name)
			if !ok || got.DType != c.dtype || !slices.Equal(got.Shape, c.shape) || got.Name != c.name {
				t.Fatalf("%q: got %v %v %v, want %v %v", c.name, ok, got.DType, got.Shape, c.dtype, c.shape)
			}
			v, err := got.ToFloat32()
			if err != nil {
				t.Fatal(err)
			}
			for i := range c.want {
				if math.Float32bits(v[i]) != math.Float32bits(c.want[i]) {
					t.Errorf("%q[%d] = %v, want %v", c.name, i, v[i], c.want[i])
				}
			}
			if len(v) != len(c.want) || got.Elements() != int64(len(v)) {
				t.Errorf("%q has %d elements, want %d", c.name, len(v), len(c.want))
			}
		}
	}
	if got := mapped.Metadata(); len(got) != 1 || got["format"] != "pt" {
		t.Errorf("metadata %v", got)
	}
	if _, ok := mapped.Tensor("nothing"); ok {
		t.Error("found a tensor that is not there")
	}
	if names := mapped.Names(); len(names) != 21 || mapped.Len() != 21 || !slices.IsSorted(names) {
		t.Errorf("names %q", names)
	}
	if f8, _ := mapped.Tensor("f8e4"); f8.DType.String() != "F8_E4M3" {
		t.Errorf("dtype %v", f8.DType)
	} else if _, err := f8.ToFloat32(); err == nil {
		t.Error("converted an 8-bit float")
	}
}

// TestWriteIdentical writes the golden file again and expects the reference library's bytes.
func TestWriteIdentical(t *testing.T) {
	f, err := safetensors.Open(golden)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var items []safetensors.Item
	for i, n := range f.Names() {
		x, _ := f.Tensor(n)
		item := safetensors.Item{Tensor: x}
		if i%2 == 0 {
			data := x.Data
			item.Data = nil
			item.Stream = func(w io.Writer) error { _, err := w.Write(data); return err }
		}
		items = append(items, item)
	}
	path := filepath.Join(t.TempDir(), "copy.safetensors")
	if err := safetensors.WriteFile(path, items, f.Metadata()); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, readGolden(t)) {
		t.Errorf("the written file differs from the reference's")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestWriteErrors(t *testing.T) {
	one := safetensors.Tensor{Name: "a", DType: safetensors.U8, Shape: []int64{1}, Data: []byte{1}}
	with := func(change func(*safetensors.Item)) []safetensors.Item {
		items := safetensors.Items(one)
		change(&items[0])
		return items
	}
	for want, items := range map[string][]safetensors.Item{
		"given twice":      safetensors.Items(one, one),
		"invalid shape":    with(func(i *safetensors.Item) { i.Shape = []int64{-1} }),
		"[1 2]":            with(func(i *safetensors.Item) { i.Shape = []int64{1, 2} }),
		"invalid dtype":    with(func(i *safetensors.Item) { i.DType = 0 }),
		"not valid UTF-8":  with(func(i *safetensors.Item) { i.Name = "\xff" }),
		"cannot be called": with(func(i *safetensors.Item) { i.Name = "__metadata__" }),
		"1 bytes early":    with(func(i *safetensors.Item) { i.Stream = func(io.Writer) error { return nil } }),
		"more than the sha": with(func(i *safetensors.Item) {
			i.Stream = func(w io.Writer) error { _, err := w.Write([]byte{1, 2}); return err }
		}),
	} {
		path := filepath.Join(t.TempDir(), "x.safetensors")
		err := safetensors.WriteFile(path, items, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		if left, _ := os.ReadDir(filepath.Dir(path)); len(left) > 0 {
			t.Errorf("%q: files left behind: %v", want, left)
		}
	}
}

func TestHostile(t *testing.T) {
	const a = `"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}`
	for _, c := range []struct {
		want string
		file []byte
	}{
		{"0 bytes", nil},
		{"7 bytes", make([]byte, 7)},
		{"at most 100000000", bytes.Repeat([]byte{0xff}, 16)},
		{"cut short", append(binary.LittleEndian.AppendUint64(nil, 9), "{}"...)},
		{"'{'", file(" {}", 0)},
		{"'{'", file("", 0)},
		{"UTF-8", file("{\"\xff\":1}", 0)},
		{"after the closing", file("{}x", 0)},
		{"after the closing", file("{}\x00", 0)},
		{"follow the header", file("{}", 1)},
		{"appears twice", file("{"+a+`,"a":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 3)},
		{"appears twice", file("{"+a+`,"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 3)},
		{"hole", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2)},
		{"overlap", file("{"+a+`,"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3)},
		{"cut short", file("{"+a+"}", 1)},
		{"but 3 bytes follow", file("{"+a+"}", 3)},
		{"span 2 bytes", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,2]}}`, 2)},
		{"overflows", file(`{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0)},
		{"2^63-1", file(`{"a":{"dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,0]}}`, 0)},
		{"2^63-1", file(`{"a":{"dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,0]}}`, 0)},
		{"non-negative", file(`{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}}`, 0)},
		{"integer", file(`{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}`, 1)},
		{"leading zero", file(`{"a":{"dtype":"U8","shape":[01],"data_offsets":[0,1]}}`, 1)},
		{"before they begin", file(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[1,0]}}`, 1)},
		{"has 3 numbers", file(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}}`, 0)},
		{`unknown dtype "F4"`, file(`{"a":{"dtype":"F4","shape":[0],"data_offsets":[0,0]}}`, 0)},
		{"dtype is missing", file(`{"a":{"shape":[0],"data_offsets":[0,0]}}`, 0)},
		{"shape is missing", file(`{"a":{"dtype":"U8","data_offsets":[0,0]}}`, 0)},
		{"data_offsets is missing", file(`{"a":{"dtype":"U8","shape":[0]}}`, 0)},
		{"shape appears twice", file(`{"a":{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]}}`, 0)},
		{"64 dimensions", file(`{"a":{"dtype":"U8","shape":[`+strings.Repeat("1,", 64)+`1],"data_offsets":[0,1]}}`, 1)},
		{"nested deeper", file(`{"a":{"x":`+strings.Repeat("[", 1000)+`}}`, 0)},
		{"surrogate", file(`{"\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0)},
		{"unknown escape", file(`{"\x":1}`, 0)},
		{"control character", file("{\"a\n\":1}", 0)},
		{"closing quote", file(`{"a`, 0)},
		{"__metadata__", file(`{"__metadata__":{"a":1}}`, 0)},
		{"appears twice", file(`{"__metadata__":{},"__metadata__":{}}`, 0)},
		{"want", file(`{"a":1,}`, 0)},
	} {
		_, err := safetensors.OpenBytes("bad.safetensors", c.file)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "bad.safetensors: ") {
			t.Errorf("%q: error %v, want %q", c.file, err, c.want)
		}
	}
	for _, ok := range []string{
		"{}", "{}   \n", `{"a":{"dtype":"U8","extra":{"x":[1,-2.5e3,null,true,"s"]},"shape":[2],"data_offsets":[0,2]}}`,
		`{ "__metadata__" : {"k":"\ud83d\ude00\n"} , ` + a + `}`,
	} {
		n := 2
		if strings.HasPrefix(ok, "{}") {
			n = 0
		}
		if _, err := safetensors.OpenBytes("ok", file(ok, n)); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	f, err := safetensors.OpenBytes("ok", file(`{"__metadata__":{"k":"\ud83d\ude00\n"},`+a+`}`, 2))
	if err != nil || f.Metadata()["k"] != "😀\n" {
		t.Errorf("metadata with escapes: %v %v", f, err)
	}
}

// TestMemory opens a file that is all header, the worst case, and one that promises more than it has.
func TestMemory(t *testing.T) {
	var b strings.Builder
	b.WriteString("{")
	for i := range 40000 {
		fmt.Fprintf(&b, `"\u0061%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},`, i)
	}
	data := file(strings.TrimSuffix(b.String(), ",")+"}", 0)
	lie := file(`{"a":{"dtype":"F64","shape":[100000000000],"data_offsets":[0,800000000000]}}`, 0)
	for _, c := range []struct {
		name string
		data []byte
	}{{"many", data}, {"lie", lie}} {
		path := filepath.Join(t.TempDir(), c.name)
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f, err := safetensors.Open(path)
		runtime.ReadMemStats(&after)
		if got, most := after.TotalAlloc-before.TotalAlloc, uint64(len(c.data))+1<<20; !(got <= most) {
			t.Errorf("%s: allocated %d bytes for a file of %d", c.name, got, len(c.data))
		}
		if err == nil {
			if x, ok := f.Tensor("a39999"); !ok || x.Elements() != 0 {
				t.Error("tensor with an escaped name not found")
			}
			f.Close()
		} else if c.name != "lie" {
			t.Error(err)
		}
	}
}

// shardedFolders hold weights in one file and in several, and indexes with one fault each.
func shardedFolders(t *testing.T) fstest.MapFS {
	t.Helper()
	small := func(names ...string) *fstest.MapFile {
		var items []safetensors.Item
		for i, n := range names {
			items = append(items, safetensors.Item{Tensor: safetensors.Tensor{Name: n, DType: safetensors.U8, Shape: []int64{1}, Data: []byte{byte(i + 1)}}})
		}
		var b bytes.Buffer
		if err := safetensors.Write(&b, items, nil); err != nil {
			t.Fatal(err)
		}
		return &fstest.MapFile{Data: b.Bytes()}
	}
	index := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	return fstest.MapFS{
		"te/model-00001-of-00002.safetensors":   small("a", "b"),
		"te/model-00002-of-00002.safetensors":   small("c", "unlisted"),
		"te/model.safetensors.index.json":       index(`{"metadata":{"total_size":3},"weight_map":{"a":"model-00001-of-00002.safetensors","c":"model-00002-of-00002.safetensors","b":"model-00001-of-00002.safetensors"}}`),
		"half/m.fp16.safetensors":               small("h"),
		"half2/m.safetensors.index.fp16.json":   index(`{"weight_map":{"q":"m-00001.fp16.safetensors"}}`),
		"half2/m-00001.fp16.safetensors":        small("q"),
		"missing/m.safetensors.index.json":      index(`{"weight_map":{"q":"gone.safetensors"}}`),
		"absent/m.safetensors.index.json":       index(`{"weight_map":{"nope":"x.safetensors"}}`),
		"absent/x.safetensors":                  small("q"),
		"escape/m.safetensors.index.json":       index(`{"weight_map":{"q":"../half/m.fp16.safetensors"}}`),
		"twice/m.safetensors.index.json":        index(`{"weight_map":{"q":"x.safetensors","p":"y.safetensors"}}`),
		"twice/x.safetensors":                   small("q"),
		"twice/y.safetensors":                   small("p", "q"),
		"nomap/m.safetensors.index.json":        index(`{}`),
		"badmap/m.safetensors.index.json":       index(`{"weight_map":[1]}`),
		"badvalue/m.safetensors.index.json":     index(`{"weight_map":{"q":7}}`),
		"emptymap/m.safetensors.index.json":     index(`{"weight_map":{}}`),
		"syntax/m.safetensors.index.json":       index(`{"weight_map":{`),
		"large/m.safetensors.index.json":        {Data: make([]byte, safetensors.MaxIndex+1)},
		"both/m.safetensors":                    small("full"),
		"both/m.fp16.safetensors":               small("half"),
		"directory/m.safetensors/x.safetensors": small("x"),
	}
}

func TestSharded(t *testing.T) {
	fsys := shardedFolders(t)
	// The same files on disk must behave in the same way.
	dir := t.TempDir()
	if err := os.CopyFS(dir, fsys); err != nil {
		t.Fatal(err)
	}
	for _, s := range []safetensors.Source{safetensors.FS(fsys), safetensors.Dir(dir)} {
		testShards(t, s)
		testVariants(t, s)
		testFaultyFolders(t, s)
	}
	if _, err := safetensors.Open(dir); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("directory: %v", err)
	}
}

// testShards reads tensors of a folder with an index.
func testShards(t *testing.T, s safetensors.Source) {
	w, err := safetensors.OpenWeights(s.Sub("te"), "model")
	if err != nil {
		t.Fatal(err)
	}
	if got := w.Names(); !slices.Equal(got, []string{"a", "b", "c", "unlisted"}) || len(w.Files()) != 2 {
		t.Errorf("names %q", got)
	}
	if x, ok := w.Tensor("b"); !ok || x.Data[0] != 2 {
		t.Errorf("tensor b: %v %v", x, ok)
	}
	if _, ok := w.Tensor("nothing"); ok {
		t.Error("found a tensor that is not there")
	}
	if _, err := w.Need("c", 1); err != nil {
		t.Error(err)
	}
	if _, err := w.Need("c", -1); err != nil {
		t.Error(err)
	}
	if _, err := w.Need("c", 2); err == nil || !strings.Contains(err.Error(), "[1], the model needs [2]") {
		t.Errorf("wrong shape: %v", err)
	}
	if _, err := w.Need("x", 2); err == nil || !strings.Contains(err.Error(), `"x" is missing`) {
		t.Errorf("missing tensor: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// testVariants finds weights by their names and variants.
func testVariants(t *testing.T, s safetensors.Source) {
	for _, c := range []struct{ dir, tensor string }{{"half", "h"}, {"half2", "q"}, {"both", "full"}} {
		w, err := safetensors.OpenWeights(s.Sub(c.dir), "m")
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := w.Tensor(c.tensor); !ok {
			t.Errorf("%s: %q not found in %q", c.dir, c.tensor, w.Names())
		}
		w.Close()
	}
	if w, err := safetensors.OpenWeights(s.Sub("both"), "m", "fp16", ""); err != nil || w.Names()[0] != "half" {
		t.Errorf("variant order: %v", err)
	} else {
		w.Close()
	}
}

// testFaultyFolders expects errors that name the folder and what is wrong.
func testFaultyFolders(t *testing.T, s safetensors.Source) {
	for dir, want := range map[string]string{
		"missing": "gone.safetensors", "absent": `"nope": it is not in x.safetensors`, "escape": "plain file name", "twice": `"q" is in both`,
		"nomap": `"weight_map" is missing`, "badmap": "want '{'", "badvalue": `want '"'`, "emptymap": "no tensors",
		"syntax": "found the end", "large": "at most", "directory": "looked for m.safetensors", "nowhere": "looked for m.safetensors",
	} {
		if _, err := safetensors.OpenWeights(s.Sub(dir), "m"); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: error %v, want %q", dir, err, want)
		}
	}
	if _, err := safetensors.OpenWeights(s.Sub("nowhere"), "m"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing weights: %v", err)
	}
	if _, err := s.Sub("te").ReadFile("none.json", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := s.ReadFile("te", 1<<20); err == nil {
		t.Error("read a folder as a file")
	}
}

// TestHalf checks every half value both ways, and float32 rounding against float64 arithmetic.
func TestHalf(t *testing.T) {
	for h := range 1 << 16 {
		f := safetensors.Float16ToFloat32(uint16(h))
		if f != f {
			if b := safetensors.Float32ToFloat16(f); b&0x7c00 != 0x7c00 || b&0x3ff == 0 {
				t.Fatalf("NaN %04x became %04x", h, b)
			}
			continue
		}
		if b := safetensors.Float32ToFloat16(f); b != uint16(h) {
			t.Fatalf("%04x -> %v -> %04x", h, f, b)
		}
	}
	// Between neighbours: below, at and above the midpoint. Ties go to the even pattern.
	for h := range 0x7bff {
		lo, hi := float64(safetensors.Float16ToFloat32(uint16(h))), float64(safetensors.Float16ToFloat32(uint16(h+1)))
		mid := float32((lo + hi) / 2)
		even := uint16(h + h&1)
		below, above := math.Nextafter32(mid, 0), math.Nextafter32(mid, 1e9)
		for f, want := range map[float32]uint16{below: uint16(h), mid: even, above: uint16(h + 1)} {
			if got := safetensors.Float32ToFloat16(f); got != want {
				t.Fatalf("%v -> %04x, want %04x", f, got, want)
			}
			if got := safetensors.Float32ToFloat16(-f); got != want|0x8000 {
				t.Fatalf("%v -> %04x, want %04x", -f, got, want|0x8000)
			}
		}
	}
	for f, want := range map[float32]uint16{65519.996: 0x7bff, 65520: 0x7c00, float32(math.Inf(-1)): 0xfc00, 0x1p-25: 0, -0x1.8p-25: 0x8001} {
		if got := safetensors.Float32ToFloat16(f); got != want {
			t.Errorf("%v -> %04x, want %04x", f, got, want)
		}
	}
	for b, want := range map[uint32]uint16{0x3f808000: 0x3f80, 0x3f818000: 0x3f82, 0x3f808001: 0x3f81, 0x7f7fffff: 0x7f80, 0x7f800001: 0x7fc0, 0xff800000: 0xff80} {
		if got := safetensors.Float32ToBFloat16(math.Float32frombits(b)); got != want {
			t.Errorf("bfloat16 of %08x is %04x, want %04x", b, got, want)
		}
	}
}

func TestViewAndFrom(t *testing.T) {
	v := []float32{1, -2, 3.5, 0.1}
	for _, d := range []safetensors.DType{safetensors.F32, safetensors.F16, safetensors.BF16} {
		x, err := safetensors.FromFloat32("x", d, []int64{2, 2}, v)
		if err != nil {
			t.Fatal(err)
		}
		got, err := x.ToFloat32()
		if err != nil {
			t.Fatal(err)
		}
		for i := range v {
			if !(math.Abs(float64(got[i]-v[i])) <= math.Abs(float64(v[i]))/256) {
				t.Errorf("%v: %v, want %v", d, got[i], v[i])
			}
		}
	}
	x, _ := safetensors.FromFloat32("x", safetensors.F32, []int64{4}, v)
	if view, ok := x.ViewFloat32(); ok && !slices.Equal(view, v) {
		t.Errorf("view %v", view)
	}
	odd := x
	odd.Data = append(make([]byte, 1), x.Data...)[1:]
	if _, ok := odd.ViewFloat32(); ok {
		t.Error("viewed misaligned data")
	}
	if _, err := safetensors.FromFloat32("x", safetensors.I32, []int64{4}, v); err == nil {
		t.Error("stored floats as integers")
	}
	if _, err := safetensors.FromFloat32("x", safetensors.F32, []int64{5}, v); err == nil {
		t.Error("stored 4 values in 5 elements")
	}
}
