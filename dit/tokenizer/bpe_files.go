package tokenizer

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// NewBPE builds a tokenizer from the content of vocab.json and merges.txt. Errors say which token, or which line, is at fault. Files that are refused take no
// more memory than their own size and 1 MiB.
func NewBPE(vocab, merges []byte) (*BPE, error) {
	v, err := parseVocabulary(vocab)
	if err != nil {
		return nil, fmt.Errorf("vocab.json: %w", err)
	}
	if err := eachLine(merges, func(_, _ []byte) error { return nil }); err != nil {
		return nil, fmt.Errorf("merges.txt: %w", err)
	}
	b, err := newBPE(v, func(f func(left, right []byte) error) error { return eachLine(merges, f) })
	if err != nil {
		return nil, fmt.Errorf("vocab.json and merges.txt: %w", err)
	}
	return b, nil
}

// eachLine calls f for the two symbols on each line of merges.txt.
func eachLine(text []byte, f func(left, right []byte) error) error {
	if len(text) > MaxModel {
		return fmt.Errorf("%d bytes, at most %d are allowed", len(text), MaxModel)
	}
	for n := 1; len(text) > 0; n++ {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) == 0 || bytes.HasPrefix(line, []byte("#version")) {
			continue
		}
		left, right, ok := bytes.Cut(line, []byte(" "))
		if !ok || len(left) == 0 || len(right) == 0 || bytes.IndexByte(right, ' ') >= 0 {
			return fmt.Errorf("line %d: %q is not two symbols with a space between", n, short(string(line[:min(len(line), 100)])))
		}
		if err := f(left, right); err != nil {
			return err
		}
	}
	return nil
}

// NewBPEFromJSON builds a tokenizer from the content of tokenizer.json, as NewBPE does.
func NewBPEFromJSON(data []byte) (*BPE, error) {
	b, err := readTokenizerJSON(data)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	return b, nil
}

func readTokenizerJSON(data []byte) (*BPE, error) {
	if err := checkJSON(data); err != nil {
		return nil, err
	}
	model := map[string][]byte{"type": nil, "end_of_word_suffix": nil, "vocab": nil, "merges": nil}
	err := members(data, func(key, value []byte) error {
		if string(key) != `"model"` {
			return nil
		}
		return members(value, func(key, value []byte) error {
			if _, known := model[string(key[1:len(key)-1])]; known {
				model[string(key[1:len(key)-1])] = value
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("key \"model\": %w", err)
	}
	if string(model["type"]) != `"BPE"` || string(model["end_of_word_suffix"]) != `"`+wordEnd+`"` {
		return nil, fmt.Errorf("key \"model\": type %.20s with end_of_word_suffix %.20s is not supported: CLIP's BPE has %q", model["type"], model["end_of_word_suffix"], wordEnd)
	}
	v, err := parseVocabulary(model["vocab"])
	if err != nil {
		return nil, fmt.Errorf("key \"model.vocab\": %w", err)
	}
	merges := func(f func(left, right []byte) error) error { return eachRule(model["merges"], f) }
	if err := merges(func(_, _ []byte) error { return nil }); err != nil {
		return nil, fmt.Errorf("key \"model.merges\": %w", err)
	}
	return newBPE(v, merges)
}

// eachRule calls f for the two symbols of each merge: ["a","b"], or "a b" as older files have it. They are f's until it returns.
func eachRule(list []byte, f func(left, right []byte) error) error {
	n := 0
	var left, right []byte
	return elements(list, func(rule []byte) error {
		symbols, ok := 0, false
		if rule[0] == '[' {
			_ = elements(rule, func(x []byte) error {
				switch {
				case x[0] != '"':
					symbols = 2 // no symbol: too many
				case symbols == 0:
					left = unescape(left[:0], x)
				case symbols == 1:
					right = unescape(right[:0], x)
				}
				symbols++
				return nil
			})
			ok = symbols == 2
		} else if rule[0] == '"' {
			left = unescape(left[:0], rule)
			var l, r []byte
			if l, r, ok = bytes.Cut(left, []byte(" ")); ok {
				right = append(right[:0], r...)
				left = l
			}
		}
		if !ok {
			return fmt.Errorf("rule %d: %.80s is not two symbols", n, rule)
		}
		n++
		return f(left, right)
	})
}

func short(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "..."
	}
	return s
}

// vocabulary maps tokens to ids in about the memory of the file that they come from.
type vocabulary struct {
	text    []byte  // each token behind its length
	entries []entry // sorted by token
}

type entry struct {
	at uint32 // in text
	id int32
}

func (v *vocabulary) token(e entry) []byte {
	n, size := binary.Uvarint(v.text[e.at:])
	return v.text[int(e.at)+size:][:n]
}

func (v *vocabulary) id(token []byte) (int32, bool) {
	i, ok := slices.BinarySearchFunc(v.entries, token, func(e entry, t []byte) int { return bytes.Compare(v.token(e), t) })
	if !ok {
		return 0, false
	}
	return v.entries[i].id, true
}

// parseVocabulary reads an object of tokens and ids. Of a token that is there twice the last id counts.
func parseVocabulary(data []byte) (*vocabulary, error) {
	if err := checkJSON(data); err != nil {
		return nil, err
	}
	count, length := 0, 0
	if err := members(data, func(key, value []byte) error {
		id, ok := integer(value)
		if !ok || id < 0 || id >= MaxVocabulary {
			return fmt.Errorf("token %s: id %.20s is out of range: 0 to %d", short(string(key[:min(len(key), 100)])), value, MaxVocabulary-1)
		}
		count++
		length += len(key) + 1 + len(key)/128 // more than the token and its length take
		return nil
	}); err != nil {
		return nil, err
	}
	v := &vocabulary{text: make([]byte, 0, length), entries: make([]entry, 0, count)}
	var token []byte
	_ = members(data, func(key, value []byte) error {
		id, _ := integer(value)
		token = unescape(token[:0], key)
		v.entries = append(v.entries, entry{uint32(len(v.text)), int32(id)})
		v.text = append(binary.AppendUvarint(v.text, uint64(len(token))), token...)
		return nil
	})
	slices.SortFunc(v.entries, func(a, b entry) int { return cmp.Or(bytes.Compare(v.token(a), v.token(b)), cmp.Compare(b.at, a.at)) })
	v.entries = slices.CompactFunc(v.entries, func(a, b entry) bool { return bytes.Equal(v.token(a), v.token(b)) })
	return v, nil
}

// integer reads a whole number that no id is longer than.
func integer(text []byte) (n int, ok bool) {
	digits := bytes.TrimPrefix(text, []byte("-"))
	if len(digits) == 0 || len(digits) > 10 {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	if len(digits) < len(text) {
		n = -n
	}
	return n, true
}

// ---- JSON that has been checked, read where it lies ----

func checkJSON(data []byte) error {
	switch {
	case len(data) > MaxModel:
		return fmt.Errorf("%d bytes, at most %d are allowed", len(data), MaxModel)
	case !utf8.Valid(data):
		return errors.New("the text is not valid UTF-8")
	case !json.Valid(data):
		var nothing json.RawMessage
		return json.Unmarshal(data, &nothing) // says where
	}
	return nil
}

func skipSpace(d []byte) []byte { return bytes.TrimLeft(d, " \t\r\n") }

// cutValue cuts off the value that d begins with.
func cutValue(d []byte) (value, rest []byte) {
	end := 0
	for depth := 0; ; {
		switch c := d[end]; {
		case c == '"':
			for end++; d[end] != '"'; end++ {
				if d[end] == '\\' {
					end++
				}
			}
			end++
		case c == '{' || c == '[':
			depth++
			end++
		case c == '}' || c == ']':
			depth--
			end++
		case depth > 0:
			end++
		default: // a number, true, false or null
			if end = bytes.IndexAny(d, " \t\r\n,]}"); end < 0 {
				end = len(d)
			}
		}
		if depth == 0 {
			return d[:end], d[end:]
		}
	}
}

// members calls f for each key, in its quotes, and value of an object.
func members(d []byte, f func(key, value []byte) error) error {
	if d = skipSpace(d); len(d) == 0 || d[0] != '{' {
		return fmt.Errorf("found %.20q, want an object", d)
	}
	for d = skipSpace(d[1:]); d[0] != '}'; {
		var key, value []byte
		key, d = cutValue(d)
		value, d = cutValue(skipSpace(skipSpace(d)[1:])) // behind the colon
		if err := f(key, value); err != nil {
			return err
		}
		if d = skipSpace(d); d[0] == ',' {
			d = skipSpace(d[1:])
		}
	}
	return nil
}

// elements calls f for each value of a list.
func elements(d []byte, f func(value []byte) error) error {
	if d = skipSpace(d); len(d) == 0 || d[0] != '[' {
		return fmt.Errorf("found %.20q, want a list", d)
	}
	for d = skipSpace(d[1:]); d[0] != ']'; {
		var value []byte
		value, d = cutValue(d)
		if err := f(value); err != nil {
			return err
		}
		if d = skipSpace(d); d[0] == ',' {
			d = skipSpace(d[1:])
		}
	}
	return nil
}

// unescape appends the text of a string in its quotes to dst. Halves of surrogate pairs become U+FFFD, as in encoding/json.
func unescape(dst, quoted []byte) []byte {
	d := quoted[1 : len(quoted)-1]
	for len(d) > 0 {
		i := bytes.IndexByte(d, '\\')
		if i < 0 {
			return append(dst, d...)
		}
		dst = append(dst, d[:i]...)
		c := d[i+1]
		d = d[i+2:]
		switch at := strings.IndexByte("bfnrt", c); {
		case c == 'u':
			r := hexRune(d)
			d = d[4:]
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if len(d) >= 6 && d[0] == '\\' && d[1] == 'u' {
					low = hexRune(d[2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					d = d[6:]
				}
			}
			dst = utf8.AppendRune(dst, r)
		case at >= 0:
			dst = append(dst, "\b\f\n\r\t"[at])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// hexRune is the value of four hexadecimal digits.
func hexRune(d []byte) (r rune) {
	for _, c := range d[:4] {
		switch {
		case c >= 'a':
			c -= 'a' - 10
		case c >= 'A':
			c -= 'A' - 10
		default:
			c -= '0'
		}
		r = r<<4 | rune(c)
	}
	return r
}
