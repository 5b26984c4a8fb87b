package mini

import (
	"encoding/json"
	"image/png"
	"io/fs"
	"os"
	"testing"
)

// TestPythonAgrees compares renderer and grammar with train/scenes.py; train/golden.py writes the files.
func TestPythonAgrees(t *testing.T) {
	text, err := os.ReadFile("testdata/renders.json")
	if err != nil {
		t.Fatal(err)
	}
	var entries []struct {
		Scene    [8]int
		Objects  [][5]float64
		Captions []string
	}
	if err := json.Unmarshal(text, &entries); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open("testdata/renders.png")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	sheet, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 24 {
		t.Fatalf("%d entries", len(entries))
	}
	for i, e := range entries {
		n := e.Scene
		want := Scene{Layout: Layout(n[0]), Background: Background(n[1]), A: Object{Size(n[4]), Colour(n[3]), Shape(n[2])}}
		if want.Layout != Single {
			want.B = Object{Size(n[7]), Colour(n[6]), Shape(n[5])}
		}
		for _, c := range e.Captions {
			if got, err := ParseScene(c); err != nil || got != want {
				t.Errorf("%q: %+v, %v; want %+v", c, got, err, want)
			}
		}
		var placed []Placed
		for _, o := range e.Objects {
			placed = append(placed, Placed{Object{Shape: Shape(o[0]), Colour: Colour(o[1])}, o[2], o[3], o[4]})
		}
		img := Draw(want.Background, placed)
		worst := 0
		for y := range PictureSize {
			for x := range PictureSize {
				r, g, b, _ := sheet.At(i%6*PictureSize+x, i/6*PictureSize+y).RGBA()
				p := img.Pix[img.PixOffset(x, y):]
				for k, v := range [3]uint32{r, g, b} {
					worst = max(worst, int(p[k])-int(v>>8), int(v>>8)-int(p[k]))
				}
			}
		}
		if worst > 1 { // one level: the two languages' square roots may differ in the last bit
			t.Errorf("picture %d differs by %d levels", i, worst)
		}
		if r, err := ScoreScene(img, want); err != nil || !r.Strict {
			t.Errorf("picture %d: %+v, %v", i, r, err)
		}
	}
}

func TestSnapshotIsComplete(t *testing.T) {
	snapshot := PixArt()
	for _, name := range []string{
		"model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json", "text_encoder/model.safetensors",
		"tokenizer/spiece.model", "tokenizer/tokenizer_config.json", "transformer/config.json",
		"transformer/diffusion_pytorch_model.safetensors", "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
	} {
		info, err := fs.Stat(snapshot, name)
		if err != nil {
			t.Error(err)
		} else if info.Size() == 0 {
			t.Errorf("%s is empty", name)
		}
	}
}
