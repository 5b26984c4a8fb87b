package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// builtCommand is the command as users run it, built once by TestMain.
var builtCommand string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ecadx-test-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	builtCommand = filepath.Join(dir, "ecadx")
	build := exec.Command("go", "build", "-ldflags", "-X main.commit=tested", "-o", builtCommand, ".")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// result is what a run of the command left.
type result struct {
	stdout, stderr string
	code           int
}

// ecadx runs the command in a directory.
func ecadx(t testing.TB, dir string, args ...string) result {
	t.Helper()
	cmd := exec.Command(builtCommand, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// succeed runs the command and fails the test unless it exits with 0.
func succeed(t testing.TB, dir string, args ...string) string {
	t.Helper()
	r := ecadx(t, dir, args...)
	if r.code != 0 {
		t.Fatalf("ecadx %s: exit %d: %s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout
}

// succeedJSON does the same with --json and decodes the document.
func succeedJSON[T any](t testing.TB, dir string, args ...string) T {
	t.Helper()
	out := succeed(t, dir, append(args, "--json")...)
	var v T
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("ecadx %s --json: %v:\n%s", strings.Join(args, " "), err, out)
	}
	return v
}

// refuse runs the command and checks the exit code and the one line of the error: what it says, and that it starts as all do.
func refuse(t testing.TB, dir string, code exitCode, want string, args ...string) {
	t.Helper()
	r := ecadx(t, dir, args...)
	lines := strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")
	last := lines[len(lines)-1]
	switch {
	case r.code != int(code):
		t.Errorf("ecadx %s: exit %d, want %d: %s", strings.Join(args, " "), r.code, code, r.stderr)
	case !strings.HasPrefix(last, "ecadx: ") || strings.HasPrefix(last, "ecadx: ecadx ") || strings.Count(last, ": ") < 2:
		t.Errorf("ecadx %s: the error is no \"ecadx: WHERE: WHAT: HOW TO FIX\": %q", strings.Join(args, " "), last)
	case !strings.Contains(last, want):
		t.Errorf("ecadx %s: the error does not say %q: %q", strings.Join(args, " "), want, last)
	case strings.Contains(r.stderr, "goroutine") || strings.Contains(r.stderr, "internal error"):
		t.Errorf("ecadx %s: crashed: %s", strings.Join(args, " "), r.stderr)
	case code != exitInterrupted && r.stdout != "":
		t.Errorf("ecadx %s: an error, but standard output holds %q", strings.Join(args, " "), r.stdout)
	}
	for _, l := range lines[:len(lines)-1] {
		if strings.HasPrefix(l, "ecadx: ") && code == exitUsage {
			t.Errorf("ecadx %s: a second line: %q", strings.Join(args, " "), l)
		}
	}
}

func writeTestFile(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func readTestFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
