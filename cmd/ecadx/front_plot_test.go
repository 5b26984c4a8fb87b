package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"ecadx/ga"
)

func TestFrontPlot(t *testing.T) {
	points := []ga.Point{{Quality: 20, Cost: 100}, {Quality: 40, Cost: 300}, {Quality: 50, Cost: 500}}
	got := frontPlot(points, 1000, 60, asciiGlyphs)
	if len(got) != frontPlotRows+2 {
		t.Fatalf("%d lines:\n%s", len(got), strings.Join(got, "\n"))
	}
	if !strings.HasPrefix(got[0], "       50 |") || !strings.HasSuffix(got[0], "o") || len(got[0]) != 60 || got[6] != "       20 |o" || strings.Count(strings.Join(got[:7], ""), "o") != 3 {
		t.Errorf("\n%s", strings.Join(got, "\n"))
	}
	if last := strings.Fields(got[8]); strings.Join(last, " ") != "10.00x less 2.00x less" {
		t.Errorf("axis: %q", got[8])
	}
	for _, line := range frontPlot(points, 1000, 60, unicodeGlyphs) {
		if n := utf8.RuneCountInString(line); n > 60 {
			t.Errorf("%d characters: %q", n, line)
		}
	}
	// One point has no extent, a narrow terminal no room, equal costs and a cost of nothing no division.
	if frontPlot(points[:1], 1000, 60, asciiGlyphs) != nil || frontPlot(points, 1000, 25, asciiGlyphs) != nil {
		t.Error("a plot of nothing")
	}
	flat := frontPlot([]ga.Point{{Quality: 1}, {Quality: 1}}, 1000, 60, asciiGlyphs)
	if text := strings.Join(flat, ""); strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
		t.Error(text)
	}
}

func TestTerminalGlyphs(t *testing.T) {
	for _, c := range []struct {
		all, lang string
		want      plotGlyphs
	}{{"", "de_DE.UTF-8", unicodeGlyphs}, {"C", "de_DE.UTF-8", asciiGlyphs}, {"", "", asciiGlyphs}, {"C.utf8", "", unicodeGlyphs}} {
		t.Setenv("LC_ALL", c.all)
		t.Setenv("LC_CTYPE", "")
		t.Setenv("LANG", c.lang)
		if got := terminalGlyphs(); got != c.want {
			t.Errorf("LC_ALL=%q LANG=%q: %+v", c.all, c.lang, got)
		}
	}
}

// TestLiveLines: on a terminal the lines of a status take each other's place, cut to its width; elsewhere only the first is printed.
func TestLiveLines(t *testing.T) {
	var b bytes.Buffer
	p := &progress{w: &b, live: true, width: 10, start: time.Now().Add(-time.Minute)}
	p.status("abcdefghijklmnop\nsecond")
	p.shown = time.Time{}
	p.status("third")
	p.line("%s", "kept")
	p.end()
	if want := "abcdefghi\nsecond" + "\r\x1b[1A\x1b[J" + "third" + "\r\x1b[J" + "kept\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	b.Reset()
	p = &progress{w: &b, start: time.Now().Add(-time.Minute)}
	p.status("first\nsecond")
	p.end()
	if b.String() != "first\n" {
		t.Errorf("%q", b.String())
	}
}
