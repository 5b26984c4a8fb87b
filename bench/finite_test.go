package bench

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/safetensors"
	"ecadx/ga"
)

// One image whose latents turn NaN is invalid, with the op that began it; its neighbours in the batch keep their scores bit for bit.
func TestNaNStaysInItsImage(t *testing.T) {
	clean, poisoned := openEvaluator(t, testConfig(4), dit.Float32), openEvaluator(t, testConfig(4), dit.Float32)
	embeds := append([]float32(nil), poisoned.prompts[1].Embeds...)
	embeds[0] = float32(math.NaN())
	poisoned.prompts[1].Embeds = embeds
	list, ids := testSchedules(t, clean), []ga.ImageID{0, 1, 2, 3, 4, 5} // prompt 1 makes 2 and 3
	want, err := clean.Evaluate(context.Background(), list, ids)
	if err != nil {
		t.Fatal(err)
	}
	got, err := poisoned.Evaluate(context.Background(), list, ids)
	if err != nil {
		t.Fatal(err)
	}
	for s := range list {
		for k := range ids {
			if k == 2 || k == 3 {
				if reason := got[s][k].Invalid; !strings.Contains(reason, "step 0") || !strings.Contains(reason, "op ") {
					t.Errorf("schedule %d, image %d: %+v; want an invalid score that names step and op", s, k, got[s][k])
				}
			} else if got[s][k] != want[s][k] {
				t.Errorf("schedule %d, image %d: %+v beside an image of NaN, %+v without", s, k, got[s][k], want[s][k])
			}
		}
	}
}

// NaN that a component makes names its step, block and component.
func TestNaNNamesComponent(t *testing.T) {
	m, err := dit.Open(dit.DefaultModel)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "m")
	if err := m.Export(dir, dit.ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	m.Close()
	path := filepath.Join(dir, "transformer", "diffusion_pytorch_model.safetensors")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.OpenBytes(path, data)
	if err != nil {
		t.Fatal(err)
	}
	x, ok := f.Tensor("transformer_blocks.3.ff.net.2.weight")
	if !ok || x.DType != safetensors.F16 {
		t.Fatalf("tensor of the miniature: %v, %v", ok, x.DType)
	}
	binary.LittleEndian.PutUint16(x.Data, 0x7e00) // NaN; x.Data is part of data
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	if m, err = dit.Open(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	p, err := m.OpenPipeline(dit.PipelineConfig{Backend: ecad.CPU, Threads: 1, DType: dit.Float32, KeepEncoder: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	e, err := NewEvaluator(context.Background(), p, testConfig(2))
	if err != nil {
		t.Fatal(err)
	}
	scores, err := e.Evaluate(context.Background(), testSchedules(t, e)[:2], []ga.ImageID{0})
	if err != nil {
		t.Fatal(err)
	}
	for s := range scores {
		if reason := scores[s][0].Invalid; !strings.Contains(reason, "step 0") || !strings.Contains(reason, "block 3, component 2") {
			t.Errorf("schedule %d: %q; want step 0, block 3, component 2", s, reason)
		}
	}
}
