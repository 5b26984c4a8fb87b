package tokenizer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// The marks of CLIP's vocabulary.
const (
	wordEnd   = "</w>" // ends the last symbol of a word
	clipBegin = "<|startoftext|>"
	clipEnd   = "<|endoftext|>"
)

// MaxVocabulary is the most tokens a BPE vocabulary may have; CLIP's has 49,408.
const MaxVocabulary = 1 << 22

// BPE is CLIP's tokenizer: byte-level byte-pair encoding with marked ends of words. It is immutable and may be used by several goroutines at
// a time. It gives the ids of transformers' CLIPTokenizer (NFC, white space collapsed, lower case; the texts of the begin and end tokens stand
// for these tokens).
//
// Source: transformers models/clip/tokenization_clip.py; huggingface/tokenizers models/bpe, pre_tokenizers/byte_level.rs.
type BPE struct {
	symbols    [256]symbol    // of a byte
	merges     map[pair]merge // rank and result of merging two neighbours
	begin, end int32
	size       int
}

// symbol is a byte inside of a word and at its end.
type symbol struct{ inner, last int32 }

type pair struct{ left, right int32 }

type merge struct{ rank, id int32 }

// NewBPE builds a tokenizer from the content of vocab.json and merges.txt. Errors say which token, or which line, is at fault.
func NewBPE(vocab, merges []byte) (*BPE, error) {
	ids, err := parseVocabulary(vocab)
	if err != nil {
		return nil, fmt.Errorf("vocab.json: %w", err)
	}
	var rules [][2]string
	lines := bufio.NewScanner(bytes.NewReader(merges))
	lines.Buffer(nil, MaxModel)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if strings.HasPrefix(line, "#version") || line == "" {
			continue
		}
		left, right, ok := strings.Cut(line, " ")
		if !ok || left == "" || right == "" || strings.Contains(right, " ") {
			return nil, fmt.Errorf("merges.txt: line %d: %q is not two symbols with a space between", n, short(line))
		}
		rules = append(rules, [2]string{left, right})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("merges.txt: %w", err)
	}
	b, err := newBPE(ids, rules)
	if err != nil {
		return nil, fmt.Errorf("vocab.json and merges.txt: %w", err)
	}
	if len(rules) == 0 {
		return nil, errors.New("merges.txt: it has no merges: the file is empty or cut short")
	}
	return b, nil
}

// NewBPEFromJSON builds a tokenizer from the content of tokenizer.json.
func NewBPEFromJSON(data []byte) (*BPE, error) {
	if len(data) > MaxModel {
		return nil, fmt.Errorf("tokenizer.json: %d bytes, at most %d are allowed", len(data), MaxModel)
	}
	var file struct {
		Model struct {
			Type   string            `json:"type"`
			Suffix string            `json:"end_of_word_suffix"`
			Vocab  json.RawMessage   `json:"vocab"`
			Merges []json.RawMessage `json:"merges"`
		} `json:"model"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	if m := file.Model; m.Type != "BPE" || m.Suffix != wordEnd {
		return nil, fmt.Errorf("tokenizer.json: key \"model\": type %q with end_of_word_suffix %q is not supported: CLIP's BPE has %q", m.Type, m.Suffix, wordEnd)
	}
	ids, err := parseVocabulary(file.Model.Vocab)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: key \"model.vocab\": %w", err)
	}
	rules := make([][2]string, len(file.Model.Merges))
	for i, raw := range file.Model.Merges {
		if rules[i], err = parseMerge(raw); err != nil {
			return nil, fmt.Errorf("tokenizer.json: key \"model.merges\": rule %d: %w", i, err)
		}
	}
	b, err := newBPE(ids, rules)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	return b, nil
}

// parseMerge reads ["a","b"], or "a b" as older files have it.
func parseMerge(raw json.RawMessage) (rule [2]string, err error) {
	var both []string
	var text string
	if json.Unmarshal(raw, &both) == nil && len(both) == 2 {
		return [2]string(both), nil
	}
	if json.Unmarshal(raw, &text) == nil {
		if left, right, ok := strings.Cut(text, " "); ok {
			return [2]string{left, right}, nil
		}
	}
	return rule, fmt.Errorf("%.80s is not two symbols", raw)
}

func short(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "..."
	}
	return s
}

func parseVocabulary(data []byte) (map[string]int32, error) {
	if len(data) > MaxModel {
		return nil, fmt.Errorf("%d bytes, at most %d are allowed", len(data), MaxModel)
	}
	var ids map[string]int32
	if err := json.Unmarshal(data, &ids); err != nil {
		return nil, err
	}
	for token, id := range ids {
		if id < 0 || id >= MaxVocabulary {
			return nil, fmt.Errorf("token %q: id %d is out of range: 0 to %d", short(token), id, MaxVocabulary-1)
		}
	}
	return ids, nil
}

func newBPE(ids map[string]int32, rules [][2]string) (*BPE, error) {
	b := &BPE{merges: make(map[pair]merge, len(rules))}
	find := func(token string) (int32, error) {
		id, ok := ids[token]
		if !ok {
			return 0, fmt.Errorf("the vocabulary lacks %q", short(token))
		}
		b.size = max(b.size, int(id)+1)
		return id, nil
	}
	var err error
	if b.begin, err = find(clipBegin); err != nil {
		return nil, err
	}
	if b.end, err = find(clipEnd); err != nil {
		return nil, err
	}
	// A symbol that the vocabulary lacks is the unknown token, which is CLIP's end token.
	orEnd := func(token string) int32 {
		if id, err := find(token); err == nil {
			return id
		}
		return b.end
	}
	for c, text := range byteSymbols() {
		b.symbols[c] = symbol{inner: orEnd(text), last: orEnd(text + wordEnd)}
	}
	for rank, r := range rules {
		var p pair
		var m merge
		for _, f := range []struct {
			id    *int32
			token string
		}{{&p.left, r[0]}, {&p.right, r[1]}, {&m.id, r[0] + r[1]}} {
			if *f.id, err = find(f.token); err != nil {
				return nil, fmt.Errorf("merge %d, %q with %q: %w", rank, short(r[0]), short(r[1]), err)
			}
		}
		m.rank = int32(rank)
		b.merges[p] = m
	}
	return b, nil
}

// byteSymbols are GPT-2's characters for the 256 bytes: printable ones stand for themselves, the others, in order, for U+0100 onwards.
func byteSymbols() (text [256]string) {
	next := rune(256)
	for c := range text {
		r := rune(c)
		if !(r >= '!' && r <= '~' || r >= 0xA1 && r <= 0xAC || r >= 0xAE) {
			r, next = next, next+1
		}
		text[c] = string(r)
	}
	return text
}

// VocabSize is one more than the largest id.
func (b *BPE) VocabSize() int { return b.size }

// Encode returns the ids of a text, without begin and end.
func (b *BPE) Encode(text string) []int32 {
	var ids []int32
	text = strings.ToValidUTF8(text, "\uFFFD")
	for text != "" {
		at, token, id := len(text), "", int32(0)
		for _, special := range []struct {
			text string
			id   int32
		}{{clipBegin, b.begin}, {clipEnd, b.end}} {
			if i := strings.Index(text[:at], special.text); i >= 0 {
				at, token, id = i, special.text, special.id
			}
		}
		for _, word := range words(lower(text[:at])) {
			ids = b.word(ids, word)
		}
		if token != "" {
			ids = append(ids, id)
		}
		text = text[at+len(token):]
	}
	return ids
}

// EncodeCLIP returns begin, at most limit-2 ids of the text, and end.
func (b *BPE) EncodeCLIP(text string, limit int) ([]int32, error) {
	if limit < 2 {
		return nil, fmt.Errorf("a limit of %d tokens leaves no room for begin and end", limit)
	}
	ids := b.Encode(text)
	return append(append([]int32{b.begin}, ids[:min(len(ids), limit-2)]...), b.end), nil
}

// lower is NFC and lower case, character by character.
func lower(text string) string {
	var s strings.Builder
	for _, r := range norm.NFC.String(text) {
		if r == 'İ' { // the one character whose lower case has two, whatever the language
			s.WriteString("i\u0307")
		} else {
			s.WriteRune(unicode.ToLower(r))
		}
	}
	return s.String()
}

var contractions = []string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}

// words splits lower-case text as CLIP does: contractions, runs of letters, single digits, runs of other characters; white space ends a run. The
// texts of begin and end, which are there only if they were not in lower case, end a run as well.
func words(text string) []string {
	var list []string
	for text != "" {
		n := 0
		for _, c := range contractions {
			if strings.HasPrefix(text, c) {
				n = len(c)
				break
			}
		}
		switch {
		case n > 0:
		case strings.HasPrefix(text, clipBegin), strings.HasPrefix(text, clipEnd):
			end := strings.Index(text, "|>")
			list = append(list, text[:2], text[2:end])
			text, n = text[end:], 2
		default:
			n = run(text)
		}
		if n > 0 {
			list = append(list, text[:n])
			text = text[n:]
		} else {
			_, n = utf8.DecodeRuneInString(text)
			text = text[n:] // white space
		}
	}
	return list
}

// run is the length of the letters, the digit or the other characters that text begins with; 0 at white space.
func run(text string) int {
	first, n := utf8.DecodeRuneInString(text)
	kind := kindOf(first)
	switch kind {
	case blank:
		return 0
	case digit:
		return n
	}
	for i, r := range text {
		if kindOf(r) != kind {
			return i
		}
	}
	return len(text)
}

type kind uint8

const (
	blank kind = iota
	letter
	digit
	other
)

// kindOf follows Go's tables, which are those of Unicode 15: of what came later only the ideographs of extension I count as letters, as they do
// in the tables of the tokenizers library.
func kindOf(r rune) kind {
	switch {
	case unicode.IsSpace(r):
		return blank
	case unicode.IsLetter(r), r >= 0x2EBF0 && r <= 0x2EE5D:
		return letter
	case unicode.IsNumber(r):
		return digit
	}
	return other
}

// word appends the ids of one word: bytes, then always the merge of lowest rank, the leftmost of several.
func (b *BPE) word(ids []int32, word string) []int32 {
	q := newMergeQueue(b, word)
	q.run()
	for i := int32(0); i >= 0; i = q.nodes[i].next {
		ids = append(ids, q.nodes[i].id)
	}
	return ids
}
