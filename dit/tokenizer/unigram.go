package tokenizer

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"
)

// MaxModel is the largest model that New accepts, in bytes. T5's has 792 KB, a vocabulary of 256,000 pieces about 4 MB.
const MaxModel = 64 << 20

// unknownPenalty is how far an unknown character scores below the worst piece.
const unknownPenalty = 10

// Unigram is a sentencepiece unigram model. It is immutable and may be used by several goroutines at a time. It keeps the
// bytes it was made from.
type Unigram struct {
	model    []byte
	pieces   []piece
	sorted   []int32     // normal, user-defined and unused pieces by their text
	first    [257]int32  // first[c] is where pieces that begin with byte c start in sorted
	bytes    *[256]int32 // ids of the byte pieces, nil without byte fallback
	norm     normalizer  //
	denorm   *normalizer // applied to decoded text, nil for none
	unk, eos int32       // eos is -1 without one
	unkText  string      // what an unknown decodes to
	minScore float32     // of the normal pieces
}

// New builds a tokenizer from the content of a spiece.model, which must not change afterwards. Errors say which piece or
// field is at fault.
func New(model []byte) (*Unigram, error) {
	u := &Unigram{model: model, unk: -1, eos: -1, minScore: math.MaxFloat32, unkText: " \u2047 "}
	if err := u.load(); err != nil {
		return nil, fmt.Errorf("sentencepiece model: %w", err)
	}
	return u, nil
}

func (u *Unigram) load() error {
	if len(u.model) > MaxModel {
		return fmt.Errorf("%d bytes, at most %d are allowed", len(u.model), MaxModel)
	}
	s, err := parseSpec(u.model)
	if err != nil {
		return err
	}
	if s.modelType != 1 {
		return fmt.Errorf("trainer_spec.model_type is %d, only 1 (unigram) is supported", s.modelType)
	}
	const each = 16 // bytes of a piece here: 12, and 4 in sorted
	if s.pieces == 0 || s.pieces*each > len(u.model)+1<<20 {
		return fmt.Errorf("%d pieces in %d bytes: not a vocabulary", s.pieces, len(u.model))
	}
	if u.pieces, err = parsePieces(u.model, make([]piece, 0, s.pieces)); err != nil {
		return err
	}
	if err := u.index(); err != nil {
		return err
	}
	if err := u.reserve(s); err != nil {
		return err
	}
	if s.unkSurface != nil {
		u.unkText = string(s.unkSurface)
	}
	table, err := newCharsmap(s.norm.charsmap)
	if err != nil {
		return fmt.Errorf("normalizer_spec: %w", err)
	}
	u.norm = normalizer{normSpec: s.norm, table: table, suffix: s.suffix}
	if slices.ContainsFunc(u.pieces, func(p piece) bool { return p.typ == userDefined }) {
		u.norm.symbol = u.symbol
	}
	if len(s.denorm.charsmap) > 0 {
		table, err := newCharsmap(s.denorm.charsmap)
		if err != nil {
			return fmt.Errorf("denormalizer_spec: %w", err)
		}
		u.denorm = &normalizer{normSpec: s.denorm, table: table}
	}
	return nil
}

// text returns the text of a piece.
func (u *Unigram) text(p piece) []byte { return u.model[p.off : p.off+uint32(p.len)] }

// index sorts the pieces that text can match and finds the range of their scores.
func (u *Unigram) index() error {
	u.sorted = make([]int32, 0, len(u.pieces))
	for i, p := range u.pieces {
		if bytes.IndexByte(u.text(p), 0) >= 0 {
			return fmt.Errorf("piece %d: its text holds a NUL byte", i)
		}
		switch p.typ {
		case normal:
			u.minScore = min(u.minScore, p.score)
			fallthrough
		case userDefined, unused:
			u.sorted = append(u.sorted, int32(i))
		}
	}
	if len(u.sorted) == 0 {
		return errors.New("no piece can match text")
	}
	slices.SortFunc(u.sorted, func(a, b int32) int { return bytes.Compare(u.text(u.pieces[a]), u.text(u.pieces[b])) })
	for i := 1; i < len(u.sorted); i++ {
		if t := u.text(u.pieces[u.sorted[i]]); bytes.Equal(t, u.text(u.pieces[u.sorted[i-1]])) {
			return fmt.Errorf("piece %q is defined twice", t)
		}
	}
	for c := range u.first {
		u.first[c] = int32(sort.Search(len(u.sorted), func(i int) bool { return int(u.text(u.pieces[u.sorted[i]])[0]) >= c }))
	}
	return nil
}

// reserve finds the unknown, end-of-sequence and byte pieces, which text does not match.
func (u *Unigram) reserve(s spec) error {
	eos := "</s>"
	if len(s.eosPiece) > 0 {
		eos = string(s.eosPiece)
	}
	var ids [256]int32
	found := 0
	for i, p := range u.pieces {
		switch t := u.text(p); p.typ {
		case unknown:
			if u.unk >= 0 {
				return fmt.Errorf("pieces %d and %d are both the unknown piece", u.unk, i)
			}
			u.unk = int32(i)
		case control:
			if string(t) == eos {
				if u.eos >= 0 {
					return fmt.Errorf("piece %q is defined twice", t)
				}
				u.eos = int32(i)
			}
		case bytePiece:
			c, ok := byteOf(t)
			if !ok || !s.byteFallback || ids[c] != 0 {
				return fmt.Errorf("piece %d: %q is not a byte piece, is there twice, or byte_fallback is false", i, t)
			}
			ids[c] = int32(i) + 1
			found++
		}
	}
	if u.unk < 0 {
		return errors.New("there is no unknown piece")
	}
	if s.byteFallback {
		if found != 256 {
			return fmt.Errorf("byte_fallback needs 256 byte pieces, there are %d", found)
		}
		for c := range ids {
			ids[c]--
		}
		u.bytes = &ids
	}
	return nil
}

// byteOf reads the text of a byte piece, such as <0x0A>.
func byteOf(t []byte) (byte, bool) {
	const digits = "0123456789ABCDEF"
	if len(t) != 6 || string(t[:3]) != "<0x" || t[5] != '>' {
		return 0, false
	}
	hi, lo := strings.IndexByte(digits, t[3]), strings.IndexByte(digits, t[4])
	return byte(hi<<4 | lo), hi >= 0 && lo >= 0
}

// walk calls found for each piece that starts text, shortest first.
func walk[T string | []byte](u *Unigram, text T, found func(id int32, length int)) {
	if len(text) == 0 {
		return
	}
	lo, hi := u.first[text[0]], u.first[int(text[0])+1]
	for n := 1; lo < hi; n++ {
		// All of sorted[lo:hi] start with text[:n]; the one of exactly that length comes first.
		if id := u.sorted[lo]; int(u.pieces[id].len) == n {
			found(id, n)
			lo++
		}
		if n == len(text) || lo == hi {
			return
		}
		c := text[n]
		at := func(i int) byte { return u.text(u.pieces[u.sorted[int(lo)+i]])[n] }
		size := int(hi - lo)
		if at(0) == c && at(size-1) == c {
			continue
		}
		from := sort.Search(size, func(i int) bool { return at(i) >= c })
		to := from + sort.Search(size-from, func(i int) bool { return at(from+i) > c })
		lo, hi = lo+int32(from), lo+int32(to)
	}
}

// symbol returns the length of the longest user-defined symbol that starts text.
func (u *Unigram) symbol(text string) (longest int) {
	walk(u, text, func(id int32, n int) {
		if u.pieces[id].typ == userDefined {
			longest = n
		}
	})
	return longest
}

// VocabSize returns the number of pieces. T5 adds <extra_id_*> tokens behind them, which no text encodes to.
func (u *Unigram) VocabSize() int { return len(u.pieces) }

// EOS returns the id of the end-of-sequence token; ok is false when the model has none.
func (u *Unigram) EOS() (id int32, ok bool) { return u.eos, u.eos >= 0 }

// Unknown returns the id of the unknown token.
func (u *Unigram) Unknown() int32 { return u.unk }

// Piece returns the text of a token, "" for an id outside the vocabulary.
func (u *Unigram) Piece(id int32) string {
	if id < 0 || int(id) >= len(u.pieces) {
		return ""
	}
	return string(u.text(u.pieces[id]))
}

// Normalize returns text as the pieces see it, spaces as U+2581.
func (u *Unigram) Normalize(text string) string { return string(u.norm.normalize(text)) }

// Encode returns the ids of text, without an end-of-sequence token. Bytes that are not UTF-8 count as U+FFFD. Empty and blank
// text has no ids.
func (u *Unigram) Encode(text string) []int32 {
	b := u.norm.normalize(text)
	var ids []int32
	lastUnknown := false
	for _, t := range u.viterbi(b) {
		isUnknown := t.id == u.unk
		switch {
		case isUnknown && u.bytes != nil:
			for _, c := range b[t.start:t.end] {
				ids = append(ids, u.bytes[c])
			}
		case isUnknown && lastUnknown: // one id for a run of unknowns
		default:
			ids = append(ids, t.id)
		}
		lastUnknown = isUnknown
	}
	return ids
}

// EncodeT5 returns the ids of text as T5 is given them: at most maxTokens in all, the last one always end-of-sequence.
// Padding is the caller's. maxTokens below 1 and a model without end-of-sequence token are errors.
func (u *Unigram) EncodeT5(text string, maxTokens int) ([]int32, error) {
	if u.eos < 0 {
		return nil, errors.New("the sentencepiece model has no end-of-sequence token </s>: it is not T5's")
	}
	if maxTokens < 1 {
		return nil, fmt.Errorf("at most %d tokens: give at least 1, for the end-of-sequence token", maxTokens)
	}
	ids := u.Encode(text)
	return append(ids[:min(len(ids), maxTokens-1)], u.eos), nil
}

// token is one piece of the best segmentation: bytes [start, end) of the normalised text.
type token struct {
	start, end int
	id         int32
}

// viterbi returns the segmentation of b with the largest sum of scores; the first found wins a tie. Sums are float32, as in
// the library, and positions between UTF-8 characters are no starts. A user-defined symbol of n bytes scores (n-1)/10, as
// measured with release 0.2.3; older releases used the best normal score instead.
func (u *Unigram) viterbi(b []byte) []token {
	type node struct {
		score float32
		start int32 // -1: not reached
		id    int32
	}
	best := make([]node, len(b)+1)
	for i := range best {
		best[i].start = -1
	}
	unkScore := u.minScore - unknownPenalty
	for at := 0; at < len(b); {
		here := best[at].score
		size := min(charLen(b[at]), len(b)-at)
		single := false
		offer := func(end int, score float32, id int32) {
			if n := &best[end]; n.start < 0 || score > n.score {
				*n = node{score, int32(at), id}
			}
		}
		walk(u, b[at:], func(id int32, n int) {
			p := u.pieces[id]
			if p.typ == unused {
				return
			}
			score := p.score
			if p.typ == userDefined {
				score = float32(float64(n-1) * 0.1)
			}
			offer(at+n, score+here, id)
			single = single || n == size
		})
		if !single {
			offer(at+size, unkScore+here, u.unk)
		}
		at += size
	}
	var tokens []token
	for end := len(b); end > 0; {
		n := best[end]
		tokens = append(tokens, token{int(n.start), end, n.id})
		end = int(n.start)
	}
	slices.Reverse(tokens)
	return tokens
}

// charLen is the length of a UTF-8 character by its first byte alone.
func charLen(c byte) int {
	switch {
	case c < 0xc0:
		return 1
	case c < 0xe0:
		return 2
	case c < 0xf0:
		return 3
	}
	return 4
}

// Decode returns the text of ids: control tokens vanish, an unknown becomes " \u2047 " (or what the model says), bytes that are
// not UTF-8 become U+FFFD. An id outside the vocabulary is an error that gives its position.
func (u *Unigram) Decode(ids []int32) (string, error) {
	var b strings.Builder
	var raw []byte // a run of byte pieces
	flush := func() {
		for len(raw) > 0 {
			r, n := utf8.DecodeRune(raw)
			b.WriteRune(r)
			raw = raw[n:]
		}
	}
	atStart, sawSpace := true, false // whether a leading space is still dropped
	for i, id := range ids {
		if id < 0 || int(id) >= len(u.pieces) {
			return "", fmt.Errorf("token %d: id %d is outside the vocabulary 0 to %d", i, id, len(u.pieces)-1)
		}
		p := u.pieces[id]
		if p.typ == bytePiece {
			c, _ := byteOf(u.text(p))
			raw = append(raw, c)
			continue
		}
		flush()
		if sawSpace || b.Len() > 0 {
			atStart = false
		}
		sawSpace = false
		switch p.typ {
		case control:
		case unknown:
			b.WriteString(u.unkText)
		default:
			t := string(u.text(p))
			if atStart && (u.norm.dummyPrefix || u.norm.removeExtraSpaces) {
				t, sawSpace = strings.CutPrefix(t, space)
				sawSpace = sawSpace && !u.norm.removeExtraSpaces // then all leading spaces go
			}
			b.WriteString(strings.ReplaceAll(t, space, " "))
		}
	}
	flush()
	if u.denorm != nil {
		return string(u.denorm.normalize(b.String())), nil
	}
	return b.String(), nil
}
