package schedule

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// FormatError is what is wrong with a schedule file, and where.
type FormatError struct {
	Path    string // members from the top, such as cache_schedule.schedule.003.12.attn2; empty at the top
	Line    int    // from 1
	Problem string // what is wrong and what to write instead
}

// Error says it in one line.
func (e *FormatError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("line %d: %s", e.Line, e.Problem)
	}
	return fmt.Sprintf("%s (line %d): %s", e.Path, e.Line, e.Problem)
}

// Limits of the scanner: nesting (Python's own reader stops near 1000), and the
// number of keys up to which the list of keys grows as append likes.
const (
	maxNesting = 512
	freeKeys   = 1 << 16
)

// scanner reads JSON in place. It copies nothing, so that what the package does
// not know can be kept byte for byte, and allocates nothing but the list of keys
// of the objects that are open, at most four bytes per five of the input.
type scanner struct {
	data []byte
	pos  int
	path []frame
	keys []uint32 // where the keys of the open objects start, outermost first
}

// frame is a place inside an object or array.
type frame struct {
	key   int // start of the key, 0 before the first, -1 in an array
	index int // in an array
}

// fail makes an error at the current place.
func (s *scanner) fail(format string, args ...any) error {
	pos := min(s.pos, len(s.data))
	return &FormatError{
		Path:    s.where(),
		Line:    1 + bytes.Count(s.data[:pos], []byte{'\n'}),
		Problem: fmt.Sprintf(format, args...),
	}
}

// where writes the current path. Keys that are no plain words are quoted, long
// ones and deep paths cut.
func (s *scanner) where() string {
	var b strings.Builder
	for i, f := range s.path {
		if i == 8 {
			b.WriteString("...")
			break
		}
		if f.key < 0 {
			fmt.Fprintf(&b, "[%d]", f.index)
			continue
		}
		if f.key == 0 {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		var scratch [48]byte
		key := s.text(f.key, scratch[:0])
		if plain := len(key) > 0 && !bytes.ContainsFunc(key, func(r rune) bool {
			return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		}); plain {
			b.Write(key)
		} else {
			fmt.Fprintf(&b, "%q", key)
		}
	}
	return b.String()
}

func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\n', '\t', '\r':
			s.pos++
		default:
			return
		}
	}
}

// found names what stands at the current place, for messages.
func (s *scanner) found() string {
	rest := s.data[min(s.pos, len(s.data)):]
	switch c := s.peek(); {
	case len(rest) == 0:
		return "the end of the file"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '"':
		return "a string"
	}
	if word := s.word(); word != "" {
		return word
	}
	r, _ := utf8.DecodeRune(rest)
	return fmt.Sprintf("%q", r)
}

// word returns the number or bare word at the current place, cut at 24 bytes.
func (s *scanner) word() string {
	end := s.pos
	for end < len(s.data) && end-s.pos < 24 {
		c := s.data[end]
		if c != '-' && c != '+' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			break
		}
		end++
	}
	return string(s.data[s.pos:end])
}

// enter and leave keep the path; enter refuses what is nested too deep.
func (s *scanner) enter(f frame) error {
	if len(s.path) >= maxNesting {
		return s.fail("nested deeper than %d: no schedule file is", maxNesting)
	}
	s.path = append(s.path, f)
	return nil
}

func (s *scanner) leave() { s.path = s.path[:len(s.path)-1] }

// object reads an object and calls visit with the place of each key, standing at
// the value, which visit must read. Keys that occur twice are an error: Python
// would silently take the last.
func (s *scanner) object(visit func(key int) error) error {
	if s.peek() != '{' {
		return s.fail("want an object, found %s", s.found())
	}
	if err := s.enter(frame{}); err != nil {
		return err
	}
	s.pos++
	base := len(s.keys)
	for first := true; ; first = false {
		s.space()
		if first && s.peek() == '}' {
			break
		}
		s.path[len(s.path)-1].key = 0
		if s.peek() != '"' {
			return s.fail("want a member name in double quotes, found %s", s.found())
		}
		key := s.pos
		if err := s.str(); err != nil {
			return err
		}
		s.addKey(key)
		s.path[len(s.path)-1].key = key
		s.space()
		if s.peek() != ':' {
			return s.fail("want a colon after the member name, found %s", s.found())
		}
		s.pos++
		s.space()
		if err := visit(key); err != nil {
			return err
		}
		s.space()
		if s.peek() == '}' {
			break
		}
		if s.peek() != ',' {
			return s.fail("want a comma or } after the value, found %s", s.found())
		}
		s.pos++
	}
	s.pos++
	if err := s.unique(s.keys[base:]); err != nil {
		return err
	}
	s.keys = s.keys[:base]
	s.leave()
	return nil
}

// addKey remembers a key of the object that is open. Past a number that no
// schedule file has, the list gets at once the size that the file can need (a
// member takes five bytes at least), so that it is not copied to and fro.
func (s *scanner) addKey(key int) {
	if len(s.keys) == cap(s.keys) && len(s.keys) >= freeKeys {
		all := make([]uint32, len(s.keys), max(len(s.data)/5, len(s.keys))+1)
		copy(all, s.keys)
		s.keys = all
	}
	s.keys = append(s.keys, uint32(key))
}

// unique sorts keys and reports one that occurs twice.
func (s *scanner) unique(keys []uint32) error {
	byName := func(a, b uint32) int {
		return cmp.Or(s.compare(int(a), int(b)), cmp.Compare(a, b))
	}
	slices.SortFunc(keys, byName)
	for i := 1; i < len(keys); i++ {
		if s.compare(int(keys[i-1]), int(keys[i])) == 0 {
			s.pos = int(keys[i])
			s.path[len(s.path)-1].key = s.pos
			return s.fail("member occurs twice: keep one")
		}
	}
	return nil
}

// compare orders two keys by their code points, escapes decoded.
func (s *scanner) compare(a, b int) int {
	a, b = a+1, b+1
	for {
		var x, y rune
		x, a = s.char(a)
		y, b = s.char(b)
		if x != y || x < 0 {
			return cmp.Compare(x, y)
		}
	}
}

// char decodes the character at pos in a string that str has accepted, and
// returns the place after it; -1 at the closing quote. A lone surrogate, which
// Python writes and reads, is its own character.
func (s *scanner) char(pos int) (rune, int) {
	switch c := s.data[pos]; {
	case c == '"':
		return -1, pos
	case c == '\\':
		if s.data[pos+1] != 'u' {
			i := strings.IndexByte(`"\/bfnrt`, s.data[pos+1])
			return rune("\"\\/\b\f\n\r\t"[i]), pos + 2
		}
		r := s.hex(pos + 2)
		if r >= 0xD800 && r < 0xDC00 && s.data[pos+6] == '\\' && s.data[pos+7] == 'u' {
			if low := s.hex(pos + 8); low >= 0xDC00 && low < 0xE000 {
				return (r-0xD800)<<10 + (low - 0xDC00) + 0x10000, pos + 12
			}
		}
		return r, pos + 6
	case c < utf8.RuneSelf:
		return rune(c), pos + 1
	}
	r, n := utf8.DecodeRune(s.data[pos:])
	return r, pos + n
}

// hex returns the value of four hexadecimal digits, -1 if they are none.
func (s *scanner) hex(pos int) rune {
	if pos+4 > len(s.data) {
		return -1
	}
	var r rune
	for _, c := range s.data[pos : pos+4] {
		i := strings.IndexByte("0123456789abcdefABCDEF", c)
		if i < 0 {
			return -1
		}
		if i > 15 {
			i -= 6
		}
		r = r<<4 + rune(i)
	}
	return r
}

// text appends the decoded string at pos to buf while buf has room for a
// character of any length. A cut string is longer than any name compared to it.
func (s *scanner) text(pos int, buf []byte) []byte {
	for pos++; ; {
		var r rune
		if r, pos = s.char(pos); r < 0 || len(buf)+utf8.UTFMax > cap(buf) {
			return buf
		}
		buf = utf8.AppendRune(buf, r)
	}
}
