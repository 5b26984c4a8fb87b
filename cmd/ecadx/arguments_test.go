package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func testApp() *cli.App { return newApp(&environment{stdout: io.Discard, stderr: io.Discard}) }

func TestArrange(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"ecadx schedule make fora:2 --out x --steps 4", "ecadx schedule make --out x --steps 4 -- fora:2"},
		{"ecadx schedule macs a b --json c", "ecadx schedule macs --json -- a b c"},
		{"ecadx generate -p x --guidance -1 --seed=-3", "ecadx generate -p x --guidance -1 --seed=-3"},
		{"ecadx schedule show -- --ascii", "ecadx schedule show -- --ascii"},
		{"ecadx evolve c.toml --resume --out d", "ecadx evolve --resume --out d -- c.toml"},
		{"ecadx", "ecadx"},
		{"ecadx --version", "ecadx --version"},
	} {
		got, err := arrange(testApp(), strings.Fields(c.in))
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, %v; want %q", c.in, strings.Join(got, " "), err, c.want)
		}
	}
	for in, want := range map[string]string{
		"ecadx genrate":               `did you mean "generate"?`,
		"ecadx schedule shwo x":       `did you mean "show"?`,
		"ecadx generate --shedule x":  `did you mean "--schedule"?`,
		"ecadx generate --steps":      "needs a value",
		"ecadx generate --zzzzzzzz 3": "see ecadx generate --help",
	} {
		if _, err := arrange(testApp(), strings.Fields(in)); codeOf(err) != exitUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want a usage error with %q", in, err, want)
		}
	}
}

func TestCompletions(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  string
	}{
		{[]string{"ev"}, "evolve"},
		{[]string{"schedule", "ma"}, "macs make"},
		{[]string{"generate", "--dty"}, "--dtype"},
		{[]string{"generate", "--dtype", ""}, "auto bfloat16 float32"},
		{[]string{"generate", "--gemm", ""}, "auto cublaslt ecad"},
		{[]string{"generate", "--dtype=b"}, "--dtype=bfloat16"},
		{[]string{"generate", "--model", "mini"}, "mini-flux mini-pixart"},
		{[]string{"generate", "-p", "a ring", "--schedule", "fo"}, "fora:3"},
		{[]string{"completion", ""}, "bash fish zsh"},
		{[]string{"generate", "--nonsense", ""}, ""},
		{[]string{"generate", "--out", "x"}, ""},
	} {
		if got := strings.Join(completions(testApp(), c.words), " "); got != c.want {
			t.Errorf("%q completes to %q, want %q", c.words, got, c.want)
		}
	}
}

// TestHelp holds every command to two real examples, whose flags must exist.
func TestHelp(t *testing.T) {
	var visit func(list []*cli.Command, path string)
	visit = func(list []*cli.Command, path string) {
		for _, c := range list {
			name := path + " " + c.Name
			_, examples, ok := strings.Cut(c.CustomHelpTemplate, "EXAMPLES\n")
			lines := strings.Split(strings.TrimSpace(examples), "\n")
			if !ok || len(lines) < 2 {
				t.Errorf("%s: %d examples, want at least 2", name, len(lines))
				continue
			}
			for _, line := range lines {
				line = strings.TrimSpace(line)
				at := strings.Index(line, "ecadx ")
				if at < 0 || !strings.Contains(line, strings.TrimPrefix(name, "ecadx ")) {
					t.Errorf("%s: %q is no example of it", name, line)
					continue
				}
				words := splitQuoted(line[at:])
				if i := slices.IndexFunc(words, func(w string) bool { return w == ">" || w == "|" }); i >= 0 {
					words = words[:i]
				}
				words[len(words)-1] = strings.TrimSuffix(words[len(words)-1], ")")
				if _, err := arrange(testApp(), words); err != nil {
					t.Errorf("%s: example %q: %v", name, line, err)
				}
			}
			visit(c.Subcommands, name)
		}
	}
	visit(testApp().Commands, "ecadx")
}

// splitQuoted splits a line at spaces outside of double quotes.
func splitQuoted(line string) []string {
	var words []string
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}
