package main

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"strings"
	"testing"
)

// pngText reads the text chunks of a PNG file and checks every checksum.
func pngText(t testing.TB, data []byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	for at := 8; at < len(data); {
		n := int(binary.BigEndian.Uint32(data[at:]))
		kind, body := string(data[at+4:at+8]), data[at+8:at+8+n]
		if got := binary.BigEndian.Uint32(data[at+8+n:]); got != crc32.ChecksumIEEE(data[at+4:at+8+n]) {
			t.Errorf("chunk %s has a wrong checksum", kind)
		}
		switch kind {
		case "tEXt":
			key, text, _ := strings.Cut(string(body), "\x00")
			out[key] = text
		case "iTXt":
			key, rest, _ := strings.Cut(string(body), "\x00")
			if !strings.HasPrefix(rest, "\x00\x00\x00\x00") {
				t.Errorf("iTXt %s is compressed or has a language", key)
			}
			out[key] = rest[4:]
		}
		at += 12 + n
	}
	return out
}

func TestPNGText(t *testing.T) {
	img := image.NewNRGBA(image.Rect(0, 0, 3, 2))
	img.Set(1, 1, color.NRGBA{200, 100, 50, 255})
	want := map[string]string{"prompt": "a small red ring", "note": "Grüße, 環", "empty": "", "lines": "one\ntwo"}
	var chunks []textChunk
	for k, v := range want {
		chunks = append(chunks, textChunk{k, v})
	}
	data, err := encodePNG(img, chunks)
	if err != nil {
		t.Fatal(err)
	}
	got := pngText(t, data)
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
	back, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if r, g, b, _ := back.At(1, 1).RGBA(); r>>8 != 200 || g>>8 != 100 || b>>8 != 50 {
		t.Error("the picture changed")
	}
	for _, key := range []string{"", strings.Repeat("k", 80), "tab\t"} {
		if _, err := encodePNG(img, []textChunk{{key, ""}}); err == nil {
			t.Errorf("keyword %q is accepted", key)
		}
	}
}

func TestGrid(t *testing.T) {
	tile := image.NewNRGBA(image.Rect(0, 0, 64, 64))
	for i := range tile.Pix {
		tile.Pix[i] = 255
	}
	tile.Set(63, 0, color.NRGBA{255, 0, 0, 255})
	out := grid{columns: []string{"a", "a label that is far too long for one line of text"}, rows: []string{"one"}, tiles: [][]image.Image{{tile, tile}}}.draw()
	if w := out.Rect.Dx(); w != 2*(192+tileGap)+tileGap {
		t.Errorf("the picture is %d wide", w)
	}
	red := 0
	for i := 0; i < len(out.Pix); i += 4 {
		if out.Pix[i] == 255 && out.Pix[i+1] == 0 && out.Pix[i+2] == 0 {
			red++
		}
	}
	if red != 2*3*3 {
		t.Errorf("%d red pixels, want one of each tile as 3 x 3", red)
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		want string
	}{
		{"a small red ring", 10, "a small|red ring"}, {"", 10, ""}, {"unbreakable-word-of-letters x", 10, "unbreakabl|e-word-of-|letters x"}, {"a b", 1, "a b"},
	} {
		if got := strings.Join(wrap(c.text, c.n), "|"); got != c.want {
			t.Errorf("%q in %d: %q, want %q", c.text, c.n, got, c.want)
		}
	}
}
