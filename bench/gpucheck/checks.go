package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// device asks what there is; without a CUDA device every section that follows is skipped. Where the question itself fails the others are tried all the same.
func (c *checker) device(r *result) {
	out, err := c.ecadx("devices", "--json")
	if err != nil {
		r.fail("%v", err)
		return
	}
	var list struct {
		Devices []struct{ Device, Backend, Name, Features string }
		Missing []struct{ Backend, Why string }
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		r.fail("ecadx devices --json: %v", err)
		return
	}
	r.Data = json.RawMessage(out)
	for _, d := range list.Devices {
		if d.Backend == "cuda" {
			r.Passed++
			r.note("%s: %s, %s", d.Device, d.Name, d.Features)
		}
	}
	if r.Passed > 0 {
		return
	}
	c.why = "ecadx devices lists none"
	for _, m := range list.Missing {
		if strings.HasPrefix(m.Backend, "cuda") {
			c.why = m.Why
		}
	}
	r.skip("%s", c.why)
}

// probes compares every instruction with what the emulator made of it when the bundle was built.
func (c *checker) probes(r *result) {
	report := filepath.Join(c.dir, "probes.json")
	o := c.command(c.test("ecad_probe"), "--check", filepath.Join(c.dir, "probes.expected"), "--json", report)
	for line := range strings.SplitSeq(o.stdout, "\n") { // those before a cut, too
		switch {
		case strings.HasPrefix(line, string(pass)):
			r.Passed++
		case strings.HasPrefix(line, string(fail)):
			r.fail("%s", line)
		case strings.HasPrefix(line, string(skip)):
			r.skip("%s", line)
		}
	}
	if o.err != nil || (o.code != 0 && r.Failed == 0) {
		r.fail("ecad_probe: exit code %d, %v: %s", o.code, o.err, o.last())
	}
	if data, err := os.ReadFile(report); err == nil && json.Valid(data) {
		r.Data = data
	}
}

var counts = regexp.MustCompile(`(\d+) (?:checks|tests), (\d+) fail`)

// together is how many test programs run at a time: most of their time is the reference backend's.
const together = 4

// programs runs every test program of the bundle whose name matches. Each prints how much it checked, and ends with 0, or with 77 to be skipped.
func (c *checker) programs(pattern string) func(*result) {
	return func(r *result) {
		found, _ := filepath.Glob(c.test(pattern))
		outputs := make([]output, len(found))
		places := make(chan struct{}, together)
		var all sync.WaitGroup
		for i, path := range found {
			all.Go(func() {
				places <- struct{}{}
				outputs[i] = c.command(path)
				<-places
			})
		}
		all.Wait()
		for i, path := range found {
			judge(r, filepath.Base(path), outputs[i])
		}
		if len(found) == 0 {
			r.fail("this bundle has no %s", pattern)
		}
	}
}

// judge counts what a test program says.
func judge(r *result, name string, o output) {
	checks, failures := 0, 0
	for _, m := range counts.FindAllStringSubmatch(o.stdout, -1) {
		n, _ := strconv.Atoi(m[1])
		f, _ := strconv.Atoi(m[2])
		checks += n
		failures += f
	}
	switch {
	case o.err != nil:
		r.fail("%s: %v: %s", name, o.err, firstFailure(o))
	case o.code == exitSkipped:
		r.skip("%s: %s", name, o.last())
	case o.code != 0 || failures > 0:
		r.fail("%s: exit code %d, %d of %d failed: %s", name, o.code, failures, checks, firstFailure(o))
	case checks == 0:
		r.fail("%s: checked nothing: %s", name, o.last())
	default:
		r.Passed += checks
	}
}

func firstFailure(o output) string {
	for line := range strings.SplitSeq(o.all(), "\n") {
		if strings.HasPrefix(line, string(fail)) {
			return line
		}
	}
	return o.last()
}

// parity runs the prepared cases whose names start with prefix. In float32 the result may be 1e-4 from the cpu backend's; in bfloat16 twice as far
// as the cpu backend's own bfloat16 is.
func (c *checker) parity(r *result, prefix string) {
	for _, p := range parityCases {
		if !strings.HasPrefix(p.name, prefix) {
			continue
		}
		truth, err := readTensor(p.output(c.dir, "cpu", dtypes[0]), p.tensor)
		if err != nil {
			r.fail("%v", err)
			continue
		}
		for _, dtype := range dtypes {
			if err := c.parityOne(r, p, dtype, truth); err != nil {
				r.fail("%s in %s: %v", p.name, dtype, err)
			}
		}
	}
}

func (c *checker) parityOne(r *result, p parityCase, dtype string, truth []float32) error {
	plain, err := readTensor(p.output(c.dir, "cpu", dtype), p.tensor)
	if err != nil {
		return err
	}
	if _, err := c.ecadx(p.command(c.dir, "cuda", dtype)...); err != nil {
		return err
	}
	got, err := readTensor(p.output(c.dir, "cuda", dtype), p.tensor)
	if err != nil {
		return err
	}
	distance, err := relativeError(got, truth)
	if err != nil {
		return err
	}
	own, err := relativeError(plain, truth)
	if err != nil {
		return err
	}
	limit := max(1e-4, 2*own)
	if !(distance <= limit) {
		return fmt.Errorf("relative error %.3g from the cpu backend in float32, the limit is %.3g", distance, limit)
	}
	r.Passed++
	r.note("%s in %s: relative error %.3g, limit %.3g", p.name, dtype, distance, limit)
	return nil
}

// raceArgs are those of cuda_race for the compiled program of the bundle.
func (c *checker) raceArgs(runs string) []string {
	return []string{filepath.Join(c.dir, "compiled", "denoise.ecadprog"), filepath.Join(c.dir, "compiled", "weights.safetensors"), runs}
}

func (c *checker) race(r *result) {
	o := c.command(c.test("cuda_race"), c.raceArgs("200")...)
	if o.err != nil || o.code != 0 {
		r.fail("cuda_race: exit code %d, %v: %s", o.code, o.err, o.last())
		return
	}
	r.Passed = 200
}

// raceOps runs single ops at released shapes again and again: every run must give the same bytes.
func (c *checker) raceOps(r *result) {
	o := c.command(c.test("cuda_bench"), "race")
	judge(r, "cuda_bench race", o)
}

// oneProcess runs the Go test that holds the CUDA runtime, the driver through gorgonia.org/cu and cuBLASLt together.
func (c *checker) oneProcess(r *result) {
	o := c.command(c.test("one_process.test"), "-test.v", "-test.run", "CUDARuntimeAndDriver")
	for line := range strings.SplitSeq(o.all(), "\n") {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "--- PASS"):
			r.Passed++
		case strings.HasPrefix(line, "--- SKIP"):
			r.skip("%s", line)
		case strings.HasPrefix(line, "--- FAIL"):
			r.fail("%s", line)
		case strings.Contains(line, "SKIP:"):
			r.note("%s", line)
		}
	}
	if o.err != nil || (o.code != 0 && r.Failed == 0) {
		r.fail("one_process.test: exit code %d, %v: %s", o.code, o.err, o.last())
	}
}

// sanitizer runs the smallest programs under compute-sanitizer, if the machine has it.
func (c *checker) sanitizer(r *result) {
	tool, err := exec.LookPath("compute-sanitizer")
	if err != nil {
		if tool = "/usr/local/cuda/bin/compute-sanitizer"; !exists(tool) {
			r.skip("compute-sanitizer is not on this machine")
			return
		}
	}
	if o := c.runner.run(10*time.Second, c.outside, tool, "--version"); o.err != nil || o.code != 0 {
		r.skip("%s does not start: %s", tool, o.last())
		return
	}
	for _, kind := range []string{"memcheck", "racecheck", "synccheck"} {
		args := append([]string{"--tool", kind, "--error-exitcode", "9", c.test("cuda_race")}, c.raceArgs("1")...)
		o := c.command(tool, args...)
		switch {
		case strings.Contains(o.all(), "Device not supported"): // as in sandboxes that keep the debugger's interface from the driver
			r.skip("%s: compute-sanitizer does not support this device", kind)
		case o.err != nil || o.code != 0:
			r.fail("%s: exit code %d, %v: %s", kind, o.code, o.err, o.last())
		default:
			r.Passed++
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
