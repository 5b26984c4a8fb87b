package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
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
