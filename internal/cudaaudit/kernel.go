package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// kernel is one entry function for one architecture.
type kernel struct {
	symbol, name, object string
	arch                 string // "sm_90a"
	registers            int
	stack, spills        int            // bytes
	instructions         map[string]int // how often each opcode stands in the code, without modifiers
	launch               *launch        // nil: not known how it is launched
}

// launch is how a kernel is launched, and what one launch moves and multiplies.
type launch struct {
	name            string
	threads, shared int
	bytes, macs     float64
}

// limits of a multiprocessor, and the shared memory that one block may have: CUDA C++ Programming Guide, table of technical specifications per compute capability.
var limits = map[string]struct{ warps, blocks, registers, shared, block int }{
	"sm_80":  {64, 32, 65536, 164 << 10, 163 << 10},
	"sm_86":  {48, 16, 65536, 100 << 10, 99 << 10},
	"sm_89":  {48, 24, 65536, 100 << 10, 99 << 10},
	"sm_90a": {64, 32, 65536, 228 << 10, 227 << 10},
}

// An H200 as measured by others on random data: dense bfloat16 products and copies (reads and writes together).
const (
	peakFLOPs = 790e12
	peakBytes = 4.3e12
)

// warps is the number of warps that a multiprocessor holds at once.
func (k *kernel) warps() int {
	l := limits[k.arch]
	perBlock := (k.launch.threads + 31) / 32
	registersPerWarp := (k.registers*32 + 255) / 256 * 256 // handed out in units of 256
	blocks := min(l.blocks, l.warps/perBlock)
	if registersPerWarp > 0 {
		blocks = min(blocks, l.registers/registersPerWarp/perBlock)
	}
	return min(blocks, l.shared/(k.launch.shared+1024)) * perBlock // 1 KiB of each block is the system's
}

func (l *launch) intensity() float64 { return 2 * l.macs / l.bytes }

// roof says what bounds a launch of this intensity, and at which speed.
func (l *launch) roof() string {
	if l.intensity() >= peakFLOPs/peakBytes {
		return fmt.Sprintf("products, at most %.0f TFLOP/s", peakFLOPs/1e12)
	}
	if l.macs == 0 {
		return "memory"
	}
	return fmt.Sprintf("memory, at most %.0f TFLOP/s", l.intensity()*peakBytes/1e12)
}

// rule says which instructions the kernels of an object must contain on an architecture.
type rule struct {
	object       string // prefix
	arch         string
	instructions []string
	reason       string
}

func (r rule) applies(k *kernel) bool {
	return strings.HasPrefix(k.object, r.object) && k.arch == r.arch
}

var required = []rule{
	{"linear_sm90", "sm_90a", []string{"HGMMA", "UTMALDG"}, "wgmma on operands that the tensor memory accelerator brings"},
	{"attention_sm90", "sm_90a", []string{"HGMMA", "UTMALDG"}, "wgmma on operands that the tensor memory accelerator brings"},
	{"attention_resident_sm90", "sm_90a", []string{"HGMMA", "UTMALDG"}, "wgmma on operands that the tensor memory accelerator brings"},
	{"linear_mma", "sm_80", []string{"HMMA", "LDSM", "LDGSTS"}, "mma.sync on operands that cp.async brings"},
	{"attention_mma", "sm_80", []string{"HMMA", "LDSM", "LDGSTS"}, "mma.sync on operands that cp.async brings"},
	{"conv_mma", "sm_80", []string{"HMMA", "LDSM"}, "mma.sync"},
}

func (k *kernel) problems() (list []string) {
	for _, op := range []string{"LDL", "STL"} {
		if n := k.instructions[op]; n > 0 {
			list = append(list, fmt.Sprintf("%d %s: local memory", n, op))
		}
	}
	if k.stack > 0 || k.spills > 0 {
		list = append(list, fmt.Sprintf("%d bytes of stack, %d bytes of spills", k.stack, k.spills))
	}
	if most := limits[k.arch].block; k.launch != nil && k.launch.shared > most {
		list = append(list, fmt.Sprintf("%d bytes of shared memory: a block has at most %d", k.launch.shared, most))
	}
	for _, r := range required {
		for _, op := range r.instructions {
			if r.applies(k) && k.instructions[op] == 0 {
				list = append(list, fmt.Sprintf("no %s: it should be %s", op, r.reason))
			}
		}
	}
	return list
}

// ---- what the tools print ----

type site struct{ symbol, arch string }

var (
	entryLine    = regexp.MustCompile(`Compiling entry function '([^']+)' for '([^']+)'`)
	propertyLine = regexp.MustCompile(`(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads`)
	registerLine = regexp.MustCompile(`Used (\d+) registers`)
	archLine     = regexp.MustCompile(`^\s*code for (sm_\w+)`)
	functionLine = regexp.MustCompile(`^\s*Function : (\S+)`)
	codeLine     = regexp.MustCompile(`^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)`)
)

// parseReport reads what ptxas -v says of each entry function.
func parseReport(text string) (list []*kernel) {
	var k *kernel
	for line := range strings.SplitSeq(text, "\n") {
		if m := entryLine.FindStringSubmatch(line); m != nil {
			k = &kernel{symbol: m[1], arch: m[2]}
			list = append(list, k)
		}
		if m := propertyLine.FindStringSubmatch(line); m != nil && k != nil {
			k.stack, _ = strconv.Atoi(m[1])
			stores, _ := strconv.Atoi(m[2])
			loads, _ := strconv.Atoi(m[3])
			k.spills = stores + loads
		}
		if m := registerLine.FindStringSubmatch(line); m != nil && k != nil {
			k.registers, _ = strconv.Atoi(m[1])
		}
	}
	return list
}

// parseSASS counts the opcodes of each function in what cuobjdump -sass prints.
func parseSASS(text string) map[site]map[string]int {
	all := map[site]map[string]int{}
	var arch string
	var counts map[string]int
	for line := range strings.SplitSeq(text, "\n") {
		if m := archLine.FindStringSubmatch(line); m != nil {
			arch = m[1]
		} else if m := functionLine.FindStringSubmatch(line); m != nil {
			counts = map[string]int{}
			all[site{m[1], arch}] = counts
		} else if m := codeLine.FindStringSubmatch(line); m != nil && counts != nil {
			counts[m[1]]++
		}
	}
	return all
}

// parseLaunches reads lines of name, threads, shared bytes, bytes and multiply-adds, separated by tabs.
func parseLaunches(text string) (list []launch, err error) {
	for n, line := range strings.Split(strings.TrimSpace(text), "\n") {
		f := strings.Split(line, "\t")
		if len(f) != 5 {
			return nil, fmt.Errorf("line %d has %d fields, not 5", n+1, len(f))
		}
		var l launch
		var errs [4]error
		l.name = f[0]
		l.threads, errs[0] = strconv.Atoi(f[1])
		l.shared, errs[1] = strconv.Atoi(f[2])
		l.bytes, errs[2] = strconv.ParseFloat(f[3], 64)
		l.macs, errs[3] = strconv.ParseFloat(f[4], 64)
		for _, err := range errs {
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n+1, err)
			}
		}
		list = append(list, l)
	}
	return list, nil
}

// shortName leaves out the return type, namespaces and parameters of a demangled name.
func shortName(name string) string {
	name = strings.TrimPrefix(name, "void ")
	depth := 0
	if i := strings.IndexFunc(name, func(r rune) bool {
		switch r {
		case '<':
			depth++
		case '>':
			depth--
		}
		return r == '(' && depth == 0
	}); i >= 0 {
		name = name[:i]
	}
	for _, space := range []string{"ecad::cuda::", "ecad::ptx::", "ecad::", "(anonymous namespace)::"} {
		name = strings.ReplaceAll(name, space, "")
	}
	return name
}

// enumerators: one compiler writes the name of a template's enumerator, the other its number. In the order of MapOp in kernels/cuda/kernels/map.h.
var enumerators = strings.NewReplacer("(MapOp)0", "MapOp::kMove2", "(MapOp)1", "MapOp::kMove4", "(MapOp)2", "MapOp::kMove8", "(MapOp)3", "MapOp::kMove16", "(MapOp)4", "MapOp::kUnary", "(MapOp)5", "MapOp::kAdd")

// canonical is a name in a form that does not depend on which compiler wrote it.
func canonical(name string) string {
	return strings.Map(func(r rune) rune {
		if slices.Contains([]rune(" ul"), r) { // 8ul and 8, "> >" and ">>"
			return -1
		}
		return r
	}, enumerators.Replace(shortName(name)))
}
