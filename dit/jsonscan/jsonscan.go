// Package jsonscan reads JSON where it lies: it allocates nothing, so that a hostile file costs no memory beyond its own bytes. For files
// that may be large (headers of weights, vocabularies); small ones are read by dit/hfconfig.
package jsonscan

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of values in members that we skip.
const maxDepth = 64

// Scanner reads Bytes, which the caller knows to be valid UTF-8, from Pos on. Its methods move Pos behind what they read; their errors name the byte.
type Scanner struct {
	Bytes []byte
	Pos   int
}

// Errorf is an error about the byte at Pos.
func (s *Scanner) Errorf(format string, args ...any) error {
	return fmt.Errorf("byte %d of the JSON: %s", s.Pos, fmt.Sprintf(format, args...))
}

// Space skips white space.
func (s *Scanner) Space() {
	for s.Pos < len(s.Bytes) {
		switch s.Bytes[s.Pos] {
		case ' ', '\t', '\n', '\r':
			s.Pos++
		default:
			return
		}
	}
}

// Peek skips white space and returns the next byte, 0 at the end.
func (s *Scanner) Peek() byte {
	s.Space()
	if s.Pos >= len(s.Bytes) {
		return 0
	}
	return s.Bytes[s.Pos]
}

// Expect reads one punctuation mark.
func (s *Scanner) Expect(c byte) error {
	if got := s.Peek(); got != c {
		if s.Pos >= len(s.Bytes) {
			return s.Errorf("want %q, found the end", c)
		}
		return s.Errorf("want %q, found %q", c, got)
	}
	s.Pos++
	return nil
}

// Text is a JSON string in Bytes: where what is between its quotes lies, and whether it holds escapes.
type Text struct {
	Off, Len int
	Escaped  bool
}

// Key reads the name of a member and the colon behind it.
func (s *Scanner) Key() (Text, error) {
	key, err := s.Str()
	if err == nil {
		err = s.Expect(':')
	}
	return key, err
}

// End returns an error if anything but white space follows.
func (s *Scanner) End() error {
	if s.Peek() != 0 || s.Pos < len(s.Bytes) {
		return s.Errorf("text after the closing bracket")
	}
	return nil
}

// Str reads one string and checks its escapes.
func (s *Scanner) Str() (Text, error) {
	if err := s.Expect('"'); err != nil {
		return Text{}, err
	}
	t := Text{Off: s.Pos}
	for s.Pos < len(s.Bytes) {
		switch c := s.Bytes[s.Pos]; {
		case c == '"':
			t.Len = s.Pos - t.Off
			s.Pos++
			return t, nil
		case c < 0x20:
			return t, s.Errorf("control character in a string")
		case c == '\\':
			t.Escaped = true
			_, n, err := unescape(s.Bytes[s.Pos:])
			if err != nil {
				return t, s.Errorf("%v", err)
			}
			s.Pos += n
		default:
			s.Pos++
		}
	}
	return t, s.Errorf("string without its closing quote")
}

// unescape decodes the escape sequence at the start of b and returns the bytes it takes.
func unescape(b []byte) (r rune, n int, err error) {
	if len(b) < 2 {
		return 0, 0, errors.New("incomplete escape")
	}
	switch b[1] {
	case '"', '\\', '/':
		return rune(b[1]), 2, nil
	case 'b':
		return '\b', 2, nil
	case 'f':
		return '\f', 2, nil
	case 'n':
		return '\n', 2, nil
	case 'r':
		return '\r', 2, nil
	case 't':
		return '\t', 2, nil
	case 'u':
		hi, ok := hex4(b[2:])
		if !ok {
			return 0, 0, errors.New(`\u needs four hexadecimal digits`)
		}
		if !utf16.IsSurrogate(hi) {
			return hi, 6, nil
		}
		if len(b) >= 12 && b[6] == '\\' && b[7] == 'u' {
			if lo, ok := hex4(b[8:]); ok {
				if r := utf16.DecodeRune(hi, lo); r != utf8.RuneError {
					return r, 12, nil
				}
			}
		}
		return 0, 0, errors.New("unpaired surrogate")
	}
	return 0, 0, fmt.Errorf("unknown escape \\%c", b[1])
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// Raw is the string as it is written in b, without its quotes.
func (t Text) Raw(b []byte) []byte { return b[t.Off : t.Off+t.Len] }

// Append appends the decoded string, which lies in b, to dst.
func (t Text) Append(dst, b []byte) []byte {
	raw := t.Raw(b)
	if !t.Escaped {
		return append(dst, raw...)
	}
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			dst = append(dst, raw[i])
			i++
			continue
		}
		r, n, _ := unescape(raw[i:]) // checked when the string was scanned
		dst = utf8.AppendRune(dst, r)
		i += n
	}
	return dst
}

// Uint reads a non-negative integer of at most 2^63-1.
func (s *Scanner) Uint() (int64, error) {
	s.Space()
	start := s.Pos
	var v uint64
	for s.Pos < len(s.Bytes) && s.Bytes[s.Pos] >= '0' && s.Bytes[s.Pos] <= '9' {
		d := uint64(s.Bytes[s.Pos] - '0')
		if v > (math.MaxInt64-d)/10 {
			return 0, s.Errorf("number larger than 2^63-1")
		}
		v = v*10 + d
		s.Pos++
	}
	n := s.Pos - start
	if n == 0 {
		return 0, s.Errorf("want a non-negative integer")
	}
	if n > 1 && s.Bytes[start] == '0' {
		return 0, s.Errorf("number with a leading zero")
	}
	if s.Pos < len(s.Bytes) && (s.Bytes[s.Pos] == '.' || s.Bytes[s.Pos]|0x20 == 'e') {
		return 0, s.Errorf("want an integer")
	}
	return int64(v), nil
}

// List calls item for each element of a JSON array or, with close '}', each member of an object (item reads key and value).
func (s *Scanner) List(open, close byte, item func() error) error {
	if err := s.Expect(open); err != nil {
		return err
	}
	if s.Peek() == close {
		s.Pos++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if s.Peek() == close {
			s.Pos++
			return nil
		}
		if err := s.Expect(','); err != nil {
			return err
		}
	}
}

// Skip reads any JSON value.
func (s *Scanner) Skip() error { return s.skip(0) }

func (s *Scanner) skip(depth int) error {
	if depth > maxDepth {
		return s.Errorf("values nested deeper than %d", maxDepth)
	}
	switch c := s.Peek(); c {
	case '"':
		_, err := s.Str()
		return err
	case '{':
		return s.List('{', '}', func() error {
			if _, err := s.Key(); err != nil {
				return err
			}
			return s.skip(depth + 1)
		})
	case '[':
		return s.List('[', ']', func() error { return s.skip(depth + 1) })
	default:
		return s.word(c)
	}
}

// word reads true, false, null or a number.
func (s *Scanner) word(first byte) error {
	start := s.Pos
	for s.Pos < len(s.Bytes) {
		switch c := s.Bytes[s.Pos]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c == 'E', c == '+', c == '-', c == '.':
			s.Pos++
			continue
		}
		break
	}
	switch w := s.Bytes[start:s.Pos]; {
	case string(w) == "true", string(w) == "false", string(w) == "null":
		return nil
	case len(w) > 0 && (first == '-' || first >= '0' && first <= '9'):
		return nil // the digits of a skipped number do not matter
	}
	s.Pos = start
	return s.Errorf("want a JSON value")
}
