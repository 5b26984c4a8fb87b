// Package caption prepares a caption for PixArt's text encoder in the way the diffusers pipelines do.
//
// The pipelines lower-case and strip every caption. Their option clean_caption would rewrite it further (addresses, markup,
// dashes, quotes, numbers), but it needs the packages beautifulsoup4 and ftfy and falls back to lower-casing and stripping
// without them; encode_prompt, which ECAD calls, leaves it off. So this package has the one form that is always there.
// FLUX takes captions as they are.
//
// Source: huggingface/diffusers 0.42.1, pipelines/pixart_alpha/pipeline_pixart_alpha.py, _text_preprocessing.
package caption

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean returns text lower-cased and without white space at both ends, as Python's text.lower().strip() does: full Unicode
// case mapping with the final form of sigma, and the separators U+001C to U+001F count as white space. Bytes that are not
// UTF-8 stay as they are.
func Clean(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	cased := false // whether the last character that is not case-ignorable is cased: a sigma may be final
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteByte(text[i])
		case r == 'Σ' && cased && !casedFollows(text[i+n:]):
			b.WriteRune('ς')
		case r == 'İ': // the only character whose lower case has two
			b.WriteString("i\u0307")
		default:
			b.WriteRune(unicode.ToLower(r))
		}
		if !ignorable(r) {
			cased = isCased(r)
		}
		i += n
	}
	return strings.TrimFunc(b.String(), isSpace)
}

// casedFollows tells whether the first character of text that is not case-ignorable is cased.
func casedFollows(text string) bool {
	for _, r := range text {
		if !ignorable(r) {
			return isCased(r)
		}
	}
	return false
}

// isCased is the Unicode property Cased.
func isCased(r rune) bool {
	return unicode.In(r, unicode.Lu, unicode.Ll, unicode.Lt, unicode.Other_Lowercase, unicode.Other_Uppercase)
}

// ignorable is the Unicode property Case_Ignorable: marks, format characters, modifiers, and the characters that join words
// (Word_Break MidLetter, MidNumLet and Single_Quote).
func ignorable(r rune) bool {
	switch r {
	case '\'', '.', ':', 0xb7, 0x387, 0x55f, 0x5f4, 0x2018, 0x2019, 0x2024, 0x2027, 0xfe13, 0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a:
		return true
	}
	return unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk)
}

// isSpace is Python's str.isspace for one character.
func isSpace(r rune) bool {
	switch {
	case r >= '\t' && r <= '\r', r >= 0x1c && r <= ' ', r >= 0x2000 && r <= 0x200a:
		return true
	}
	switch r {
	case 0x85, 0xa0, 0x1680, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000:
		return true
	}
	return false
}
