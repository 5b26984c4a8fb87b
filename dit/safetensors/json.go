package safetensors

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of values in members that we skip.
const maxDepth = 64

// scanner reads the JSON header in place: it allocates nothing, so a hostile header costs no memory.
type scanner struct {
	b   []byte
	pos int
}

func (s *scanner) errorf(format string, args ...any) error {
	return fmt.Errorf("byte %d of the JSON: %s", s.pos, fmt.Sprintf(format, args...))
}

func (s *scanner) space() {
	for s.pos < len(s.b) {
		switch s.b[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek skips white space and returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.pos >= len(s.b) {
		return 0
	}
	return s.b[s.pos]
}

func (s *scanner) expect(c byte) error {
	if got := s.peek(); got != c {
		if s.pos >= len(s.b) {
			return s.errorf("want %q, found the end", c)
		}
		return s.errorf("want %q, found %q", c, got)
	}
	s.pos++
	return nil
}

// text is a JSON string in the header: the bytes between its quotes, and whether they hold escapes.
type text struct {
	off, len int
	escaped  bool
}

// str reads one string and checks its escapes. The header is known to be valid UTF-8.
func (s *scanner) str() (text, error) {
	if err := s.expect('"'); err != nil {
		return text{}, err
	}
	t := text{off: s.pos}
	for s.pos < len(s.b) {
		switch c := s.b[s.pos]; {
		case c == '"':
			t.len = s.pos - t.off
			s.pos++
			return t, nil
		case c < 0x20:
			return t, s.errorf("control character in a string")
		case c == '\\':
			t.escaped = true
			_, n, err := unescape(s.b[s.pos:])
			if err != nil {
				return t, s.errorf("%v", err)
			}
			s.pos += n
		default:
			s.pos++
		}
	}
	return t, s.errorf("string without its closing quote")
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

// appendText appends the decoded string t of header b to dst.
func appendText(dst, b []byte, t text) []byte {
	raw := b[t.off : t.off+t.len]
	if !t.escaped {
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

// uint reads a non-negative integer of at most 2^63-1.
func (s *scanner) uint() (int64, error) {
	s.space()
	start := s.pos
	var v uint64
	for s.pos < len(s.b) && s.b[s.pos] >= '0' && s.b[s.pos] <= '9' {
		d := uint64(s.b[s.pos] - '0')
		if v > (math.MaxInt64-d)/10 {
			return 0, s.errorf("number larger than 2^63-1")
		}
		v = v*10 + d
		s.pos++
	}
	n := s.pos - start
	if n == 0 {
		return 0, s.errorf("want a non-negative integer")
	}
	if n > 1 && s.b[start] == '0' {
		return 0, s.errorf("number with a leading zero")
	}
	if s.pos < len(s.b) && (s.b[s.pos] == '.' || s.b[s.pos]|0x20 == 'e') {
		return 0, s.errorf("want an integer")
	}
	return int64(v), nil
}

// list calls item for each element of a JSON array or, with close '}', each member of an object (item reads key and value).
func (s *scanner) list(open, close byte, item func() error) error {
	if err := s.expect(open); err != nil {
		return err
	}
	if s.peek() == close {
		s.pos++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if s.peek() == close {
			s.pos++
			return nil
		}
		if err := s.expect(','); err != nil {
			return err
		}
	}
}

// skip reads any JSON value.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return s.errorf("values nested deeper than %d", maxDepth)
	}
	switch c := s.peek(); c {
	case '"':
		_, err := s.str()
		return err
	case '{':
		return s.list('{', '}', func() error {
			if _, err := s.str(); err != nil {
				return err
			}
			if err := s.expect(':'); err != nil {
				return err
			}
			return s.skip(depth + 1)
		})
	case '[':
		return s.list('[', ']', func() error { return s.skip(depth + 1) })
	default:
		return s.word(c)
	}
}

// word reads true, false, null or a number.
func (s *scanner) word(first byte) error {
	start := s.pos
	for s.pos < len(s.b) {
		switch c := s.b[s.pos]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c == 'E', c == '+', c == '-', c == '.':
			s.pos++
			continue
		}
		break
	}
	switch w := s.b[start:s.pos]; {
	case string(w) == "true", string(w) == "false", string(w) == "null":
		return nil
	case len(w) > 0 && (first == '-' || first >= '0' && first <= '9'):
		return nil // the digits of a skipped number do not matter
	}
	s.pos = start
	return s.errorf("want a JSON value")
}
