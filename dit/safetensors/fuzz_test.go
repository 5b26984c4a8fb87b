package safetensors_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"ecadx/dit/safetensors"
)

// FuzzOpen: any bytes give a file whose tensors tile the data, or an error.
func FuzzOpen(f *testing.F) {
	f.Add(readGolden(f))
	f.Add(file("{}", 0))
	f.Add(file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"\u0062":{"dtype":"F32","shape":[],"data_offsets":[2,6]}}  `, 6))
	f.Add(file(`{"__metadata__":{"a":"b\n"},"a":{"dtype":"BF16","shape":[0,9],"data_offsets":[0,0],"x":[{}]}}`, 0))
	f.Add(file(`{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := safetensors.OpenBytes("fuzz", data)
		if err != nil {
			return
		}
		x.Metadata()
		var total int64
		var items []safetensors.Item
		for _, n := range x.Names() {
			y, ok := x.Tensor(n)
			if !ok || y.Name != n || y.Elements()*y.DType.Size() != int64(len(y.Data)) {
				t.Fatalf("tensor %q is inconsistent", n)
			}
			total += int64(len(y.Data))
			items = append(items, safetensors.Item{Tensor: y})
		}
		if n := int64(binary.LittleEndian.Uint64(data)); total != int64(len(data))-8-n {
			t.Fatalf("the tensors do not tile the data")
		}
		var b bytes.Buffer
		if err := safetensors.Write(&b, items, x.Metadata()); err != nil {
			t.Fatal(err)
		}
		again, err := safetensors.OpenBytes("again", b.Bytes())
		if err != nil || !slices.Equal(again.Names(), x.Names()) {
			t.Fatalf("written file differs: %v", err)
		}
	})
}

// FuzzIndex: any index beside one good shard gives weights that hold all it lists, or an error that names the index.
func FuzzIndex(f *testing.F) {
	shard := readGolden(f)
	f.Add([]byte(`{"metadata":{"total_size":1},"weight_map":{"f32":"s","na\u00efve \"quoted\" <&> \\ ▁":"s"}}`))
	f.Add([]byte(`{"weight_map":{"f32":"t"}}`))
	f.Add([]byte(`{"weight_map":{}}`))
	f.Fuzz(func(t *testing.T, index []byte) {
		w, err := safetensors.OpenSharded(safetensors.FS(fstest.MapFS{"s": {Data: shard}, "i.json": {Data: index}}), "i.json")
		if err != nil {
			if !strings.Contains(err.Error(), "i.json") {
				t.Fatalf("error without the file: %v", err)
			}
			return
		}
		if len(w.Names()) != 21 {
			t.Fatalf("%d names", len(w.Names()))
		}
		w.Close()
	})
}
