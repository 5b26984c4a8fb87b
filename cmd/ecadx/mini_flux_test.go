package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ecadx/ga/study"
)

// The miniature FLUX goes through the commands as the miniature PixArt does.
func TestMiniFluxCommands(t *testing.T) {
	needsModel(t)
	dir := t.TempDir()
	r := succeedJSON[generatedReport](t, dir, "generate", "--model", "mini-flux", "-p", ringPrompt, "--steps", "3", "--schedule", "fora:2", "--compare", "--out", "p.png")
	if len(r.Images) != 1 || r.Guidance != 3.5 || !(r.Images[0].MACsRatio > 1) || !(r.Images[0].UncachedMS > 0) {
		t.Errorf("generate: %+v", r)
	}
	if w, h := pngSize(t, filepath.Join(dir, "p.png")); w != 64 || h != 64 {
		t.Errorf("the picture has %d x %d pixels", w, h)
	}
	refuse(t, dir, exitUsage, "--negative", "generate", "--model", "mini-flux", "-p", ringPrompt, "--negative", "blue", "--out", "n.png")
	refuse(t, dir, exitUsage, "--negative", "generate", "-p", ringPrompt, "--negative", "blue", "--guidance", "1", "--out", "n.png")
	refuse(t, dir, exitUsage, "--negative", "compile", "--model", "mini-flux", "-p", ringPrompt, "--negative", "blue", "--out", "c")

	refuse(t, dir, exitBadInput, "prompts.negative", "evolve", writeTestFile(t, filepath.Join(dir, "n.toml"), "[model]\npath = \"mini-flux\"\n[prompts]\nnegative = \"blue\"\n"), "--out", "n")
	writeTestFile(t, filepath.Join(dir, "s.toml"), "[model]\npath = \"mini-flux\"\nsteps = 4\n[search]\npopulation = 4\ngenerations = 2\n[prompts]\ncount = 2\nheldout = 2\n"+
		"[seeds]\nheuristics = [\"fora:2\"]\n[objectives]\nbaselines = [\"fora:2\"]\n")
	front := succeedJSON[study.Front](t, dir, "evolve", "s.toml", "--out", "s")
	if len(front.Front) == 0 || len(front.Baselines) != 1 || !(front.Front[0].MACsRatio >= 1) {
		t.Errorf("evolve: %+v", front)
	}
	succeed(t, dir, "generate", "--model", "mini-flux", "-p", ringPrompt, "--schedule", filepath.Join("s", front.Front[0].File), "--out", "q.png")
}

// Any file of a FLUX snapshot that is damaged ends in exit code 3 and one line that names the file. What needs the file is refused, nothing is assumed instead.
func TestDamagedMiniFlux(t *testing.T) {
	needsModel(t)
	dir := t.TempDir()
	if r := ecadx(t, dir, "model", "export", "--model", "mini-flux", "--out", "m"); r.code != 0 || !strings.Contains(r.stderr, "--resolution 64") {
		t.Fatalf("export: exit %d: %s", r.code, r.stderr)
	}
	generate := []string{"generate", "--model", "m", "-p", ringPrompt, "--steps", "1", "--resolution", "64", "--out", "p.png", "--force"}
	if v := succeedJSON[verifyReport](t, dir, "model", "verify", "--model", "m"); !v.OK {
		t.Errorf("verify: %+v", v)
	}
	succeed(t, dir, generate...)
	half := func(old []byte) []byte { return old[:len(old)/2] }
	replace := func(from, to string) func([]byte) []byte {
		return func(old []byte) []byte {
			text := strings.Replace(string(old), from, to, 1)
			if text == string(old) {
				t.Errorf("%q is not there", from)
			}
			return []byte(text)
		}
	}
	text := func(s string) func([]byte) []byte { return func([]byte) []byte { return []byte(s) } }
	for _, c := range []struct {
		file, want string
		damage     func([]byte) []byte
	}{
		{"model_index.json", "model_index.json", half},
		{"model_index.json", "model_index.json", text("[]")},
		{"transformer/config.json", "transformer/config.json", half},
		{"transformer/config.json", `"num_layers"`, replace(`"num_layers": 2`, `"num_layers": 9223372036854775807`)},
		{"transformer/config.json", `"axes_dims_rope"`, replace("14", "16")},
		{"transformer/config.json", "transformer_blocks.2", replace(`"num_layers": 2`, `"num_layers": 3`)},
		{"transformer/diffusion_pytorch_model.safetensors", "cut short", half},
		{"transformer/diffusion_pytorch_model.safetensors", "header length 9223372036854775808", func(old []byte) []byte { return append([]byte("\x00\x00\x00\x00\x00\x00\x00\x80"), old[8:]...) }},
		{"transformer/diffusion_pytorch_model.safetensors", "shape", replace(`"shape":[128]`, `"shape":[9223372036854775807]`)},
		{"text_encoder/config.json", "text_encoder/config.json", half},
		{"text_encoder/model.safetensors", "cut short", half},
		{"text_encoder_2/config.json", "text_encoder_2/config.json", text("{}")},
		{"text_encoder_2/model.safetensors", "cut short", half},
		{"tokenizer/vocab.json", "vocab.json", half},
		{"tokenizer/merges.txt", "merges.txt", text("")},
		{"tokenizer/merges.txt", "merges.txt", func(old []byte) []byte { return old[:len(old)-5] }},
		{"tokenizer/tokenizer_config.json", "tokenizer/tokenizer_config.json", half},
		{"tokenizer/tokenizer_config.json", `"model_max_length"`, text(`{"model_max_length": 0}`)},
		{"tokenizer_2/spiece.model", "spiece.model", half},
		{"tokenizer_2/tokenizer_config.json", "tokenizer_2/tokenizer_config.json", half},
		{"tokenizer_2/tokenizer_config.json", `"model_max_length"`, text(`{"model_max_length": "many"}`)},
		{"scheduler/scheduler_config.json", "scheduler_config.json", half},
		{"vae/config.json", "vae/config.json", half},
		{"vae/diffusion_pytorch_model.safetensors", "cut short", half},
	} {
		path := filepath.Join(dir, "m", c.file)
		old := readTestFile(t, path)
		if err := os.WriteFile(path, c.damage(old), 0o644); err != nil {
			t.Fatal(err)
		}
		refuse(t, dir, exitBadInput, c.want, generate...)
		if err := os.WriteFile(path, old, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	succeed(t, dir, generate...)
}
