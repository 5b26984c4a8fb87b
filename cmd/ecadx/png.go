package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"unicode/utf8"
)

// textChunk is a remark inside a PNG file: a keyword of 1 to 79 Latin-1 characters and any text.
type textChunk struct{ key, text string }

// pngSignature and IHDR take the first 33 bytes of every PNG file; chunks of text go behind them.
const afterHeader = 8 + 12 + 13

// encodePNG makes a PNG file with text chunks: tEXt for printable ASCII, iTXt (UTF-8) for anything else. Source: PNG specification, 11.3.4.
func encodePNG(picture image.Image, text []textChunk) ([]byte, error) {
	var buf bytes.Buffer
	if err := png.Encode(&buf, picture); err != nil {
		return nil, err
	}
	plain := buf.Bytes()
	out := append(make([]byte, 0, len(plain)+1024), plain[:afterHeader]...)
	for _, t := range text {
		if len(t.key) < 1 || len(t.key) > 79 || !isPrintable(t.key) {
			return nil, fmt.Errorf("png: keyword %q: use 1 to 79 printable characters", t.key)
		}
		if isPrintable(t.text) {
			out = appendChunk(out, "tEXt", []byte(t.key+"\x00"+t.text))
		} else {
			// Keyword, no compression, method 0, no language, no translated keyword.
			out = appendChunk(out, "iTXt", []byte(t.key+"\x00\x00\x00\x00\x00"+t.text))
		}
	}
	return append(out, plain[afterHeader:]...), nil
}

// pngTexts reads the text chunks of a PNG file that are not compressed, by keyword; of several with one keyword the first counts. What is no
// PNG file has none.
func pngTexts(data []byte) map[string]string {
	out := map[string]string{}
	if len(data) < afterHeader || string(data[1:4]) != "PNG" {
		return out
	}
	for rest := data[8:]; len(rest) >= 12; {
		n := int64(binary.BigEndian.Uint32(rest))
		if n > int64(len(rest)-12) {
			return out
		}
		kind, body := string(rest[4:8]), rest[8:8+n]
		rest = rest[12+n:]
		key, text, ok := bytes.Cut(body, []byte{0})
		switch {
		case !ok:
			continue
		case kind == "iTXt": // compression, method, language, translated keyword
			if len(text) < 2 || text[0] != 0 {
				continue
			}
			_, text, _ = bytes.Cut(text[2:], []byte{0})
			if _, text, ok = bytes.Cut(text, []byte{0}); !ok || !utf8.Valid(text) {
				continue
			}
		case kind != "tEXt":
			continue
		}
		if _, known := out[string(key)]; !known {
			out[string(key)] = string(text)
		}
	}
	return out
}

func appendChunk(out []byte, kind string, data []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(data)))
	start := len(out)
	out = append(append(out, kind...), data...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[start:]))
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
