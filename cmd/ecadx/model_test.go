package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ecadx/dit/safetensors"
)

func TestModelInfo(t *testing.T) {
	text, _ := command(t, exitDone, "model", "info", "--json")
	r := decode[modelReport](t, text)
	if r.Family != "pixart" || r.Transformer.HeadDim != 72 || r.Transformer.Width != r.Transformer.Heads*72 || r.Defaults.Resolution.Height != 64 || len(r.Parts) != 5 {
		t.Errorf("info %+v", r)
	}
	for _, p := range r.Parts {
		if !p.Present || p.Tensors > 0 && (p.Parameters < 1000 || p.Bytes < p.Parameters || len(p.DTypes) == 0) {
			t.Errorf("part %+v", p)
		}
	}
	text, _ = command(t, exitDone, "model", "info", "--model", "random:pixart-sigma-1024", "--json")
	r = decode[modelReport](t, text)
	if r.Defaults.TextTokens != 300 || r.Defaults.Resolution.Width != 1024 || r.Transformer.Layers != 28 || r.Transformer.Interpolation != 2 || !r.Sampler.Released {
		t.Errorf("sigma 1024: %+v", r)
	}
	for _, p := range r.Parts {
		if p.Present != (p.Part == "transformer") || p.Present && p.Parameters < 600e6 {
			t.Errorf("part %+v", p)
		}
	}
	people, _ := command(t, exitDone, "model", "info")
	for _, part := range []string{"mini-pixart: pixart", "attn1, attn2, ff", "text_encoder", "vae"} {
		if !strings.Contains(people, part) {
			t.Errorf("%q is not in\n%s", part, people)
		}
	}
	command(t, exitUsage, "model")
	command(t, exitUsage, "model", "inform")
	command(t, exitBadInput, "model", "info", "--model", t.TempDir())
}

func TestModelExportAndVerify(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "mini")
	text, _ := command(t, exitDone, "model", "export", "--out", dir, "--json")
	files := decode[struct{ Files []exportedFile }](t, text).Files
	if len(files) < 8 {
		t.Errorf("exported %v", files)
	}
	command(t, exitBadInput, "model", "export", "--out", dir)
	command(t, exitDone, "model", "export", "--out", dir, "--force", "--quiet")
	command(t, exitUsage, "model", "export")
	command(t, exitBadInput, "model", "export", "--model", dir, "--out", dir+"2")

	text, _ = command(t, exitDone, "model", "verify", "--model", dir, "--json")
	if r := decode[verifyReport](t, text); !r.OK || len(r.Parts) != 5 {
		t.Errorf("verify of an export: %+v", r)
	}
	command(t, exitDone, "model", "verify", "--model", filepath.Join(dir, "transformer"))

	// A transformer without one of its tensors.
	name := filepath.Join(dir, "transformer", "diffusion_pytorch_model.safetensors")
	f, err := safetensors.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	var kept []safetensors.Tensor
	for _, n := range f.Names() {
		if x, _ := f.Tensor(n); n != "proj_out.bias" {
			kept = append(kept, x)
		}
	}
	if err := safetensors.WriteFile(name+".new", safetensors.Items(kept...), nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
	text, complaint := command(t, exitBadInput, "model", "verify", "--model", dir, "--json")
	r := decode[verifyReport](t, text)
	if r.OK || !strings.Contains(complaint, "proj_out.bias") {
		t.Errorf("verify of an incomplete snapshot: %+v, %s", r, complaint)
	}
	for _, p := range r.Parts {
		if (p.Error != "") != (p.Part == "transformer") {
			t.Errorf("part %+v", p)
		}
		if p.Transformer != nil && (len(p.Transformer.Missing) != 1 || p.Transformer.Missing[0] != "proj_out.bias") {
			t.Errorf("missing %v", p.Transformer.Missing)
		}
	}
	people, _ := command(t, exitBadInput, "model", "verify", "--model", dir)
	if !strings.Contains(people, "missing: proj_out.bias") {
		t.Errorf("verify for people:\n%s", people)
	}
}
