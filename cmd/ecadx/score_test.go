package main

import (
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ecadx/bench"
	"ecadx/dit/mini"
)

// scoreReport is what score --json prints.
type scoreReport struct {
	Pictures []scored
	Means    map[string]*meanScore
}

// writeScene writes a picture of a scene with a caption into a file.
func writeScene(t *testing.T, path, caption, says string) *image.NRGBA {
	t.Helper()
	scene, err := mini.ParseScene(caption)
	if err != nil {
		t.Fatal(err)
	}
	m := mini.Draw(scene.Background, scene.Place(rand.New(rand.NewPCG(1, 2))))
	var texts []textChunk
	if says != "" {
		texts = []textChunk{{"prompt", says}}
	}
	data, err := encodePNG(m, texts)
	if err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, path, string(data))
	out, _, err := readPicture(path)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestScore judges pictures that were not made by a model: right and wrong ones, with and without a prompt, beside references.
func TestScore(t *testing.T) {
	dir := t.TempDir()
	const red, blue = "a large red circle on a white background", "a large blue circle on a white background"
	in := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	a := writeScene(t, in("p/a.png"), red, red)
	b := writeScene(t, in("p/b.png"), red, blue)
	writeScene(t, in("p/c.png"), red, "")
	writeScene(t, in("r/a.png"), red, red)
	ref := writeScene(t, in("r/b.png"), blue, blue)
	writeScene(t, in("r/c.png"), blue, "")
	writeTestFile(t, in("p/notes.txt"), "x")

	r := succeedJSON[scoreReport](t, dir, "score", "p")
	if len(r.Pictures) != 3 || r.Pictures[0].PSNR != nil || r.Pictures[2].Scene != nil || r.Means["psnr"] != nil || r.Means["scene"].Pictures != 2 {
		t.Fatalf("%+v", r)
	}
	for i, m := range []*image.NRGBA{a, b} {
		want, err := mini.Score(m, r.Pictures[i].Prompt)
		if err != nil || *r.Pictures[i].Scene != want.Smooth || *r.Pictures[i].Right != want.Strict {
			t.Errorf("picture %d: %+v, want %+v, %v", i, r.Pictures[i], want, err)
		}
	}
	if *r.Pictures[1].Right || !(*r.Pictures[0].Scene > *r.Pictures[1].Scene) {
		t.Errorf("red is as blue as it is red: %+v", r.Pictures)
	}
	r = succeedJSON[scoreReport](t, dir, "score", "p", "--reference", "r")
	psnr, _ := bench.PSNR(b, ref)
	ssim, _ := bench.SSIM(b, ref)
	if *r.Pictures[0].PSNR != bench.MaxPSNR || *r.Pictures[1].PSNR != psnr || *r.Pictures[1].SSIM != ssim || r.Means["ssim"].Pictures != 3 || r.Means["psnr"].CI95[0] > r.Means["psnr"].Mean {
		t.Errorf("%+v, %+v", r.Pictures, r.Means["psnr"])
	}
	if out := succeed(t, dir, "score", "p", "--reference", "r"); !strings.Contains(out, "mean psnr") || !strings.Contains(out, "100.00") {
		t.Error(out)
	}
	// What generate --compare puts beside a picture is its reference, and no picture to be scored.
	writeScene(t, in("g/x.png"), red, red)
	writeScene(t, in("g/x.uncached.png"), blue, red)
	writeScene(t, in("g/x.compare.png"), blue, "")
	if r = succeedJSON[scoreReport](t, dir, "score", "g"); len(r.Pictures) != 1 || *r.Pictures[0].PSNR != psnr {
		t.Errorf("%+v", r)
	}
	refuseScores(t, dir)
}

func refuseScores(t *testing.T, dir string) {
	t.Helper()
	var small bytes.Buffer
	if err := png.Encode(&small, image.NewNRGBA(image.Rect(0, 0, 8, 4))); err != nil {
		t.Fatal(err)
	}
	whole := readTestFile(t, filepath.Join(dir, "p", "a.png"))
	writeTestFile(t, filepath.Join(dir, "cut", "a.png"), string(whole[:len(whole)/2]))
	writeTestFile(t, filepath.Join(dir, "small", "a.png"), small.String())
	huge := bytes.Clone(whole)
	copy(huge[16:], "\x00\x10\x00\x00\x00\x10\x00\x00") // a million pixels each way
	writeTestFile(t, filepath.Join(dir, "huge", "a.png"), string(huge))
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code exitCode
		want string
		args []string
	}{
		{exitBadInput, "no pictures", []string{"empty"}},
		{exitBadInput, "nosuch", []string{"nosuch"}},
		{exitBadInput, "a.png", []string{"cut"}},
		{exitBadInput, "a.png", []string{"huge"}},
		{exitBadInput, "notes.txt", []string{"p/notes.txt"}},
		{exitBadInput, "sizes must be equal", []string{"small", "--reference", "r"}},
		{exitBadInput, "a.png", []string{"p", "--reference", "empty"}},
		{exitUsage, "an argument is missing", nil},
	} {
		refuse(t, dir, c.code, c.want, append([]string{"score"}, c.args...)...)
	}
}

// FuzzPNGTexts: any bytes are read without a crash, and texts that were written come back.
func FuzzPNGTexts(f *testing.F) {
	m := image.NewNRGBA(image.Rect(0, 0, 2, 2))
	m.SetNRGBA(1, 1, color.NRGBA{1, 2, 3, 255})
	good, err := encodePNG(m, []textChunk{{"prompt", "a ring"}, {"note", "Grüße"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:40])
	if got, _ := json.Marshal(pngTexts(good)); string(got) != `{"note":"Grüße","prompt":"a ring"}` {
		f.Errorf("%s", got)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		total := 0
		for k, v := range pngTexts(data) {
			total += len(k) + len(v)
		}
		if total > len(data) {
			t.Errorf("%d bytes of text in a file of %d", total, len(data))
		}
	})
}
