package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/ga"
	"ecadx/ga/study"
	"ecadx/schedule"
)

// exitCode is what the process returns; scripts rely on the values.
type exitCode int

// The exit codes.
const (
	exitDone        exitCode = 0
	exitFailed      exitCode = 1
	exitUsage       exitCode = 2
	exitBadInput    exitCode = 3
	exitNoDevice    exitCode = 4
	exitInterrupted exitCode = 130
)

// commandError is an error with its exit code. Its text has the form WHERE: WHAT: HOW TO FIX.
type commandError struct {
	code  exitCode
	text  string
	cause error
}

func (e *commandError) Error() string { return e.text }
func (e *commandError) Unwrap() error { return e.cause }

// newError formats a commandError; a %w in the format sets its cause.
func newError(code exitCode, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &commandError{code: code, text: err.Error(), cause: errors.Unwrap(err)}
}

// usageError says that the command line is wrong.
func usageError(format string, args ...any) error { return newError(exitUsage, format, args...) }

// inputError says that a file, a schedule, weights, a configuration or a study is wrong.
func inputError(format string, args ...any) error { return newError(exitBadInput, format, args...) }

// badInput marks an error of a library as one about an input, unless it has a more special meaning already.
func badInput(err error) error {
	if err == nil || codeOf(err) != exitFailed {
		return err
	}
	return &commandError{code: exitBadInput, text: err.Error(), cause: err}
}

// codeOf maps an error to its exit code: the only place that does.
func codeOf(err error) exitCode {
	var own *commandError
	var format *schedule.FormatError
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case err == nil:
		return exitDone
	case is(ga.ErrInterrupted, context.Canceled, ecad.ErrCancelled):
		return exitInterrupted
	case errors.As(err, &own):
		return own.code
	case is(ecad.ErrNoDevice):
		return exitNoDevice
	case errors.As(err, &format),
		is(schedule.ErrShape, schedule.ErrDims, dit.ErrReference, ga.ErrConfig, ga.ErrDiverged, study.ErrDrift, study.ErrNotStudy,
			study.ErrCorrupt, ecad.ErrBadWeights, ecad.ErrBadProgram, fs.ErrNotExist):
		return exitBadInput
	}
	return exitFailed
}

// report prints an error as one line and returns the exit code.
func report(w io.Writer, err error) exitCode {
	code := codeOf(err)
	if err == nil {
		return code
	}
	text := err.Error()
	var own *commandError
	if said := errors.As(err, &own) && own.code == code; code == exitInterrupted && !said {
		text = "interrupted: nothing was lost but the work at hand: run the command again"
	}
	// Commands and packages call themselves "ecadx generate" and "ecadx/ga"; the line starts with the name once.
	text = strings.TrimPrefix(strings.TrimPrefix(text, "ecadx "), "ecadx: ")
	fmt.Fprintf(w, "ecadx: %s\n", oneLine(text))
	return code
}

// oneLine joins the lines of a text and drops what terminals would obey.
func oneLine(text string) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	joined := strings.Join(lines, "; ")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, joined)
}

// nearest returns the known name most like a mistyped one, if one is near enough to be meant.
func nearest(name string, known []string) (string, bool) {
	best, distance := "", max(2, len(name)/3)+1
	for _, k := range known {
		if max(len(k)-len(name), len(name)-len(k)) >= distance {
			continue // so much at least must be put in or left out
		}
		if d := editDistance(strings.ToLower(name), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		for _, k := range known { // a beginning, such as "gen"
			if len(name) >= 2 && strings.HasPrefix(k, name) {
				return k, true
			}
		}
	}
	return best, best != ""
}

// editDistance is the number of insertions, deletions, replacements and swaps of neighbours that turn a into b (Damerau and Levenshtein,
// restricted).
func editDistance(a, b string) int {
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// didYouMean completes a message about an unknown name.
func didYouMean(name string, known []string, otherwise string) string {
	if k, ok := nearest(name, known); ok {
		return fmt.Sprintf("did you mean %q?", k)
	}
	return otherwise
}
