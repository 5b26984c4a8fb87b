package tokenizer

import (
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

// MaxVocabulary is one more than the largest id a BPE vocabulary may have; CLIP's has 49,408.
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

// rules are the merges of a file in order of rank: each calls f for every one until f or the file has an error.
type rules func(f func(left, right []byte) error) error

func newBPE(v *vocabulary, merges rules) (*BPE, error) {
	b := &BPE{}
	find := func(token []byte) (int32, error) {
		id, ok := v.id(token)
		if !ok {
			return 0, fmt.Errorf("the vocabulary lacks %q", short(string(token)))
		}
		b.size = max(b.size, int(id)+1)
		return id, nil
	}
	var err error
	if b.begin, err = find([]byte(clipBegin)); err != nil {
		return nil, err
	}
	if b.end, err = find([]byte(clipEnd)); err != nil {
		return nil, err
	}
	// A symbol that the vocabulary lacks is the unknown token, which is CLIP's end token.
	orEnd := func(token string) int32 {
		if id, err := find([]byte(token)); err == nil {
			return id
		}
		return b.end
	}
	for c, text := range byteSymbols() {
		b.symbols[c] = symbol{inner: orEnd(text), last: orEnd(text + wordEnd)}
	}
	// All merges are looked up before any is kept: files that are refused take no memory.
	rank, joined := int32(0), []byte(nil)
	each := func(keep func(pair, merge)) error {
		rank = 0
		return merges(func(left, right []byte) error {
			joined = append(append(joined[:0], left...), right...)
			var ids [3]int32
			for i, token := range [...][]byte{left, right, joined} {
				if ids[i], err = find(token); err != nil {
					return fmt.Errorf("merge %d, %q with %q: %w", rank, short(string(left)), short(string(right)), err)
				}
			}
			keep(pair{ids[0], ids[1]}, merge{rank, ids[2]})
			rank++
			return nil
		})
	}
	if err := each(func(pair, merge) {}); err != nil {
		return nil, err
	}
	if rank == 0 {
		return nil, errors.New("no merges: the file is empty or cut short")
	}
	b.merges = make(map[pair]merge, min(int(rank), len(v.entries)))
	return b, each(func(p pair, m merge) { b.merges[p] = m })
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
