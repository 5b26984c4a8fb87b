package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/ga"
	"ecadx/ga/study"
	"ecadx/schedule"
)

func TestCodeOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want exitCode
	}{
		{nil, exitDone},
		{errors.New("disk full"), exitFailed},
		{usageError("a: b: c"), exitUsage},
		{inputError("a: %w: c", errors.New("b")), exitBadInput},
		{fmt.Errorf("opening: %w", ecad.ErrNoDevice), exitNoDevice},
		{&ecad.Error{Code: ecad.StatusNoDevice, Message: "none here"}, exitNoDevice},
		{newError(exitNoDevice, "--device: none: use cpu"), exitNoDevice},
		{fmt.Errorf("run: %w", ga.ErrInterrupted), exitInterrupted},
		{newError(exitInterrupted, "evolve: saved: run again"), exitInterrupted},
		{context.Canceled, exitInterrupted},
		{badInput(context.Canceled), exitInterrupted},
		{&study.DriftError{Dir: "d"}, exitBadInput},
		{fmt.Errorf("d: %w", study.ErrNotStudy), exitBadInput},
		{&study.CorruptError{File: "f"}, exitBadInput},
		{fmt.Errorf("d: %w", study.ErrLocked), exitFailed},
		{&schedule.FormatError{Line: 3, Problem: "x"}, exitBadInput},
		{fmt.Errorf("s: %w", schedule.ErrShape), exitBadInput},
		{fmt.Errorf("m: %w", dit.ErrReference), exitBadInput},
		{fmt.Errorf("f: %w", fs.ErrNotExist), exitBadInput},
		{badInput(errors.New("weights: too short")), exitBadInput},
		{badInput(usageError("a: b: c")), exitUsage},
	} {
		if got := codeOf(c.err); got != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.want)
		}
	}
}

func TestReportIsOneLine(t *testing.T) {
	var b bytes.Buffer
	code := report(&b, errors.Join(inputError("ecadx generate: \x1b[31mred\nblue: fix it"), errors.New("and more")))
	if got := b.String(); code != exitBadInput || strings.Count(got, "\n") != 1 || strings.Contains(got, "\x1b") || !strings.HasPrefix(got, "ecadx: generate: ") {
		t.Errorf("exit %d: %q", code, got)
	}
}

func TestReportOfInterrupts(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{newError(exitInterrupted, "evolve: interrupted: 12 scores are saved in d: run it again"), "ecadx: evolve: interrupted: 12 scores are saved in d: run it again\n"},
		{errors.Join(newError(exitInterrupted, "evolve: interrupted: saved: run it again"), nil), "ecadx: evolve: interrupted: saved: run it again\n"},
		{badInput(context.Canceled), "ecadx: interrupted: nothing was lost but the work at hand: run the command again\n"},
	} {
		var b bytes.Buffer
		if code := report(&b, c.err); code != exitInterrupted || b.String() != c.want {
			t.Errorf("%v: exit %d, %q; want %q", c.err, code, b.String(), c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"generate", "evolve", "schedule", "search.population", "search.generations"}
	for name, want := range map[string]string{"genrate": "generate", "evlove": "evolve", "search.poplation": "search.population", "gen": "generate", "xyzzy": "", "": ""} {
		if got, _ := nearest(name, known); got != want {
			t.Errorf("nearest to %q is %q, want %q", name, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 1}, {"abc", "abc", 0}} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("distance of %q and %q is %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
