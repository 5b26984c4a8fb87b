package dit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ecadx/dit/safetensors"
	"ecadx/dit/sampler"
	"ecadx/schedule"
)

// The same words and values as numpy makes, testdata/ecadrand.py.
func TestRandomValues(t *testing.T) {
	key := randomKey(7, "latents")
	for i, want := range []uint64{0x120ff51813197054, 0x84a191709a0ae963, 0x3fbd18ffdea44a41} {
		if got := randomWord(key, i); got != want {
			t.Errorf("word %d is %#x, want %#x", i, got, want)
		}
	}
	d := weightDistribution("transformer_blocks.0.norm1.weight", []int64{4})
	for i, want := range []float32{1.0359539985656738, 0.9167143106460571, 1.0131114721298218, 1.0291961431503296} {
		if got := d.value(randomKey(1, "transformer_blocks.0.norm1.weight"), i); got != want {
			t.Errorf("value %d is %v, want %v", i, got, want)
		}
	}
}

// exportTiny writes a tiny random model as a snapshot.
func exportTiny(t *testing.T, config string) (*Model, string) {
	t.Helper()
	m, err := newRandomModel("tiny", []byte(config), "", 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	dir := filepath.Join(t.TempDir(), "snapshot")
	last := int64(0)
	if err := m.Export(dir, ExportOptions{Progress: func(done, all int64) { last = all - done }}); err != nil {
		t.Fatal(err)
	}
	if last != 0 {
		t.Errorf("the progress ended %d bytes early", last)
	}
	return m, dir
}

const tinyConfig = `{"_class_name":"PixArtTransformer2DModel","num_attention_heads":2,"attention_head_dim":12,"num_layers":1,"sample_size":8,"cross_attention_dim":24,"caption_channels":20}`

// tensor copies a tensor with its values.
func tensor(t *testing.T, from *Tensors, name string) (x safetensors.Tensor) {
	t.Helper()
	if err := from.Read(name, func(lent safetensors.Tensor) error {
		x = lent
		x.Data = slices.Clone(lent.Data)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return x
}

// sameTensors compares all tensors of two models byte by byte.
func sameTensors(t *testing.T, a, b *Model) {
	t.Helper()
	wa, err := a.Weights()
	if err != nil {
		t.Fatal(err)
	}
	wb, err := b.Weights()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(wa.Tensors().Names(), wb.Tensors().Names()) {
		t.Fatalf("names differ: %q and %q", wa.Tensors().Names(), wb.Tensors().Names())
	}
	for _, name := range wa.Tensors().Names() {
		x, y := tensor(t, wa.Tensors(), name), tensor(t, wb.Tensors(), name)
		if !slices.Equal(x.Data, y.Data) || len(x.Data) == 0 {
			t.Errorf("%s differs", name)
		}
	}
}

func TestExportAndOpen(t *testing.T) {
	m, dir := exportTiny(t, tinyConfig)
	for _, ref := range []string{dir, filepath.Join(dir, "transformer")} {
		back, err := Open(ref)
		if err != nil {
			t.Fatal(err)
		}
		defer back.Close()
		sameTensors(t, m, back)
		v, err := back.Verify()
		if err != nil || v.Err() != nil || len(v.Extra) != 0 || v.Tensors != 15+21 {
			t.Errorf("%s: verification %+v, %v", ref, v, err)
		}
		c, err := back.SamplerConfig()
		if err != nil || !sameSteps(t, c, sampler.DefaultDPMSolver()) {
			t.Errorf("%s: sampler %+v, %v", ref, c, err)
		}
	}
	if err := m.Export(dir, ExportOptions{}); !errors.Is(err, ErrExists) {
		t.Errorf("export over a snapshot: error %v", err)
	}
	if err := m.Export(dir, ExportOptions{Force: true}); err != nil {
		t.Errorf("forced export: %v", err)
	}
	back, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := back.Export(filepath.Join(t.TempDir(), "x"), ExportOptions{}); err == nil {
		t.Error("a snapshot can be exported")
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".export*"))
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func sameSteps(t *testing.T, a, b sampler.Config) bool {
	x, err := sampler.New(a, 5)
	if err != nil {
		t.Fatal(err)
	}
	y, err := sampler.New(b, 5)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Equal(x.Steps, y.Steps)
}

// Half-precision variants, shards and old files load.
func TestOtherLayouts(t *testing.T) {
	m, dir := exportTiny(t, tinyConfig)
	w, err := m.Weights()
	if err != nil {
		t.Fatal(err)
	}
	all := w.Tensors()
	folder := filepath.Join(dir, "transformer")
	if err := os.Remove(filepath.Join(folder, "diffusion_pytorch_model.safetensors")); err != nil {
		t.Fatal(err)
	}
	if back, err := Open(dir); err != nil {
		t.Errorf("a snapshot without weights must open: %v", err)
	} else if _, err := back.Weights(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "transformer") {
		t.Errorf("its weights: error %v", err)
	}
	// Two shards, an extra tensor that old files have, the older class name.
	index := map[string]string{}
	var shards [2][]safetensors.Tensor
	for i, name := range all.Names() {
		x := tensor(t, all, name)
		shards[i%2] = append(shards[i%2], x)
	}
	shards[0] = append(shards[0], safetensors.Tensor{Name: "pos_embed.pos_embed", DType: safetensors.F32, Shape: []int64{1}, Data: make([]byte, 4)})
	for i, list := range shards {
		file := fmt.Sprintf("diffusion_pytorch_model-%05d-of-00002.safetensors", i+1)
		if err := safetensors.WriteFile(filepath.Join(folder, file), safetensors.Items(list...), nil); err != nil {
			t.Fatal(err)
		}
		for _, x := range list {
			index[x.Name] = file
		}
	}
	text, _ := json.Marshal(map[string]any{"metadata": map[string]any{}, "weight_map": index})
	legacy := strings.Replace(tinyConfig, "PixArtTransformer2DModel", `Transformer2DModel","norm_type":"ada_norm_single","double_self_attention":false,"x":-Infinity,"y":"`, 1)
	for file, data := range map[string]string{"diffusion_pytorch_model.safetensors.index.json": string(text), "config.json": legacy} {
		if err := os.WriteFile(filepath.Join(folder, file), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	back, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	v, err := back.Verify()
	if err != nil || v.Err() != nil || len(v.Extra) != 0 {
		t.Errorf("shards: %+v, %v", v, err)
	}
	first := all.Names()[0]
	x := tensor(t, all, first)
	bw, _ := back.Weights()
	if y := tensor(t, bw.Tensors(), first); !slices.Equal(x.Data, y.Data) {
		t.Errorf("tensor %q of the shards differs", first)
	}
}

func TestVerifyNamesProblems(t *testing.T) {
	m, dir := exportTiny(t, tinyConfig)
	w, _ := m.Weights()
	var items []safetensors.Tensor
	for _, name := range w.Tensors().Names() {
		x := tensor(t, w.Tensors(), name)
		switch name {
		case "proj_out.bias":
			continue
		case "proj_out.weight":
			x.Shape = []int64{x.Shape[1], x.Shape[0]}
		case "scale_shift_table":
			x.Name = "something_else"
		}
		items = append(items, x)
	}
	file := filepath.Join(dir, "transformer", "diffusion_pytorch_model.safetensors")
	if err := safetensors.WriteFile(file, safetensors.Items(items...), nil); err != nil {
		t.Fatal(err)
	}
	back, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	v, err := back.Verify()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(v.Missing)
	if !slices.Equal(v.Missing, []string{"proj_out.bias", "scale_shift_table"}) || !slices.Equal(v.Extra, []string{"something_else"}) ||
		len(v.Wrong) != 1 || !strings.Contains(v.Wrong[0], `"proj_out.weight"`) {
		t.Errorf("%+v", v)
	}
	if err := v.Err(); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "proj_out.weight") {
		t.Errorf("error %v, want one that names file and tensor", err)
	}
}

// The built-in model loads through the code that loads released snapshots.
func TestBuiltIn(t *testing.T) {
	m, err := Open(DefaultModel)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	v, err := m.Verify()
	if err != nil || v.Err() != nil || len(v.Extra) != 0 {
		t.Fatalf("%+v, %v", v, err)
	}
	if s := m.Shape(20); s.Family != schedule.PixArt || s.Blocks < 1 {
		t.Errorf("shape %v", s)
	}
	dir := filepath.Join(t.TempDir(), "mini")
	if err := m.Export(dir, ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	back, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	sameTensors(t, m, back)
	for _, p := range []struct {
		part Part
		file string
	}{{VAE, configFile}, {TextEncoder, configFile}, {Tokenizer, "spiece.model"}, {Scheduler, schedulerFile}} {
		if _, err := back.Snapshot().ReadFile(p.part, p.file, 1<<20); err != nil {
			t.Error(err)
		}
	}
	if _, err := back.Snapshot().ReadFile(TextEncoder2, configFile, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a part it lacks: error %v", err)
	}
}

// Values that nobody holds take no memory, and come back the same: generated again, or read again from the file.
func TestValuesComeBack(t *testing.T) {
	m, dir := exportTiny(t, tinyConfig)
	back, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	for _, m := range []*Model{m, back} {
		w, err := m.Weights()
		if err != nil {
			t.Fatal(err)
		}
		all := w.Tensors()
		l := &lender{tensors: all}
		for i := range all.list {
			l.places = append(l.places, i)
		}
		for i, name := range all.Names() {
			first := tensor(t, all, name)
			if err := l.Need(i); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(all.list[i].Data, first.Data) {
				t.Errorf("%s: %s differs when it is asked for again", m.Ref(), name)
			}
			tensor(t, all, name) // another reader comes and goes: the first still holds it
			if !slices.Equal(all.list[i].Data, first.Data) {
				t.Errorf("%s: %s is gone although it is held", m.Ref(), name)
			}
			l.Drop(i)
		}
		if err := all.Read("none", func(safetensors.Tensor) error { return nil }); err == nil || !strings.Contains(err.Error(), "none") {
			t.Errorf("%s: a tensor that is not there: %v", m.Ref(), err)
		}
	}
}
