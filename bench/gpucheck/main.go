// Command gpucheck proves a CUDA build on a machine with a GPU: probes, opcode tests, whole models against what the cpu backend made, repeated runs,
// compute-sanitizer, benchmark. make gpu-bundle puts it with all it needs into one folder, whose check.sh starts it.
//
//	gpucheck prepare DIR   on the build machine: inputs, the cpu backend's outputs, a compiled program
//	gpucheck run DIR       on the GPU machine
//
// Every section prints PASS, FAIL or SKIP with counts; DIR/check.json holds all of it. Exit codes: 0 nothing failed and something passed, 1 something
// failed, 77 everything was skipped (no GPU), 2 wrong usage.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

const (
	exitFailed  = 1
	exitUsage   = 2
	exitSkipped = 77
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: gpucheck prepare|run DIR")
		os.Exit(exitUsage)
	}
	dir, err := filepath.Abs(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpucheck:", err)
		os.Exit(exitFailed)
	}
	switch os.Args[1] {
	case "prepare":
		if err := prepare(dir); err != nil {
			fmt.Fprintln(os.Stderr, "gpucheck: prepare:", err)
			os.Exit(exitFailed)
		}
	case "run":
		os.Exit(run(dir))
	default:
		fmt.Fprintf(os.Stderr, "gpucheck: %q is neither prepare nor run\n", os.Args[1])
		os.Exit(exitUsage)
	}
}
