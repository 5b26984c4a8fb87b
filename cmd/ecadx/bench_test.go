package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ecadx/bench"
	"ecadx/dit/mini"
)

// command runs ecadx with arguments. An exit code other than want fails the test; so does an error that is not one line.
func command(t *testing.T, want exitCode, args ...string) (stdout, stderr string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), builtCommand, args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := exitCode(c.ProcessState.ExitCode()); got != want {
		t.Fatalf("ecadx %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, want, out.String(), errs.String())
	}
	if want != exitDone {
		if text := errs.String(); !strings.HasPrefix(text, "ecadx: ") || strings.Count(text, "\n") != 1 || strings.Count(text, ": ") < 2 {
			t.Errorf("ecadx %s: not one line of WHERE: WHAT: HOW TO FIX: %q", strings.Join(args, " "), text)
		}
	}
	return out.String(), errs.String()
}

// decode reads a JSON document; members that the type lacks are fine.
func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("no JSON document: %v\n%.300s", err, text)
	}
	if d.More() {
		t.Fatalf("more than one JSON document:\n%.300s", text)
	}
	return v
}

func TestBenchCommand(t *testing.T) {
	args := []string{"bench", "--blocks", "1", "--steps", "3", "--repeat", "2", "--threads", "1", "--text-tokens", "8", "--schedule", "fora:2", "--device", "cpu"}
	text, _ := command(t, exitDone, append(args, "--json")...)
	members := decode[map[string]json.RawMessage](t, text)
	for _, name := range []string{"model", "device", "dtype", "resolution", "batch", "steps", "guidance", "schedule", "step_ms", "run_ms", "uncached_run_ms", "speedup", "macs",
		"uncached_macs", "macs_ratio", "flops", "uncached_flops", "flops_ratio", "memory_bytes", "components", "text_ms", "decode_ms"} {
		if _, ok := members[name]; !ok {
			t.Errorf("bench --json lacks %s", name)
		}
	}
	r := decode[bench.Report](t, text)
	if r.Model != "mini-pixart" || r.Device != "cpu" || r.Schedule != "fora:2" || r.Steps != 3 || r.Guidance != mini.PixArtGuidance || len(r.Components) != 3 || r.Resolution.Height != 64 {
		t.Errorf("report %+v", r)
	}
	file := filepath.Join(t.TempDir(), "before.json")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	svg := filepath.Join(t.TempDir(), "steps.svg")
	args = append(args, "--compare", file, "--detail", "--ascii", "--svg", svg)
	table, remarks := command(t, exitDone, append(args, "--schedule", "fora:3")...)
	for _, part := range []string{"mini-pixart, ", "attn1", "ff", "GFLOP/s", "#0", "step   2", "###", "compared with " + file, "schedule was fora:2, is fora:3", "uncached run", "of peak"} {
		if !strings.Contains(table, part) {
			t.Errorf("%q is not in\n%s", part, table)
		}
	}
	if !strings.Contains(remarks, "ecadx bench: memory: ") {
		t.Errorf("no plan in %s", remarks)
	}
	if data, err := os.ReadFile(svg); err != nil || !bytes.HasPrefix(data, []byte("<svg ")) {
		t.Errorf("picture: %v", err)
	}
	command(t, exitBadInput, args...) // the picture exists already
	_, message := command(t, exitBadInput, append(args, "--batch", "2", "--force")...)
	if !strings.Contains(message, "batch 1, now 2") {
		t.Errorf("a report of another size: %s", message)
	}
}

// Without peaks and with little to do, what the command itself gets wrong.
func TestBenchCheck(t *testing.T) {
	args := []string{"bench", "--check", "--model", "random:pixart-alpha-256", "--schedule", "fora:2"}
	text, _ := command(t, exitDone, append(args, "--json")...)
	m := decode[struct {
		Memory bench.Memory `json:"memory_bytes"`
	}](t, text).Memory
	if m.Weights < 1<<30 || m.Total != m.Weights+m.Activations+m.Slots+m.Runtime || m.ProcessPeak != 0 {
		t.Errorf("plan %+v", m)
	}
	if people, _ := command(t, exitDone, args...); !strings.Contains(people, "GiB planned: weights ") {
		t.Errorf("for people: %s", people)
	}
	_, message := command(t, exitFailed, "bench", "--check", "--model", "random:pixart-alpha-1024", "--batch", "4096", "--schedule", "fora:2")
	if !strings.Contains(message, "are free: lower --batch or --resolution") {
		t.Errorf("what no machine has: %s", message)
	}
}

// The sizes of a released model without its checkpoint, the first block only: no more memory than that block needs.
func TestBenchReleasedSizes(t *testing.T) {
	text, _ := command(t, exitDone, "bench", "--model", "random:pixart-alpha-256", "--blocks", "1", "--steps", "3", "--resolution", "128", "--text-tokens", "16",
		"--repeat", "1", "--schedule", "fora:3", "--dtype", "float32", "--json")
	r := decode[bench.Report](t, text)
	if r.Guidance != 4.5 || r.TextMS != nil || r.DecodeMS != nil || r.Resolution.Width != 128 {
		t.Errorf("guidance %g, text %v, decoder %v, %v px", r.Guidance, r.TextMS, r.DecodeMS, r.Resolution)
	}
	// Block 0 of width 1152: 12 matrices of the width squared and 4 more in the feed-forward's two; embeddings and caption projection come on top.
	if least, most := int64(16*1152*1152*4), int64(200<<20); r.Memory.Weights < least || r.Memory.Weights > most {
		t.Errorf("weights of %d bytes, want %d to %d", r.Memory.Weights, least, most)
	}
	if r.Memory.ProcessPeak > 1<<30 {
		t.Errorf("one block took %d bytes", r.Memory.ProcessPeak)
	}
}

func TestBenchImages(t *testing.T) {
	args := []string{"bench", "--images", "3", "--batch", "2", "--steps", "2", "--repeat", "1", "--threads", "2", "--isa", "avx2", "--schedule", "fora:2"}
	text, _ := command(t, exitDone, append(args, "--json")...)
	r := decode[bench.Throughput](t, text)
	if r.Images != 3 || r.Batch != 2 || r.Workers != 2 || r.Schedule != "fora:2" || r.DType != "float32" || !(r.ImagesPerSecond.Median > 0) {
		t.Errorf("report %+v", r)
	}
	people, _ := command(t, exitDone, args...)
	if !strings.Contains(people, "images/s (p10 ") {
		t.Errorf("for people:\n%s", people)
	}
}

var pixart256 = flag.Bool("pixart256", false, "hold the memory of the whole PixArt-256 to its plan (minutes, 3 GB)")

// What bench says beforehand is what the process holds at most, within 10 %.
func TestPlannedMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: the race detector takes memory of its own")
	}
	size := []string{"--blocks", "4", "--resolution", "128", "--text-tokens", "16"}
	if *pixart256 {
		size = nil
	}
	for _, dtype := range []string{"bfloat16", "float32"} {
		text, _ := command(t, exitDone, append([]string{"bench", "--model", "random:pixart-alpha-256", "--steps", "2", "--repeat", "1", "--schedule", "fora:2", "--dtype", dtype, "--json"}, size...)...)
		m := decode[bench.Report](t, text).Memory
		if off := float64(m.ProcessPeak)/float64(m.Total) - 1; !(math.Abs(off) <= 0.1) {
			t.Errorf("%s: the process reached %d bytes, planned were %d (%+.1f %%): %+v", dtype, m.ProcessPeak, m.Total, 100*off, m)
		} else {
			t.Logf("%s: %+.1f %% off the plan of %d bytes", dtype, 100*off, m.Total)
		}
	}
}

func TestBenchRefuses(t *testing.T) {
	no := filepath.Join(t.TempDir(), "none.json")
	for _, c := range []struct {
		want exitCode
		args []string
	}{
		{exitUsage, []string{"--steps", "0"}},
		{exitUsage, []string{"--blocks", "0"}},
		{exitUsage, []string{"--batch", "-1"}},
		{exitUsage, []string{"--repeat", "0"}},
		{exitUsage, []string{"--text-tokens", "1000000"}},
		{exitUsage, []string{"--resolution", "65"}},
		{exitUsage, []string{"--images", "0"}},
		{exitUsage, []string{"--images", "2", "--blocks", "1"}},
		{exitUsage, []string{"--isa", "sse2"}},
		{exitUsage, []string{"--isa", "avx2", "--device", "reference"}},
		{exitUsage, []string{"--gemm", "cublas"}},
		{exitUsage, []string{"--gemm", "cublaslt", "--device", "cpu"}},
		{exitUsage, []string{"--no-graphs", "--device", "cpu"}},
		{exitUsage, []string{"--no-graphs", "--images", "2"}},
		{exitBadInput, []string{"--images", "2", "--model", "random:pixart-alpha-256"}},
		{exitUsage, []string{"surplus"}},
		{exitUsage, []string{"--dtype", "float64"}},
		{exitBadInput, []string{"--schedule", "nonesuch"}},
		{exitBadInput, []string{"--model", "nonesuch"}},
		{exitBadInput, []string{"--compare", no}},
		{exitBadInput, []string{"--compare", "bench_test.go"}},
		{exitNoDevice, []string{"--device", "cuda:99"}},
	} {
		command(t, c.want, append([]string{"bench"}, c.args...)...)
	}
}

func TestDevicesCommand(t *testing.T) {
	text, _ := command(t, exitDone, "devices", "--json")
	l := decode[deviceList](t, text)
	found := map[string]bool{}
	for _, d := range l.Devices {
		found[d.Device] = true
		if d.Name == "" || d.Threads < 1 || d.MemoryTotal < 1<<20 {
			t.Errorf("device %+v", d)
		}
	}
	for _, m := range l.Missing {
		found[m.Backend] = true
		if m.Why == "" {
			t.Errorf("no word why there is no %s", m.Backend)
		}
	}
	if !found["reference"] || !found["cpu"] || !found[l.Auto] || !(found["cuda"] || found["cuda:0"]) {
		t.Errorf("devices %+v", l)
	}
	people, _ := command(t, exitDone, "devices")
	if !strings.Contains(people, "reference") || !strings.Contains(people, ", the default") {
		t.Errorf("devices for people:\n%s", people)
	}
	command(t, exitUsage, "devices", "cpu")
}
