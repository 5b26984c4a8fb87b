package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bundleOf makes a bundle whose programs are shell scripts, and a checker of it.
func bundleOf(t *testing.T, scripts map[string]string) *checker {
	t.Helper()
	dir := t.TempDir()
	for name, body := range scripts {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	runner, err := newRunner(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return &checker{dir: dir, runner: runner, inside: os.Environ(), outside: os.Environ(), end: time.Now().Add(time.Minute)}
}

func expect(t *testing.T, c *checker, name string, do func(*result), want status, texts ...string) *result {
	t.Helper()
	c.section(section{name, 20 * time.Second, do})
	r := c.results[len(c.results)-1]
	all := strings.Join(r.Details, "\n")
	if r.Status != want {
		t.Errorf("%s: %s, want %s: %s", name, r.Status, want, all)
	}
	for _, text := range texts {
		if !strings.Contains(all, text) {
			t.Errorf("%s does not say %q:\n%s", name, text, all)
		}
	}
	return r
}

const benchJSON = `{"step_ms":{"median":2},"run_ms":20,"uncached_run_ms":40,"speedup":2,"flops_ratio":2.5,"efficiency":0.8,
 "components":[{"block":0,"component":"attn1","compute_ms":{"median":0.5},"reuse_ms":{"median":0.01},"flops":200000000000,"bytes":1000000000},
 {"block":1,"component":"attn1","compute_ms":{"median":0.5},"reuse_ms":{"median":0.01},"flops":200000000000,"bytes":1000000000}],
 "reuse":{"step_ms":{"median":0.05},"floor_ms":{"median":0.04},"ratio":1.25}}`

func TestBenchmarkSections(t *testing.T) {
	c := bundleOf(t, map[string]string{
		"tests/ecad_probe": `echo '{"device": "a GPU", "wgmma_tflops": 800, "mma_tflops": 500, "copy_gb_per_s": 4000}'`,
		"tests/cuda_bench": `[ "$1" = ecad ] || { echo "SKIP: cuBLASLt is not found"; exit 77; }
echo '[{"op":"linear","shape":"flux-1024 qkv","us":300,"tflops":700,"gb_per_s":400},{"op":"chain","shape":"pixart-1024, norm","us":20,"tflops":0.1,"gb_per_s":3000}]'`,
		"bin/ecadx": `case "$*" in *cublaslt*) echo "ecadx: gemm cublaslt: cuBLASLt is not found" >&2; exit 1;; *) cat <<'X'` + "\n" + benchJSON + "\nX\nesac",
	})
	expect(t, c, "peaks", c.measurePeaks, pass, "wgmma 800 TFLOP/s, mma.sync 500 TFLOP/s, copy 4000 GB/s")
	r := expect(t, c, "ops", c.ops("ecad"), pass, "88 % of peak, aim 84 %: met", "75 % of peak, aim 85 %: missed")
	var times []opTime
	if err := json.Unmarshal(r.Data, &times); err != nil || len(times) != 2 || times[0].Share != 0.875 {
		t.Errorf("check.json would hold %s: %v", r.Data, err)
	}
	expect(t, c, "model", c.bench("pixart-256", "m"), pass, "guided step 2.000 ms", "2.00 times as fast with 2.50 times less work", "attn1 of 2 blocks: computed 1.000 ms, reused 0.0200 ms, 400.0 TFLOP/s, 2000 GB/s (50 % and 50 % of peak)")
	expect(t, c, "ops, cuBLASLt", c.ops("cublaslt"), skip, "cuBLASLt is not found")
	expect(t, c, "model, cuBLASLt", c.bench("x", "m", "--gemm", "cublaslt"), skip, "cuBLASLt is not found")
	expect(t, c, "no graphs", c.against("a step without graphs", "y", "m"), pass, "a step without graphs: 2.000 ms against 2.000 ms, 1.00 times")
	if text := c.describeTorch(torchLine{"compiled", "pixart-256", 3}); !strings.Contains(text, "ours 2.000 ms: 1.50 times as fast") {
		t.Error(text)
	}
	if text := c.describeTorch(torchLine{"linear", "flux-1024 qkv", 0.33}); !strings.Contains(text, "ours 0.300 ms: 1.10 times as fast") {
		t.Error(text)
	}
}

// What goes wrong on a machine is a failure that says what, never a pass.
func TestBenchmarkSectionsFail(t *testing.T) {
	c := bundleOf(t, map[string]string{
		"tests/ecad_probe":       `echo "peaks: wgmma: sum 3 is not 4096 times that of one round" >&2; exit 1`,
		"tests/cuda_bench":       `echo '[]'`,
		"tests/one_process.test": `echo "--- PASS: TestA (0.1s)"; echo "--- FAIL: TestB (0.1s)"; exit 1`,
		"bin/ecadx":              `echo "ecadx: --device cuda: out of memory" >&2; exit 1`,
	})
	expect(t, c, "peaks", c.measurePeaks, fail, "sum 3 is not")
	expect(t, c, "ops", c.ops("ecad"), fail)
	expect(t, c, "model", c.bench("x", "m"), fail, "out of memory")
	expect(t, c, "one process", c.oneProcess, fail, "--- FAIL: TestB")
}
