// Command gpucheck proves a CUDA build on a machine with a GPU: probes, opcode tests, whole models against what the cpu backend made, repeated runs,
// compute-sanitizer, benchmark. make gpu-bundle puts it with all it needs into one folder, whose check.sh starts it.
//
//	gpucheck prepare DIR   on the build machine: inputs, the cpu backend's outputs, a compiled program
//	gpucheck pack DIR      on the build machine, last: programs and libraries into one archive
//	gpucheck unpack DIR    on the GPU machine, first
//	gpucheck run DIR       on the GPU machine
//
// Every section prints PASS, FAIL or SKIP with counts; DIR/check.json holds all of it after each of them, DIR/check.log what every program printed. Exit
// codes: 0 nothing failed and something passed, 1 something failed, 77 everything was skipped (no GPU), 2 wrong usage.
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
		fmt.Fprintln(os.Stderr, "usage: gpucheck prepare|pack|unpack|run DIR")
		os.Exit(exitUsage)
	}
	dir, err := filepath.Abs(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpucheck:", err)
		os.Exit(exitFailed)
	}
	switch step := os.Args[1]; step {
	case "prepare", "pack", "unpack":
		if err := map[string]func(string) error{"prepare": prepare, "pack": pack, "unpack": unpack}[step](dir); err != nil {
			fmt.Fprintf(os.Stderr, "gpucheck: %s: %v\n", step, err)
			os.Exit(exitFailed)
		}
	case "run":
		os.Exit(run(dir))
	default:
		fmt.Fprintf(os.Stderr, "gpucheck: %q is neither prepare, pack, unpack nor run\n", step)
		os.Exit(exitUsage)
	}
}
