package tokenizer

import (
	"bytes"
	"unicode/utf8"
)

// space is what stands for a space in pieces: U+2581, LOWER ONE EIGHTH BLOCK.
const space = "▁"

// normalizer turns text into the form the pieces are written in.
type normalizer struct {
	normSpec
	table  charsmap
	suffix bool                  // the dummy white space goes to the end
	symbol func(text string) int // length of the user-defined symbol at the start of text, 0 for none; nil for never
}

// prefix normalises the first character, rule or symbol of text and returns how many bytes it covers.
func (z *normalizer) prefix(text string) (out []byte, n int) {
	if z.symbol != nil {
		if n := z.symbol(text); n > 0 {
			return []byte(text[:n]), n
		}
	}
	if out, n := z.table.lookup(text); n > 0 {
		return out, n
	}
	if r, n := utf8.DecodeRuneInString(text); r != utf8.RuneError || n > 1 {
		return []byte(text[:n]), n
	}
	return []byte("\uFFFD"), 1 // a byte that is not UTF-8
}

// normalize follows Normalizer::Normalize of the library.
func (z *normalizer) normalize(text string) []byte {
	if z.removeExtraSpaces {
		for len(text) > 0 {
			out, n := z.prefix(text)
			if string(out) != " " {
				break
			}
			text = text[n:]
		}
	}
	if text == "" {
		return nil
	}
	ws := []byte(" ")
	if z.escapeWS {
		ws = []byte(space)
	}
	b := make([]byte, 0, len(text)+len(text)/4+len(space))
	if z.dummyPrefix && !z.suffix {
		b = append(b, ws...)
	}
	afterSpace := z.removeExtraSpaces
	for len(text) > 0 {
		out, n := z.prefix(text)
		text = text[n:]
		if afterSpace {
			out = bytes.TrimLeft(out, " ")
		}
		if len(out) > 0 {
			for _, c := range out {
				if c == ' ' {
					b = append(b, ws...)
				} else {
					b = append(b, c)
				}
			}
			afterSpace = out[len(out)-1] == ' '
		}
		afterSpace = afterSpace && z.removeExtraSpaces
	}
	if z.removeExtraSpaces {
		for bytes.HasSuffix(b, ws) {
			b = b[:len(b)-len(ws)]
		}
	}
	if z.dummyPrefix && z.suffix {
		b = append(b, ws...)
	}
	return b
}
