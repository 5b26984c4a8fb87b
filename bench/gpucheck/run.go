package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const budget = 8 * time.Minute

type status string

const (
	pass status = "PASS"
	fail status = "FAIL"
	skip status = "SKIP"
)

// result is one section of check.json.
type result struct {
	Section string          `json:"section"`
	Status  status          `json:"status"`
	Passed  int             `json:"passed"`
	Failed  int             `json:"failed"`
	Skipped int             `json:"skipped"`
	Seconds float64         `json:"seconds"`
	Details []string        `json:"details,omitempty"` // of what failed or was skipped, and figures
	Data    json.RawMessage `json:"data,omitempty"`
}

func (r *result) fail(format string, a ...any) {
	r.Failed++
	r.Details = append(r.Details, fmt.Sprintf(format, a...))
}

// note adds a figure.
func (r *result) note(format string, a ...any) {
	r.Details = append(r.Details, fmt.Sprintf(format, a...))
}

func (r *result) skip(format string, a ...any) {
	r.Skipped++
	r.Details = append(r.Details, fmt.Sprintf(format, a...))
}

// checker runs the sections; end is when the last may still be running.
type checker struct {
	dir     string
	end     time.Time
	why     string // no device: why
	results []*result
	peaks   *peaks             // nil: not measured
	ours    []opTime           // by our own kernels
	steps   map[string]float64 // guided steps in milliseconds, by name
}

// run does every section, the most telling ones first, and returns the process's exit code.
func run(dir string) int {
	c := &checker{dir: dir, end: time.Now().Add(budget), steps: map[string]float64{}}
	c.section("device", c.device)
	c.section("probes", c.probes)
	c.section("opcodes", c.programs("test_cuda_*"))
	c.section("parity miniature", func(r *result) { c.parity(r, "mini-") })
	c.section("parity pixart-alpha-256", func(r *result) { c.parity(r, "pixart-") })
	c.section("race, 200 runs", c.race)
	c.section("one process", c.oneProcess)
	c.section("peaks", c.measurePeaks)
	c.section("ops", c.ops("ecad"))
	const alpha256, alpha1024, missing = "random:pixart-alpha-256", "random:pixart-alpha-1024", "cuBLASLt is not found"
	c.section("pixart-256", c.bench("pixart-256", alpha256, "", "--schedule", "fora:2"))
	c.section("pixart-1024", c.bench("pixart-1024", alpha1024, "", "--schedule", "fora:2"))
	c.section("pixart-256 b100", c.bench("pixart-256 b100", alpha256, "", "--schedule", "fora:2", "--batch", "100", "--repeat", "2"))
	c.section("ops, cuBLASLt", c.ops("cublaslt"))
	c.section("pixart-256, cuBLASLt", func(r *result) {
		c.bench("pixart-256, cuBLASLt", alpha256, missing, "--gemm", "cublaslt", "--repeat", "3")(r)
		c.compareSteps(r, "pixart-256", "pixart-256, cuBLASLt", "a step with cuBLASLt")
	})
	c.section("pixart-256, no graphs", func(r *result) {
		c.bench("pixart-256, no graphs", alpha256, "", "--no-graphs", "--repeat", "3")(r)
		c.compareSteps(r, "pixart-256", "pixart-256, no graphs", "a step without graphs")
	})
	c.section("torch", c.torch)
	c.section("compute-sanitizer", c.sanitizer)
	c.section("miniature", c.bench("miniature", "mini-pixart", "", "--batch", "16", "--schedule", "fora:2", "--repeat", "3"))
	return c.finish()
}

func (c *checker) section(name string, do func(*result)) {
	r := &result{Section: name}
	begin := time.Now()
	switch {
	case c.why != "":
		r.skip("no CUDA device: %s", c.why)
	case time.Until(c.end) < 5*time.Second:
		r.skip("out of time: %v are over", budget)
	default:
		do(r)
	}
	r.Seconds = time.Since(begin).Seconds()
	switch {
	case r.Failed > 0:
		r.Status = fail
	case r.Passed > 0:
		r.Status = pass
	default:
		r.Status = skip
	}
	fmt.Printf("%s  %-28s %d passed, %d failed, %d skipped, %.1f s\n", r.Status, r.Section, r.Passed, r.Failed, r.Skipped, r.Seconds)
	for _, d := range r.Details {
		fmt.Printf("      %s\n", d)
	}
	c.results = append(c.results, r)
}

func (c *checker) finish() int {
	code := exitSkipped
	for _, r := range c.results {
		if r.Status == fail {
			code = exitFailed
		}
		if r.Status == pass && code == exitSkipped {
			code = 0
		}
	}
	data, err := json.MarshalIndent(map[string]any{"sections": c.results, "exit_code": code}, "", "  ")
	path := filepath.Join(c.dir, "check.json")
	if err == nil {
		err = os.WriteFile(path, append(data, '\n'), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpucheck: check.json:", err)
		return exitFailed
	}
	fmt.Printf("written: %s\n", path)
	return code
}

// command runs a program of the bundle within what is left of the time; output is both streams.
func (c *checker) command(name string, args ...string) (output string, code int, err error) {
	ctx, cancel := context.WithDeadline(context.Background(), c.end)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return string(out), exit.ExitCode(), nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("cut off: %v are over", budget)
	}
	return string(out), 0, err
}

func (c *checker) ecadx(args ...string) (string, error) {
	var stderr bytes.Buffer
	ctx, cancel := context.WithDeadline(context.Background(), c.end)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.dir, "bin", "ecadx"), args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("ecadx %s: %w: %s", strings.Join(args, " "), err, lastLine(stderr.String()))
	}
	return string(out), err
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// device asks what there is; without a CUDA device every section that follows is skipped.
func (c *checker) device(r *result) {
	out, err := c.ecadx("devices", "--json")
	if err != nil {
		r.fail("%v", err)
		c.why = "devices failed"
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
			r.Details = append(r.Details, d.Device+": "+d.Name+", "+d.Features)
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
	out, code, err := c.command(filepath.Join(c.dir, "tests", "ecad_probe"), "--check", filepath.Join(c.dir, "probes.expected"), "--json", report)
	if err != nil {
		r.fail("ecad_probe: %v", err)
		return
	}
	for line := range strings.SplitSeq(out, "\n") {
		switch {
		case strings.HasPrefix(line, string(pass)):
			r.Passed++
		case strings.HasPrefix(line, string(fail)):
			r.fail("%s", line)
		case strings.HasPrefix(line, string(skip)):
			r.skip("%s", line)
		}
	}
	if code != 0 && r.Failed == 0 {
		r.fail("ecad_probe: exit code %d: %s", code, lastLine(out))
	}
	if data, err := os.ReadFile(report); err == nil && json.Valid(data) {
		r.Data = data
	}
}

var counts = regexp.MustCompile(`(\d+) (?:checks|tests), (\d+) fail`)

// programs runs every test program of the bundle whose name matches. Each prints how much it checked, and ends with 0, or with 77 to be skipped.
func (c *checker) programs(pattern string) func(*result) {
	return func(r *result) {
		found, _ := filepath.Glob(filepath.Join(c.dir, "tests", pattern))
		for _, path := range found {
			name := filepath.Base(path)
			out, code, err := c.command(path)
			checks, failures := 0, 0
			for _, m := range counts.FindAllStringSubmatch(out, -1) {
				n, _ := strconv.Atoi(m[1])
				f, _ := strconv.Atoi(m[2])
				checks += n
				failures += f
			}
			switch {
			case err != nil:
				r.fail("%s: %v", name, err)
			case code == exitSkipped:
				r.skip("%s: %s", name, lastLine(out))
			case code != 0 || failures > 0:
				r.fail("%s: exit code %d, %d of %d failed: %s", name, code, failures, checks, firstFailure(out))
			case checks == 0:
				r.fail("%s: checked nothing: %s", name, lastLine(out))
			default:
				r.Passed += checks
			}
		}
		if len(found) == 0 {
			r.skip("this bundle has no %s", pattern)
		}
	}
}

func firstFailure(out string) string {
	for line := range strings.SplitSeq(out, "\n") {
		if strings.HasPrefix(line, "FAIL") {
			return line
		}
	}
	return lastLine(out)
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
	r.Details = append(r.Details, fmt.Sprintf("%s in %s: relative error %.3g, limit %.3g", p.name, dtype, distance, limit))
	return nil
}

func (c *checker) race(r *result) {
	out, code, err := c.command(filepath.Join(c.dir, "tests", "cuda_race"), filepath.Join(c.dir, "compiled", "denoise.ecadprog"), filepath.Join(c.dir, "compiled", "weights.safetensors"), "200")
	if err != nil || code != 0 {
		r.fail("cuda_race: exit code %d, %v: %s", code, err, lastLine(out))
		return
	}
	r.Passed = 200
}

// oneProcess runs the Go test that holds the CUDA runtime, the driver through gorgonia.org/cu and cuBLASLt together.
func (c *checker) oneProcess(r *result) {
	out, code, err := c.command(filepath.Join(c.dir, "tests", "one_process.test"), "-test.v", "-test.run", "CUDARuntimeAndDriver")
	for line := range strings.SplitSeq(out, "\n") {
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
	if err != nil || (code != 0 && r.Failed == 0) {
		r.fail("one_process.test: exit code %d, %v: %s", code, err, lastLine(out))
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
	for _, kind := range []string{"memcheck", "racecheck", "synccheck"} {
		out, code, err := c.command(tool, "--tool", kind, "--error-exitcode", "9", filepath.Join(c.dir, "tests", "cuda_race"), filepath.Join(c.dir, "compiled", "denoise.ecadprog"),
			filepath.Join(c.dir, "compiled", "weights.safetensors"), "1")
		if err != nil || code != 0 {
			r.fail("%s: exit code %d, %v: %s", kind, code, err, lastLine(out))
			continue
		}
		r.Passed++
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
