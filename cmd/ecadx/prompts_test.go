package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"ecadx/dit/mini"
)

func TestReadPrompts(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"lines":   {"one\r\n\n  two  \n", "[{ one} { two}]"},
		"bom":     {"\ufeffone\n", "[{ one}]"},
		"ecad":    {`[{"id":"005695-0057","prompt":"one"},{"id":7,"prompt":"two"}]`, "[{005695-0057 one} {7 two}]"},
		"texts":   {`["one","two"]`, "[{ one} { two}]"},
		"by id":   {`{"x":{"prompt":"one","category":"c"},"y":"two"}`, "[{x one} {y two}]"},
		"bracket": {"[not json] is a prompt\n", "[{ [not json] is a prompt}]"},
	} {
		got, err := readPrompts(writeTestFile(t, filepath.Join(t.TempDir(), "p"), c.text))
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, %v; want %s", name, got, err, c.want)
		}
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty": {" \n\n", "no prompts"}, "no prompt": {`[{"id":"x"}]`, "entry 1"}, "number": {`[3]`, "entry 1"}, "binary": {"\xff\xfe", "UTF-8"},
		"long": {strings.Repeat("x", maxPromptText+1), "shorten"},
	} {
		path := writeTestFile(t, filepath.Join(t.TempDir(), "p"), c.text)
		if _, err := readPrompts(path); codeOf(err) != exitBadInput || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v; want bad input with %q and the path", name, err, c.want)
		}
	}
}

func TestBuiltinPrompts(t *testing.T) {
	long, err := builtinPrompts(40, 64, 10)
	if err != nil {
		t.Fatal(err)
	}
	short, err := builtinPrompts(12, 8, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[mini.Scene]int{}
	for i, p := range long {
		scene, err := mini.ParseScene(p.Text)
		if err != nil {
			t.Fatal(err)
		}
		if k, ok := seen[scene]; ok {
			t.Errorf("prompts %d and %d are one scene: %q, %q", k, i, long[k].Text, p.Text)
		}
		seen[scene] = i
	}
	if len(long) != 114 || len(short) != 20 {
		t.Fatalf("%d and %d prompts", len(long), len(short))
	}
	for i := range 12 {
		if long[i] != short[i] {
			t.Errorf("prompt %d depends on how many there are", i)
		}
	}
	if _, err := builtinPrompts(1<<21, 0, 0); codeOf(err) != exitBadInput {
		t.Errorf("2^21 different captions: %v", err)
	}
}

func TestSlug(t *testing.T) {
	for text, want := range map[string]string{"A small, RED ring!": "a-small-red-ring", "環": "picture", "": "picture", "../../etc": "etc"} {
		if got := slug(text, 60); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := slug("abcdefghijkl", 8); got != "abcdefgh" {
		t.Errorf("cut to %q", got)
	}
}
