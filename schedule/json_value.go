package schedule

import "unicode/utf8"

// span is a piece of a file, from start up to end. The zero span is nothing.
type span struct{ start, end int }

func (p span) ok() bool { return p.end > 0 }

// value reads any value and returns where it was.
func (s *scanner) value() (span, error) {
	start := s.pos
	err := s.skip()
	return span{start, s.pos}, err
}

// skip reads any value.
func (s *scanner) skip() error {
	switch c := s.peek(); {
	case c == '{':
		return s.object(func(int) error { return s.skip() })
	case c == '[':
		return s.array(s.skip)
	case c == '"':
		return s.str()
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	case c == 't' || c == 'f':
		_, err := s.boolean()
		return err
	case s.word() == "null":
		s.pos += len("null")
		return nil
	}
	return s.fail("want a value, found %s", s.found())
}

// array reads an array; item must read one element.
func (s *scanner) array(item func() error) error {
	if s.peek() != '[' {
		return s.fail("want an array, found %s", s.found())
	}
	if err := s.enter(frame{key: -1}); err != nil {
		return err
	}
	s.pos++
	s.space()
	for s.peek() != ']' || s.path[len(s.path)-1].index > 0 {
		if err := item(); err != nil {
			return err
		}
		s.space()
		if s.peek() == ']' {
			break
		}
		if s.peek() != ',' {
			return s.fail("want a comma or ] after the element, found %s", s.found())
		}
		s.pos++
		s.space()
		s.path[len(s.path)-1].index++
	}
	s.pos++
	s.leave()
	return nil
}

// str reads a string: valid UTF-8, no control characters, known escapes.
func (s *scanner) str() error {
	if s.peek() != '"' {
		return s.fail("want a string, found %s", s.found())
	}
	for s.pos++; s.pos < len(s.data); {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return nil
		case c < ' ':
			return s.fail("control character %#02x in a string: write it as \\u%04x", c, c)
		case c == '\\':
			if err := s.escape(); err != nil {
				return err
			}
		case c < utf8.RuneSelf:
			s.pos++
		default:
			r, n := utf8.DecodeRune(s.data[s.pos:])
			if r == utf8.RuneError && n <= 1 {
				return s.fail("string is not valid UTF-8: save the file as UTF-8")
			}
			s.pos += n
		}
	}
	return s.fail("string does not end")
}

func (s *scanner) escape() error {
	next := byte(0)
	if s.pos+1 < len(s.data) {
		next = s.data[s.pos+1]
	}
	switch next {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos += 2
		return nil
	case 'u':
		if s.hex(s.pos+2) >= 0 {
			s.pos += 6
			return nil
		}
	}
	return s.fail("unknown escape in a string: use \\\" \\\\ \\/ \\b \\f \\n \\r \\t or \\u and four hexadecimal digits")
}

// number reads a number by JSON's grammar, of any size.
func (s *scanner) number() error {
	start := s.pos
	digits := func() bool {
		from := s.pos
		for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
			s.pos++
		}
		return s.pos > from
	}
	bad := func() error {
		s.pos = start
		return s.fail("want a number, found %s", s.found())
	}
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if !digits() {
		return bad() // also -Infinity, which Python writes
	}
	if s.peek() == '.' {
		s.pos++
		if !digits() {
			return bad()
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !digits() {
			return bad()
		}
	}
	if s.word() != "" { // 01, 1x
		return bad()
	}
	return nil
}

// boolean reads true or false.
func (s *scanner) boolean() (bool, error) {
	switch s.word() {
	case "true":
		s.pos += len("true")
		return true, nil
	case "false":
		s.pos += len("false")
		return false, nil
	}
	return false, s.fail("want true or false, found %s", s.found())
}

// whole reads a whole number from 0 to limit.
func (s *scanner) whole(limit int) (int, error) {
	start, found := s.pos, s.found()
	if err := s.number(); err != nil {
		return 0, err
	}
	n := 0
	for _, c := range s.data[start:s.pos] {
		if c < '0' || c > '9' {
			s.pos = start
			return 0, s.fail("want a whole number, found %s", found)
		}
		if n = n*10 + int(c-'0'); n > limit {
			s.pos = start
			return 0, s.fail("%s is too large: use at most %d", found, limit)
		}
	}
	return n, nil
}
