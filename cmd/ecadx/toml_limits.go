package main

import (
	"bytes"
	"fmt"
	"strings"
)

// Limits of a configuration that no honest one comes near. The TOML decoder's time and memory grow with the cube of how deep keys are
// nested, and by a hundred bytes for each key or element, so what would cost it much is refused before it sees it.
const (
	maxConfigFile    = 64 << 10 // bytes; a frozen table of latencies takes 20 KB
	maxConfigNesting = 4        // brackets within brackets
	maxConfigDots    = 4        // in one key
	maxConfigParts   = 1024     // keys, tables and elements of lists
)

// checkTOMLLimits looks at the outline of a TOML text, strings and comments left out. It says nothing about what is no TOML.
func checkTOMLLimits(data []byte) error {
	line, nesting, dots, parts := 1, 0, 0, 0
	fail := func(format string, args ...any) error {
		return fmt.Errorf("line %d: %s", line, fmt.Sprintf(format, args...))
	}
	if len(data) > maxConfigFile {
		return fmt.Errorf("%d bytes: a configuration has at most %d", len(data), maxConfigFile)
	}
	for i := 0; i < len(data); i++ {
		switch c := data[i]; c {
		case '"', '\'':
			end := skipTOMLString(data, i)
			line += bytes.Count(data[i:end], []byte{'\n'})
			i = end - 1
		case '#':
			if n := bytes.IndexByte(data[i:], '\n'); n >= 0 {
				i += n - 1
			} else {
				i = len(data)
			}
		case '\n':
			line++
			dots = 0
		case '[', '{':
			nesting++
			parts++
			dots = 0
		case ']', '}':
			nesting = max(nesting-1, 0)
		case '=', ',':
			parts++
			dots = 0
		case '.':
			dots++
		}
		switch {
		case nesting > maxConfigNesting:
			return fail("brackets nested deeper than %d: no setting is", maxConfigNesting)
		case dots > maxConfigDots:
			return fail("a key of more than %d parts: a setting is table.key", maxConfigDots)
		case parts > maxConfigParts:
			return fail("more than %d keys and elements: use fewer", maxConfigParts)
		}
	}
	return nil
}

// clip makes a piece of a hostile text fit for a message: one line, not endless.
func clip(text string) string {
	if len(text) > 120 {
		text = strings.ToValidUTF8(text[:117], "") + "..."
	}
	return oneLine(text)
}

// skipTOMLString returns where the string that starts at data[i] ends: behind its closing quotes, at the end of the line or of the text.
func skipTOMLString(data []byte, i int) int {
	quote := data[i : i+1]
	if triple := bytes.Repeat(quote, 3); bytes.HasPrefix(data[i:], triple) {
		for at := i + 3; at < len(data); at++ {
			switch {
			case data[at] == '\\' && quote[0] == '"':
				at++
			case bytes.HasPrefix(data[at:], triple):
				return at + 3
			}
		}
		return len(data)
	}
	for at := i + 1; at < len(data); at++ {
		switch {
		case data[at] == '\\' && quote[0] == '"':
			at++
		case data[at] == quote[0]:
			return at + 1
		case data[at] == '\n':
			return at
		}
	}
	return len(data)
}
