package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A program that hangs takes its section's time and no more, with all that it started; what it said counts, and is in the log.
func TestHang(t *testing.T) {
	c := bundleOf(t, map[string]string{
		"tests/test_cuda_a": `echo "12 checks, 0 failures"`,
		"tests/test_cuda_b": `echo "FAIL case 3: wrong"; (sleep 40; touch "` + filepath.Join(t.TempDir(), "left") + `") & sleep 50`,
		"tests/ecad_probe":  `echo "PASS one"; echo "FAIL two: no answer"; sleep 50`,
	})
	begin := time.Now()
	c.section(section{"opcodes", time.Second, c.programs("test_cuda_*")})
	c.section(section{"probes", time.Second, c.probes})
	if taken := time.Since(begin); taken > 10*time.Second {
		t.Errorf("two sections of a second took %v", taken)
	}
	opcodes, probes := c.results[0], c.results[1]
	if opcodes.Status != fail || opcodes.Passed != 12 || opcodes.Failed != 1 || !strings.Contains(opcodes.Details[0], "test_cuda_b: cut off after 1s: FAIL case 3") {
		t.Errorf("opcodes: %+v", opcodes)
	}
	if probes.Status != fail || probes.Passed != 1 || probes.Failed != 2 {
		t.Errorf("probes: %+v", probes)
	}
	log, err := os.ReadFile(filepath.Join(c.dir, "check.log"))
	if err != nil || !strings.Contains(string(log), "FAIL case 3: wrong") || !strings.Contains(string(log), "cut off") {
		t.Errorf("check.log: %v:\n%s", err, log)
	}
	if left, err := filepath.Glob(filepath.Join(c.runner.tmp, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// check.json is whole after every section.
func TestJSONAfterEverySection(t *testing.T) {
	c := bundleOf(t, map[string]string{"bin/ecadx": `echo '{"devices":[{"device":"cuda:0","backend":"cuda","name":"a GPU","features":"sm_90"}]}'`})
	for i, s := range []section{{"device", time.Second, c.device}, {"race", time.Second, c.race}} {
		c.section(s)
		var got struct {
			Sections []result
			Complete bool
			ExitCode int `json:"exit_code"`
		}
		data, err := os.ReadFile(c.json())
		if err == nil {
			err = json.Unmarshal(data, &got)
		}
		if err != nil || len(got.Sections) != i+1 || got.Complete || got.ExitCode != i {
			t.Errorf("after %s: %v: %s", s.name, err, data)
		}
	}
}

// Without a device everything is skipped; where that cannot be told everything is tried.
func TestDevice(t *testing.T) {
	c := bundleOf(t, map[string]string{"bin/ecadx": `echo '{"devices":[{"device":"cpu","backend":"cpu"}],"missing":[{"backend":"cuda","why":"there is no NVIDIA driver"}]}'`})
	for _, s := range c.sections() {
		c.section(s)
	}
	for _, r := range c.results {
		if r.Status != skip || !strings.Contains(r.Details[0], "there is no NVIDIA driver") {
			t.Errorf("%s: %s %v", r.Section, r.Status, r.Details)
		}
	}
	if c.exitCode() != exitSkipped {
		t.Errorf("exit code %d", c.exitCode())
	}
	c = bundleOf(t, map[string]string{"bin/ecadx": `echo "libOpenCL.so.1: cannot open shared object file" >&2; exit 127`, "tests/cuda_race": "exit 0"})
	c.section(section{"device", time.Second, c.device})
	c.section(section{"race", time.Second, c.race})
	if c.results[0].Status != fail || c.results[1].Status != pass || c.exitCode() != exitFailed {
		t.Errorf("%+v %+v", c.results[0], c.results[1])
	}
}

// An interrupt ends the program that runs and skips what is left.
func TestInterrupt(t *testing.T) {
	c := bundleOf(t, map[string]string{"tests/cuda_race": "sleep 50"})
	ctx, cancel := context.WithCancel(t.Context())
	c.runner.ctx = ctx
	time.AfterFunc(100*time.Millisecond, cancel)
	c.section(section{"race", time.Minute, c.race})
	c.section(section{"again", time.Minute, c.race})
	if c.results[0].Status != fail || c.results[1].Status != skip || c.results[0].Seconds > 10 {
		t.Errorf("%+v %+v", c.results[0], c.results[1])
	}
}

// Libraries of the compiler are taken from the bundle, from the machine where the bundle's do not work there.
func TestEnvironment(t *testing.T) {
	path := func(c *checker) string {
		inside, outside := c.runner.environment(c.dir)
		o := c.runner.run(time.Second, inside, "/bin/sh", "-c", "echo $LD_LIBRARY_PATH")
		if other := c.runner.run(time.Second, outside, "/bin/sh", "-c", "echo $LD_LIBRARY_PATH"); strings.Contains(other.stdout, c.dir) {
			t.Errorf("programs of the machine see the bundle's libraries: %s", other.stdout)
		}
		return o.stdout
	}
	c := bundleOf(t, map[string]string{"bin/ecadx": "exit 0"})
	if p := path(c); !strings.HasPrefix(p, c.dir+"/lib:"+c.dir+"/lib/compiler") {
		t.Error(p)
	}
	c = bundleOf(t, map[string]string{"bin/ecadx": `case "$LD_LIBRARY_PATH" in */compiler*) echo "GLIBC_2.36 not found" >&2; exit 1;; esac`})
	if p := path(c); !strings.HasPrefix(p, c.dir+"/lib") || strings.Contains(p, "compiler") {
		t.Error(p)
	}
}

func TestAims(t *testing.T) {
	c := bundleOf(t, nil)
	r := &result{}
	c.aims(r)
	if r.Passed != 0 || r.Failed != 0 || r.Skipped != 5+3+3+3+3 {
		t.Errorf("without a figure: %+v", r)
	}
	c.peaks = &peaks{MMA: 500, WGMMA: 800, CopyGBs: 3000}
	c.ours = []opTime{{Op: "linear", Shape: "flux-1024 up", Share: 0.85}, {Op: "attention", Shape: "pixart-1024 self", Share: 0.49}, {Op: "linear", Shape: "pixart-256 up", Share: 0.1}}
	slow := &modelBench{Step: spread{120}, Efficiency: 0.95}
	slow.Reuse.Step, slow.Reuse.Floor = spread{1.31}, spread{1}
	quick := &modelBench{Step: spread{3}}
	quick.Reuse.Step, quick.Reuse.Floor = spread{1.33}, spread{1}
	c.models = map[string]*modelBench{"pixart-256 b100": slow, "pixart-256": quick}
	c.peer = []torchLine{{"eager", "pixart-256", 9}, {"compiled", "pixart-256", 2.9}, {"compiled", "pixart-256 b100", 130}}
	r = &result{}
	c.aims(r)
	text := strings.Join(r.Details, "\n")
	for _, want := range []string{
		"met     linear flux-1024 up: 85 % of peak, aim at least 84", "missed  attention pixart-1024 self: 49 % of peak, aim at least 50",
		"met     guided step of pixart-256: 3 ms, aim at most 3.15", "missed  guided step of pixart-256 b100: 120 ms, aim at most 110",
		"missed  step of pixart-256 that reuses everything: 1.33 ms, aim at most 1.32", "met     step of pixart-256 b100 that reuses everything",
		"met     speedup of pixart-256 b100 over the arithmetic saved: 0.95", "missed  compiled PyTorch's step over ours, pixart-256: 0.967 times", "met     compiled PyTorch's step over ours, pixart-256 b100",
		"not measured: linear pixart-1024", "not measured: chain", "5 of 9 aims met",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if r.Failed != 0 || !json.Valid(r.Data) {
		t.Errorf("%+v", r)
	}
}
