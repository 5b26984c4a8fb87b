// Command cudaaudit reads what nvcc made of the CUDA kernels and fails on what must not be in it: loads and stores of local memory (LDL, STL),
// matrix kernels without the matrix and copy instructions that they were written for. It prints a table: for each kernel and architecture
// registers, threads, shared memory, warps per multiprocessor, and FLOP per byte with what an H200 can make of that.
//
//	cudaaudit -objects build/cuda/kernels/cuda -tools DIR [-launches FILE]
//
// -tools: the folder of cuobjdump and nvdisasm. -launches: what build/emulate/kernels/tests/cuda_launches printed.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
)

func main() {
	objects := flag.String("objects", "", "folder of the kernels' objects and ptxas reports")
	tools := flag.String("tools", "", "folder of cuobjdump and nvdisasm")
	launches := flag.String("launches", "", "launches as cuda_launches prints them")
	flag.Parse()
	if err := audit(*objects, *tools, *launches, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cudaaudit:", err)
		os.Exit(1)
	}
}

func audit(objects, tools, launchFile string, w io.Writer) error {
	found, err := filepath.Glob(filepath.Join(objects, "*.o"))
	if err != nil || len(found) == 0 {
		return fmt.Errorf("no objects in %s: run make cuda first", objects)
	}
	var launches []launch
	if launchFile != "" {
		text, err := os.ReadFile(launchFile)
		if err != nil {
			return err
		}
		if launches, err = parseLaunches(string(text)); err != nil {
			return fmt.Errorf("%s: %w", launchFile, err)
		}
	}
	var kernels []*kernel
	for _, object := range found {
		list, err := readObject(object, tools)
		if err != nil {
			return err
		}
		kernels = append(kernels, list...)
	}
	if err := demangle(kernels); err != nil {
		return err
	}
	join(kernels, launches)
	printTable(kernels, w)
	return judge(kernels, launches != nil, w)
}

// readObject joins the ptxas report of an object with its machine code.
func readObject(object, tools string) ([]*kernel, error) {
	report, err := os.ReadFile(object + ".ptxas")
	if err != nil {
		return nil, err
	}
	kernels := parseReport(string(report))
	cmd := exec.Command(filepath.Join(tools, "cuobjdump"), "-sass", object)
	cmd.Env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"))
	sass, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("cuobjdump -sass %s: %w", object, err)
	}
	instructions := parseSASS(string(sass))
	for _, k := range kernels {
		k.object = strings.TrimSuffix(filepath.Base(object), ".o")
		k.instructions = instructions[site{k.symbol, k.arch}]
		if k.instructions == nil {
			return nil, fmt.Errorf("%s: no machine code of %s for %s", object, k.symbol, k.arch)
		}
	}
	return kernels, nil
}

func demangle(kernels []*kernel) error {
	var names strings.Builder
	for _, k := range kernels {
		fmt.Fprintln(&names, k.symbol)
	}
	cmd := exec.Command("c++filt")
	cmd.Stdin = strings.NewReader(names.String())
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("c++filt: %w", err)
	}
	for i, name := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		kernels[i].name = shortName(name)
	}
	return nil
}

func join(kernels []*kernel, launches []launch) {
	for _, k := range kernels {
		if i := slices.IndexFunc(launches, func(l launch) bool { return canonical(l.name) == canonical(k.name) }); i >= 0 {
			k.launch = &launches[i]
		}
	}
}

func printTable(kernels []*kernel, w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "kernel\tarch\tregisters\tthreads\tshared\twarps/SM\tFLOP/byte\tof an H200")
	for _, k := range kernels {
		threads, shared, warps, intensity, roof := "?", "?", "?", "-", "-"
		if l := k.launch; l != nil {
			threads, shared = fmt.Sprint(l.threads), fmt.Sprint(l.shared)
			warps = fmt.Sprintf("%d of %d", k.warps(), limits[k.arch].warps)
			if l.macs > 0 {
				intensity = fmt.Sprintf("%.0f", l.intensity())
			}
			roof = l.roof()
		}
		fmt.Fprintf(tw, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", clip(k.name), k.arch, k.registers, threads, shared, warps, intensity, roof)
	}
	tw.Flush()
}

func clip(s string) string {
	const most = 70
	if len(s) <= most {
		return s
	}
	return s[:most-3] + "..."
}

// judge fails when a rule is broken, after naming all that breaks one. launched: every kernel has a launch.
func judge(kernels []*kernel, launched bool, w io.Writer) error {
	problems := 0
	for _, k := range kernels {
		for _, p := range k.problems() {
			problems++
			fmt.Fprintf(w, "FAIL %s for %s (%s): %s\n", k.name, k.arch, k.object, p)
		}
	}
	for _, r := range required {
		if !slices.ContainsFunc(kernels, func(k *kernel) bool { return r.applies(k) }) {
			problems++
			fmt.Fprintf(w, "FAIL no kernel of %s for %s: the rule about %s checks nothing\n", r.object, r.arch, strings.Join(r.instructions, ", "))
		}
	}
	for _, k := range kernels {
		if launched && k.launch == nil {
			problems++
			fmt.Fprintf(w, "FAIL %s for %s: cuda_launches never launches it, so that nothing is known of its blocks\n", k.name, k.arch)
		}
	}
	if problems > 0 {
		return fmt.Errorf("%d problems", problems)
	}
	fmt.Fprintf(w, "PASS %d kernels: no local memory, no spills, matrix kernels with their instructions\n", len(kernels))
	return nil
}
