package tokenizer

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"ecadx/dit/jsonscan"
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
	s, err := scan(data)
	if err != nil {
		return nil, err
	}
	model := map[string][]byte{"type": nil, "end_of_word_suffix": nil, "vocab": nil, "merges": nil}
	if err := members(s, func(key []byte) error {
		if string(key) != "model" {
			return s.Skip()
		}
		return members(s, func(key []byte) error {
			s.Space()
			start := s.Pos
			err := s.Skip()
			if _, known := model[string(key)]; known {
				model[string(key)] = data[start:s.Pos]
			}
			return err
		})
	}); err != nil {
		return nil, err
	}
	if err := s.End(); err != nil {
		return nil, err
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
	s := &jsonscan.Scanner{Bytes: list}
	n := 0
	var left, right []byte
	return s.List('[', ']', func() error {
		var err error
		if s.Peek() == '[' {
			left, right, err = listPair(s, left, right)
		} else {
			left, right, err = textPair(s, left, right)
		}
		if err != nil {
			return fmt.Errorf("rule %d: it is not two symbols: %w", n, err)
		}
		n++
		return f(left, right)
	})
}

// listPair reads ["a","b"] into the memory of left and right.
func listPair(s *jsonscan.Scanner, left, right []byte) ([]byte, []byte, error) {
	n := 0
	err := s.List('[', ']', func() error {
		t, err := s.Str()
		switch n++; n {
		case 1:
			left = t.Append(left[:0], s.Bytes)
		case 2:
			right = t.Append(right[:0], s.Bytes)
		}
		return err
	})
	if err == nil && n != 2 {
		err = s.Errorf("%d symbols", n)
	}
	return left, right, err
}

// textPair reads "a b" in the same way.
func textPair(s *jsonscan.Scanner, left, right []byte) ([]byte, []byte, error) {
	t, err := s.Str()
	if err != nil {
		return left, right, err
	}
	left = t.Append(left[:0], s.Bytes)
	l, r, ok := bytes.Cut(left, []byte(" "))
	if !ok {
		return left, right, s.Errorf("no space")
	}
	return l, append(right[:0], r...), nil
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
	s, err := scan(data)
	if err != nil {
		return nil, err
	}
	count, length := 0, 0
	entryOf := func() (key jsonscan.Text, id int64, err error) {
		if key, err = s.Key(); err != nil {
			return key, 0, err
		}
		if id, err = s.Uint(); err != nil || id >= MaxVocabulary {
			err = fmt.Errorf("token %q: its id is out of range: a whole number from 0 to %d", short(string(key.Raw(data)[:min(key.Len, 100)])), MaxVocabulary-1)
		}
		return key, id, err
	}
	if err := s.List('{', '}', func() error {
		key, _, err := entryOf()
		count++
		length += key.Len + 2 + key.Len/128 // at least what the token and its length take
		return err
	}); err != nil {
		return nil, err
	}
	if err := s.End(); err != nil {
		return nil, err
	}
	v := &vocabulary{text: make([]byte, 0, length), entries: make([]entry, 0, count)}
	var token []byte
	s.Pos = 0
	_ = s.List('{', '}', func() error { // read once already
		key, id, err := entryOf()
		token = key.Append(token[:0], data)
		v.entries = append(v.entries, entry{uint32(len(v.text)), int32(id)})
		v.text = append(binary.AppendUvarint(v.text, uint64(len(token))), token...)
		return err
	})
	slices.SortFunc(v.entries, func(a, b entry) int { return cmp.Or(bytes.Compare(v.token(a), v.token(b)), cmp.Compare(b.at, a.at)) })
	v.entries = slices.CompactFunc(v.entries, func(a, b entry) bool { return bytes.Equal(v.token(a), v.token(b)) })
	return v, nil
}

// scan begins to read a file.
func scan(data []byte) (*jsonscan.Scanner, error) {
	switch {
	case len(data) > MaxModel:
		return nil, fmt.Errorf("%d bytes, at most %d are allowed", len(data), MaxModel)
	case !utf8.Valid(data):
		return nil, errors.New("the text is not valid UTF-8")
	}
	return &jsonscan.Scanner{Bytes: data}, nil
}

// members calls f for each member of an object with its name as it is written; f reads the value.
func members(s *jsonscan.Scanner, f func(key []byte) error) error {
	return s.List('{', '}', func() error {
		key, err := s.Key()
		if err != nil {
			return err
		}
		return f(key.Raw(s.Bytes))
	})
}
