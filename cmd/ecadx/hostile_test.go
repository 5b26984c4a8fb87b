package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"ecadx/internal/hostile"
)

// checkRefusal demands that an error is bad input, of one line that is not endless.
func checkRefusal(t *testing.T, err error) {
	t.Helper()
	if codeOf(err) != exitBadInput || strings.Contains(err.Error(), "\n") || len(err.Error()) > 1000 {
		t.Fatalf("error of %d bytes: %.300q; want bad input in one line", len(err.Error()), err)
	}
}

// readConfig reads a configuration that nobody vouches for; what is accepted reads the same once it is frozen.
func readConfig(t *testing.T, data []byte) {
	t.Helper()
	var cfg evolveConfig
	var err error
	hostile.Bounded(t, len(data), func() { cfg, err = parseEvolveConfig("c.toml", data) })
	if err != nil {
		checkRefusal(t, err)
		return
	}
	text := cfg.freeze()
	back, err := parseEvolveConfig("frozen", text)
	if len(text) <= maxConfigFile && (err != nil || !bytes.Equal(back.freeze(), text)) {
		t.Fatalf("frozen as\n%s\nreads as %+v, %v", text, back, err)
	}
}

func FuzzEvolveConfig(f *testing.F) {
	f.Add(defaultEvolveConfig().commented())
	f.Add([]byte("[model]\nsteps = 7\nguidance = 1e1\n[prompts]\nfile = 'a\\b'\n[seeds]\nheuristics = [\"fora:2\", '''x''']\n"))
	f.Add([]byte("search.population = 0x10\nsearch = { mode = \"ecad\" }\n[[model]]\n"))
	f.Fuzz(func(t *testing.T, data []byte) { readConfig(t, data) })
}

func TestDamagedConfig(t *testing.T) {
	good := []byte("[model]\npath = \"mini-pixart\"\nsteps = 12\n# remark\n[search]\nbudget = 2.5\n[objectives]\nbaselines = [\"fora:2\", 'x']\n[prompts]\nnegative = \"a\\n\\u00e9\"\n")
	if _, err := parseEvolveConfig("good", good); err != nil {
		t.Fatal(err)
	}
	hostile.Damaged(good, func(what string, bad []byte) {
		readConfig(t, bad)
		if t.Failed() {
			t.Fatalf("%s:\n%s", what, bad)
		}
	})
}

// What would cost the TOML decoder minutes or gigabytes is refused at once, and strings and comments hide nothing.
func TestConfigLimits(t *testing.T) {
	n := maxConfigFile - 100
	var keys strings.Builder
	for i := 0; keys.Len() < n; i++ {
		keys.WriteString(strings.Repeat("k", i%7+1) + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)) + "=1\n")
	}
	for name, c := range map[string]struct{ text, want string }{
		"nested lists":   {"a=" + strings.Repeat("[", n), "nested deeper"},
		"nested tables":  {"a=" + strings.Repeat("{a=", n/3), "nested deeper"},
		"a deep key":     {strings.Repeat("a.", n/2) + "a=1", "parts"},
		"a quoted key":   {strings.Repeat(`"a".`, n/4) + "a=1", "parts"},
		"a deep header":  {"[" + strings.Repeat("a.", n/2) + "a]", "parts"},
		"lists":          {"a=[" + strings.Repeat("[],", n/3) + "]", "keys and elements"},
		"tables":         {strings.Repeat("[[a]]\n", n/6), "keys and elements"},
		"elements":       {"[seeds]\nfiles=[" + strings.Repeat("'',", n/3) + "]", "keys and elements"},
		"keys":           {keys.String(), "keys and elements"},
		"after a string": {"a='''\n[[[[[[[['''\nb=\"\\\"[[[[[[[[\"\nc='\\'\nd=[[[[[[", "line 5: brackets nested"},
		"after a remark": {"# [[[[[[[[ '\na=[[[[[[", "line 2: brackets nested"},
		"long":           {"#" + strings.Repeat("x", maxConfigFile), "at most"},
		"a long string":  {"a='" + strings.Repeat("x", n), "line 1"},
		"escapes":        {"a=\"" + strings.Repeat("\\n", n/2) + "\"", `unknown key "a"`},
		"a long key":     {strings.Repeat("k", n) + "=1", "unknown key"},
	} {
		hostile.Bounded(t, len(c.text), func() {
			_, err := parseEvolveConfig("c.toml", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %.200v; want %q", name, err, c.want)
				return
			}
			checkRefusal(t, err)
		})
	}
	some := keys.String()[:keys.Len()/16]
	hostile.Bounded(t, len(some), func() { parseEvolveConfig("c.toml", []byte(some)) })
}

func FuzzPrompts(f *testing.F) {
	f.Add([]byte("one\r\n\n  two  \n"))
	f.Add([]byte(`[{"id":"005695-0057","prompt":"one"},{"id":7,"prompt":"two"},"three"]`))
	f.Add([]byte("\ufeff" + `{"x":{"prompt":"one","category":"c"},"y":"tw\u006f"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parsePrompts("p", data)
		if err != nil {
			checkRefusal(t, err)
			return
		}
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parsePrompts("again", text)
		if err != nil || len(again) != len(list) {
			t.Fatalf("%d prompts, written and read %d: %v", len(list), len(again), err)
		}
		for i, p := range list {
			if again[i] != p || len(slug(p.Text, 40)) > 40 {
				t.Fatalf("prompt %d is %q, written and read %q", i, p, again[i])
			}
		}
	})
}

// FuzzFlags: the texts of flags and keys that have a grammar of their own.
func FuzzFlags(f *testing.F) {
	for _, seed := range []string{"auto", "cuda:3", "cpu", "bfloat16", "512x768", "512", "0", "x", "99999999999999999999x1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parseResolution(text); err == nil {
			if again, err := parseResolution(p.String()); err != nil || again != p {
				t.Fatalf("%q is %v, which reads as %v, %v", text, p, again, err)
			}
		}
		_, _ = parseDevice(text)
		_, _ = parseDType(text)
	})
}
