// Package depcheck enforces the import arrows of ARCHITECTURE.md: they are one way, each ban has its reason, and a rule for a package that
// no longer exists fails.
package depcheck

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "ecadx"

// rule says what the packages of one folder may import: our own folders, and other modules by prefix. The standard
// library is always allowed.
type rule struct {
	folder  string
	ours    []string
	modules []string
	reason  string
}

// The most specific folder wins: dit/program is not held to the rule of dit.
var rules = []rule{
	{"cgo", nil, []string{"gorgonia.org/cu"}, "the binding knows the C header and nothing else of ours"},
	{"schedule", nil, nil, "schedules are a leaf that every tool can use"},
	{"dit/program", nil, nil, "the compiler's core is pure Go, testable without the library"},
	{"dit/jsonscan", nil, nil, "JSON read where it lies, nothing else"},
	{"dit/safetensors", []string{"dit/jsonscan"}, []string{"golang.org/x/sys"}, "a file format"},
	{"dit/tokenizer", []string{"dit/jsonscan"}, []string{"golang.org/x/text"}, "text to ids, nothing else"},
	{"dit/sampler", []string{"dit/hfconfig"}, nil, "coefficients, nothing else"},
	{"dit/noise", nil, nil, "random numbers, nothing else"},
	{"dit/caption", nil, []string{"golang.org/x/text"}, "text cleaning, nothing else"},
	{"dit/hfconfig", nil, nil, "JSON as Python writes it"},
	{"dit/mini", nil, nil, "the scorer judges pictures of any engine, so it cannot know ours"},
	{"dit", []string{"dit", "schedule", "cgo"}, nil, "models: no search, no measuring, no command line"},
	{"ga", []string{"ga", "schedule"}, []string{"gonum.org/v1/gonum", "golang.org/x/sys"}, "the search never sees an engine: it is handed an Evaluator"},
	{"bench", []string{"bench", "dit", "schedule", "cgo", "ga"}, []string{"gonum.org/v1/gonum"}, "measuring: no command line"},
	{"bench/page", []string{"ga", "schedule"}, nil, "a page about a study: it makes no pictures, it is given them"},
	{"bench/gpucheck", []string{"dit/safetensors"}, []string{"github.com/klauspost/compress"}, "a program for machines without anything else: it starts the command and the tests, it links no engine"},
	{"cmd/ecadx", []string{"cmd", "bench", "cgo", "dit", "ga", "schedule"}, []string{"github.com/urfave/cli/v2", "github.com/BurntSushi/toml", "github.com/schollz/progressbar/v3", "golang.org/x"}, "the command wires all of it; nothing imports it"},
	{"internal", nil, nil, "checks of the repository"},
}

type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Standard     bool
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var pkgs []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func ruleFor(folder string) *rule {
	var best *rule
	for i, r := range rules {
		if folder == r.folder || strings.HasPrefix(folder, r.folder+"/") {
			if best == nil || len(r.folder) > len(best.folder) {
				best = &rules[i]
			}
		}
	}
	return best
}

func within(folder string, allowed []string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool { return folder == a || strings.HasPrefix(folder, a+"/") })
}

func TestImportArrows(t *testing.T) {
	used := map[string]bool{}
	for _, p := range list(t) {
		folder := strings.TrimPrefix(p.ImportPath, module+"/")
		r := ruleFor(folder)
		if r == nil {
			t.Errorf("package %s has no rule: add its folder to the table and to ARCHITECTURE.md", p.ImportPath)
			continue
		}
		used[r.folder] = true
		for _, imp := range p.Imports {
			own, isOurs := strings.CutPrefix(imp, module+"/")
			switch {
			case isOurs:
				if !within(own, r.ours) && !within(own, []string{r.folder}) {
					t.Errorf("%s imports %s: %s", p.ImportPath, imp, r.reason)
				}
			case strings.Contains(strings.SplitN(imp, "/", 2)[0], "."):
				if !slices.ContainsFunc(r.modules, func(m string) bool { return imp == m || strings.HasPrefix(imp, m+"/") }) {
					t.Errorf("%s imports %s, not among the modules of %s: %s", p.ImportPath, imp, r.folder, r.reason)
				}
			case imp == "C" && r.folder != "cgo":
				t.Errorf("%s imports \"C\": only cgo may", p.ImportPath)
			}
		}
	}
	for _, r := range rules {
		if !used[r.folder] {
			t.Errorf("rule for %s matches no package: remove or correct it", r.folder)
		}
	}
}
