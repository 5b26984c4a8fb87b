package caption

import (
	"encoding/json"
	"os"
	"sort"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

type ranges [][2]rune

func (x ranges) has(r rune) bool {
	i := sort.Search(len(x), func(i int) bool { return x[i][1] >= r })
	return i < len(x) && r >= x[i][0]
}

func TestGolden(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		Lower, Cases               [][2]string
		Space                      string
		Assigned, Ignorable, Cased ranges
	}
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Lower) < 1300 || len(g.Cases) < 2000 || len(g.Assigned) < 600 {
		t.Fatalf("%d letters, %d cases, %d ranges", len(g.Lower), len(g.Cases), len(g.Assigned))
	}
	lower := map[string]string{}
	for _, c := range g.Lower {
		lower[c[0]] = c[1]
	}
	checked := 0
	for r := rune(0); r <= unicode.MaxRune; r++ {
		// Go knows characters that Python's Unicode version does not.
		if !utf8.ValidRune(r) || !g.Assigned.has(r) {
			continue
		}
		checked++
		s := string(r)
		want, ok := lower[s]
		if !ok {
			want = s
		}
		if space := strings.ContainsRune(g.Space, r); space != isSpace(r) {
			t.Errorf("%U: white space %v, want %v", r, isSpace(r), space)
		} else if got := Clean(s); !space && got != want {
			t.Errorf("%U: %q, want %q", r, got, want)
		}
		if got, want := ignorable(r), g.Ignorable.has(r); got != want {
			t.Errorf("%U: case-ignorable %v, want %v", r, got, want)
		} else if got, want := isCased(r), g.Cased.has(r); !ignorable(r) && got != want {
			t.Errorf("%U: cased %v, want %v", r, got, want)
		}
	}
	if checked < 280_000 {
		t.Errorf("only %d characters checked", checked)
	}
	for _, c := range g.Cases {
		if got := Clean(c[0]); got != c[1] {
			t.Errorf("%q: %q, want %q", c[0], got, c[1])
		}
	}
}

func TestBytes(t *testing.T) {
	if got := Clean(" A\xffB\xe2\x96 "); got != "a\xffb\xe2\x96" {
		t.Errorf("bytes that are not UTF-8: %q", got)
	}
}

func FuzzClean(f *testing.F) {
	f.Add(" A\xff Σ ")
	f.Fuzz(func(t *testing.T, s string) {
		if c := Clean(s); c != Clean(c) {
			t.Fatalf("%q became %q and then %q", s, c, Clean(c))
		}
	})
}
