package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// killGrace is how long a killed program may take to go; one that the driver holds may never.
const killGrace = 5 * time.Second

// output is what a program printed and how it ended.
type output struct {
	stdout, stderr string
	code           int
	err            error // it could not be started, or was cut off
}

func (o output) all() string { return o.stdout + o.stderr }

// last is the last line that it printed, on standard error if there is one.
func (o output) last() string {
	if strings.TrimSpace(o.stderr) != "" {
		return lastLine(o.stderr)
	}
	return lastLine(o.stdout)
}

// runner starts programs: each in a process group of its own that ends with it, within a time, everything that they print kept in one log.
type runner struct {
	ctx context.Context // done: interrupted
	tmp string          // their working directory and the only place that they need to write to
	log *os.File

	mutex sync.Mutex // of the log
}

func newRunner(ctx context.Context, dir string) (*runner, error) {
	r := &runner{ctx: ctx, tmp: filepath.Join(dir, "tmp")}
	if err := os.MkdirAll(r.tmp, 0o755); err != nil {
		return nil, err
	}
	var err error
	r.log, err = os.Create(filepath.Join(dir, "check.log"))
	return r, err
}

// run runs a program until it ends or limit is over.
func (r *runner) run(limit time.Duration, env []string, name string, args ...string) (o output) {
	begin := time.Now()
	defer func() { r.record(begin, o, name, args) }()
	files := [2]*os.File{}
	for i := range files {
		f, err := os.CreateTemp(r.tmp, "output-")
		if err != nil {
			return output{err: err}
		}
		defer os.Remove(f.Name())
		defer f.Close()
		files[i] = f
	}
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = env, r.tmp, files[0], files[1]
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return output{err: err}
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var exit *exec.ExitError
	select {
	case err := <-ended:
		switch {
		case errors.As(err, &exit) && exit.ExitCode() >= 0:
			o.code = exit.ExitCode()
		case err != nil: // by a signal
			o.err = err
		}
	case <-timer.C:
		o.err = fmt.Errorf("cut off after %v", limit.Round(time.Second))
	case <-r.ctx.Done():
		o.err = errors.New("interrupted")
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // whatever it started, too
	if o.err != nil && exit == nil {
		select {
		case <-ended:
		case <-time.After(killGrace):
			o.err = fmt.Errorf("%w, and it does not end when it is killed", o.err)
		}
	}
	for i, to := range []*string{&o.stdout, &o.stderr} {
		data, err := os.ReadFile(files[i].Name())
		o.err = errors.Join(o.err, err)
		*to = string(data)
	}
	return o
}

// record appends what a program printed to the log.
func (r *runner) record(begin time.Time, o output, name string, args []string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	fmt.Fprintf(r.log, "$ %s %s\n", name, strings.Join(args, " "))
	for _, text := range []string{o.stdout, o.stderr} {
		fmt.Fprint(r.log, text)
		if text != "" && !strings.HasSuffix(text, "\n") {
			fmt.Fprintln(r.log)
		}
	}
	fmt.Fprintf(r.log, "[exit code %d, error %v, %.1f s]\n\n", o.code, o.err, time.Since(begin).Seconds())
}

// compilerLibraries lies below lib: libstdc++ and its like, which need a newer glibc than the rest does. Where that is missing the machine's own may do.
const compilerLibraries = "compiler"

// environment is that of the bundle's programs; inside finds its libraries, and cuBLASLt where the machine keeps it. outside is for programs of the machine.
func (r *runner) environment(dir string) (inside, outside []string) {
	outside = os.Environ()
	for _, name := range []string{"TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH"} {
		outside = append(outside, name+"="+r.tmp)
	}
	lib := filepath.Join(dir, "lib")
	machine := r.cublasLt(outside)
	if path := os.Getenv("LD_LIBRARY_PATH"); path != "" {
		machine = append(machine, path)
	}
	for _, own := range [][]string{{lib, filepath.Join(lib, compilerLibraries)}, {lib}} {
		env := append(slices.Clone(outside), "LD_LIBRARY_PATH="+strings.Join(append(own, machine...), ":"))
		if inside == nil {
			inside = env
		}
		if o := r.run(20*time.Second, env, filepath.Join(dir, "bin", "ecadx"), "--version"); o.err == nil && o.code == 0 {
			return env, outside
		}
	}
	return inside, outside
}

// cublasLt is the folder of a cuBLASLt that the loader would not find by itself: of a toolkit, or of the wheels that PyTorch brings.
func (r *runner) cublasLt(env []string) []string {
	patterns := []string{"/usr/local/cuda*/lib64", "/usr/local/cuda*/targets/x86_64-linux/lib"}
	if python, err := exec.LookPath("python3"); err == nil {
		o := r.run(20*time.Second, env, python, "-c", "import sys; print('\n'.join(p for p in sys.path if p))")
		for path := range strings.SplitSeq(strings.TrimSpace(o.stdout), "\n") {
			patterns = append(patterns, filepath.Join(path, "nvidia", "*", "lib"))
		}
	}
	for _, library := range []string{"libcublasLt.so.13", "libcublasLt.so.12"} {
		for _, pattern := range patterns {
			if found, _ := filepath.Glob(filepath.Join(pattern, library)); len(found) > 0 {
				return []string{filepath.Dir(found[0])}
			}
		}
	}
	return nil
}
