package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// budget is what all sections may take together.
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

// checker runs the sections, one after another.
type checker struct {
	dir             string
	runner          *runner
	inside, outside []string  // environments: of the bundle's programs, of the machine's
	end             time.Time // of all sections
	until           time.Time // of the one that runs
	why             string    // no device: why
	results         []*result
	complete        bool
	measured
}

// section is one of them; no hang in it takes more than limit from the others. No limit: it only looks at what others measured.
type section struct {
	name  string
	limit time.Duration
	do    func(*result)
}

// sections are all of them, the most telling ones first.
func (c *checker) sections() []section {
	const alpha256, alpha1024, half = "random:pixart-alpha-256", "random:pixart-alpha-1024", "random:0.5:1"
	return []section{
		{"device", 30 * time.Second, c.device},
		{"probes", 75 * time.Second, c.probes},
		{"opcodes", 100 * time.Second, c.programs("test_cuda_*")},
		{"parity miniature", 45 * time.Second, func(r *result) { c.parity(r, "mini-") }},
		{"parity pixart-alpha-256", 75 * time.Second, func(r *result) { c.parity(r, "pixart-") }},
		{"race, 200 runs", 30 * time.Second, c.race},
		{"one process", 20 * time.Second, c.oneProcess},
		{"peaks", 20 * time.Second, c.measurePeaks},
		{"ops", 45 * time.Second, c.ops("ecad")},
		{"pixart-256", 45 * time.Second, c.bench("pixart-256", alpha256, "--schedule", "fora:2")},
		{"pixart-1024", 45 * time.Second, c.bench("pixart-1024", alpha1024, "--schedule", "fora:2")},
		{"pixart-256 b100", 60 * time.Second, c.bench("pixart-256 b100", alpha256, "--schedule", half, "--batch", "100", "--repeat", "2")},
		{"pixart-1024, half reused", 45 * time.Second, c.bench("pixart-1024, half reused", alpha1024, "--schedule", half, "--repeat", "2")},
		{"race, ops", 45 * time.Second, c.raceOps},
		{"ops, cuBLASLt", 30 * time.Second, c.ops("cublaslt")},
		{"pixart-256, cuBLASLt", 30 * time.Second, c.against("a step with cuBLASLt", "pixart-256, cuBLASLt", alpha256, "--gemm", "cublaslt", "--repeat", "3")},
		{"pixart-256, no graphs", 30 * time.Second, c.against("a step without graphs", "pixart-256, no graphs", alpha256, "--no-graphs", "--repeat", "3")},
		{"torch", torchTime + 15*time.Second, c.torch},
		{"compute-sanitizer", 60 * time.Second, c.sanitizer},
		{"miniature", 30 * time.Second, c.bench("miniature", "mini-pixart", "--batch", "16", "--schedule", "fora:2", "--repeat", "3")},
		{"aims", 0, c.aims},
	}
}

// run does every section and returns the process's exit code.
func run(dir string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := &checker{dir: dir, end: time.Now().Add(budget)}
	var err error
	if c.runner, err = newRunner(ctx, dir); err != nil {
		fmt.Fprintln(os.Stderr, "gpucheck:", err)
		return exitFailed
	}
	c.inside, c.outside = c.runner.environment(dir)
	for _, s := range c.sections() {
		c.section(s)
	}
	c.complete = true
	if !c.write() {
		return exitFailed
	}
	fmt.Printf("written: %s, and check.log with what every program printed\n", c.json())
	return c.exitCode()
}

func (c *checker) section(s section) {
	r := &result{Section: s.name}
	begin := time.Now()
	c.until = begin.Add(s.limit)
	if c.end.Before(c.until) {
		c.until = c.end
	}
	switch {
	case c.why != "":
		r.skip("no CUDA device: %s", c.why)
	case s.limit > 0 && time.Until(c.end) < 5*time.Second:
		r.skip("out of time: %v are over", budget)
	case c.runner.ctx.Err() != nil:
		r.skip("interrupted")
	default:
		s.do(r)
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
	c.write()
}

func (c *checker) exitCode() int {
	code := exitSkipped
	for _, r := range c.results {
		if r.Status == fail {
			code = exitFailed
		}
		if r.Status == pass && code == exitSkipped {
			code = 0
		}
	}
	return code
}

func (c *checker) json() string { return filepath.Join(c.dir, "check.json") }

// write puts what there is so far into check.json, in one go: whoever is cut off has what was measured until then.
func (c *checker) write() bool {
	data, err := json.MarshalIndent(map[string]any{"sections": c.results, "complete": c.complete, "exit_code": c.exitCode()}, "", "  ")
	if err == nil {
		err = os.WriteFile(c.json()+".new", append(data, '\n'), 0o644)
	}
	if err == nil {
		err = os.Rename(c.json()+".new", c.json())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpucheck: check.json:", err)
	}
	return err == nil
}

// command runs a program of the bundle within what is left of the section's time.
func (c *checker) command(name string, args ...string) output {
	return c.runner.run(time.Until(c.until), c.inside, name, args...)
}

// test is the path of a test program.
func (c *checker) test(name string) string { return filepath.Join(c.dir, "tests", name) }

func (c *checker) ecadx(args ...string) (string, error) {
	o := c.command(filepath.Join(c.dir, "bin", "ecadx"), args...)
	if o.err != nil || o.code != 0 {
		return "", fmt.Errorf("ecadx %s: exit code %d, %v: %s", strings.Join(args, " "), o.code, o.err, o.last())
	}
	return o.stdout, nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
