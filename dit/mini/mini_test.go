package mini

import (
	"flag"
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write heldout.txt again")

const heldOutCount = 500

func TestHeldOutCaptions(t *testing.T) {
	if *update {
		rng := rand.New(rand.NewPCG(64, 72))
		var lines []string
		for len(lines) < heldOutCount {
			c := randomScene(rng, pairs(true)).Caption(rng)
			if !slices.Contains(lines, c) {
				lines = append(lines, c)
			}
		}
		if err := os.WriteFile("heldout.txt", []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Skip("wrote heldout.txt")
	}
	list := HeldOutCaptions()
	if len(list) != heldOutCount {
		t.Fatalf("%d captions, want %d", len(list), heldOutCount)
	}
	seen := map[string]bool{}
	single := 0
	for _, c := range list {
		s, err := ParseScene(c)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range []Object{s.A, s.B} {
			if i < s.Objects() && !(Pair{o.Colour, o.Shape}).HeldOut() {
				t.Errorf("%q shows a pair that was trained on", c)
			}
		}
		if seen[c] {
			t.Errorf("%q is there twice", c)
		}
		seen[c] = true
		single += s.Objects() & 1
	}
	if share := float64(single) / heldOutCount; !(math.Abs(share-singleShare) <= 0.05) {
		t.Errorf("%.2f of the captions have one object", share)
	}
}

func TestCaptionsAreSeenPairsAndStable(t *testing.T) {
	list := Captions(300, 1)
	if !slices.Equal(list[:100], Captions(100, 1)) || slices.Equal(list[:100], Captions(100, 2)) {
		t.Error("lists do not depend on the seed alone")
	}
	for _, c := range list {
		s, err := ParseScene(c)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range []Object{s.A, s.B} {
			if i < s.Objects() && (Pair{o.Colour, o.Shape}).HeldOut() {
				t.Errorf("%q shows a held-out pair", c)
			}
		}
	}
}

func TestParseSceneReadsEveryParaphrase(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 3000 {
		s := randomScene(rng, slices.Concat(pairs(true), pairs(false)))
		c := s.Caption(rng)
		got, err := ParseScene("  " + strings.ToUpper(c) + "\n")
		if err != nil {
			t.Fatal(err)
		}
		if got != s {
			t.Fatalf("%q: got %+v, want %+v", c, got, s)
		}
	}
	got, err := ParseScene("a small red ring above a large blue square on a grey background")
	want := Scene{Stacked, Grey, Object{Small, Red, Ring}, Object{Large, Blue, Square}}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestParseSceneRejects(t *testing.T) {
	for _, c := range []struct{ caption, says string }{
		{"", "want an object"}, {"a cat", "want a size"}, {"a small mauve ring on a grey background", "want a colour"},
		{"a small red ring", "want a relation or a background"}, {"a small red ring on a grey", "want the word background"},
		{"a small red ring above on a grey background", "want an object"},
		{"a small red ring with a big blue square on a grey background", "want where"},
		{"on a grey background a small red ring", "want a comma"},
		{"a small red ring on a grey background please", "left over"},
		{strings.Repeat("a ", 100000), "want a size"},
	} {
		_, err := ParseScene(c.caption)
		if err == nil || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 1000 {
			t.Errorf("%.40q: %.300v", c.caption, err)
		}
	}
}

// scenes draws scenes of seen pairs.
func scenes(count int, seed uint64) []Scene {
	rng := rand.New(rand.NewPCG(seed, 0))
	out := make([]Scene, count)
	for i := range out {
		out[i] = randomScene(rng, slices.Concat(pairs(true), pairs(false)))
	}
	return out
}

func TestTrueRendersAreStrictlyRight(t *testing.T) {
	const count = 500
	rng := rand.New(rand.NewPCG(2, 2))
	right, foreign := 0, 0
	smooth, least := 0.0, 1.0
	list := scenes(count, 3)
	for i, s := range list {
		img := s.Render(rng)
		r, err := Score(img, s.Caption(rng))
		if err != nil {
			t.Fatal(err)
		}
		if r.Strict {
			right++
		} else {
			t.Logf("%+v: %v", s, r.Fault)
		}
		smooth += r.Smooth / count
		least = min(least, r.Smooth)
		other := list[(i+1)%count]
		if other == s {
			continue
		}
		if r, err = Score(img, other.Caption(rng)); err != nil {
			t.Fatal(err)
		} else if r.Strict {
			foreign++
		}
	}
	t.Logf("strict %.3f, with another caption %.3f, smooth %.4f, least %.4f", float64(right)/count, float64(foreign)/count, smooth, least)
	if !(right >= count*99/100) || !(foreign <= count*2/100) || !(smooth >= 0.97) {
		t.Errorf("strict %d, with another caption %d of %d; smooth %.3f", right, foreign, count, smooth)
	}
}

func TestStrictNamesTheFault(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	counts := map[string]int{}
	for _, s := range scenes(120, 5) {
		img := s.Render(rng)
		for _, c := range []struct {
			want   Fault
			change func(*Scene)
		}{
			{WrongBackground, func(s *Scene) { s.Background = (s.Background + 1) % backgroundCount }},
			{WrongShape, func(s *Scene) { s.A.Shape = (s.A.Shape + 1) % shapeCount }},
			{WrongSize, func(s *Scene) { s.A.Size ^= 1 }},
			{WrongRelation, func(s *Scene) { s.A, s.B = s.B, s.A }},
			{ExtraObject, func(s *Scene) { s.Layout, s.B = Single, Object{} }},
		} {
			told := s
			if c.change(&told); told == s || (s.Layout == Single && c.want == WrongRelation) {
				continue
			}
			r, err := ScoreScene(img, told)
			if err != nil {
				t.Fatal(err)
			}
			if r.Fault != c.want {
				counts[fmt.Sprintf("%v taken for %v", c.want, r.Fault)]++
			}
			if r.Strict {
				t.Errorf("%+v passes as %+v", s, told)
			}
			if !(r.Smooth <= 0.86) {
				t.Errorf("%+v scores %.3f as %+v", s, r.Smooth, told)
			}
		}
	}
	if len(counts) > 0 {
		t.Error(counts)
	}
}

// blur averages over a square window of the given radius, mixed with the picture itself by the fraction beyond it.
func blur(img *image.RGBA, radius int) *image.RGBA {
	out := image.NewRGBA(img.Rect)
	for y := range PictureSize {
		for x := range PictureSize {
			for k := range 4 {
				sum, n := 0, 0
				for v := max(0, y-radius); v <= min(PictureSize-1, y+radius); v++ {
					for u := max(0, x-radius); u <= min(PictureSize-1, x+radius); u++ {
						sum += int(img.Pix[img.PixOffset(u, v)+k])
						n++
					}
				}
				out.Pix[out.PixOffset(x, y)+k] = uint8(sum / n)
			}
		}
	}
	return out
}

// shift moves the picture to the right and down, repeating its edge.
func shift(img *image.RGBA, dx, dy int) *image.RGBA {
	out := image.NewRGBA(img.Rect)
	for y := range PictureSize {
		for x := range PictureSize {
			out.SetRGBA(x, y, img.RGBAAt(min(PictureSize-1, max(0, x-dx)), min(PictureSize-1, max(0, y-dy))))
		}
	}
	return out
}

// rankCorrelation is Spearman's, of values with their positions; ties share ranks.
func rankCorrelation(values []float64) float64 {
	n := float64(len(values))
	var xy, xx, yy float64
	for i, v := range values {
		rank := 0.0
		for _, w := range values {
			if w < v {
				rank++
			} else if w == v {
				rank += 0.5
			}
		}
		x, y := float64(i)-(n-1)/2, rank-n/2
		xy, xx, yy = xy+x*y, xx+x*x, yy+y*y
	}
	return xy / math.Sqrt(xx*yy)
}

func TestSmoothFallsWithEveryDegradation(t *testing.T) {
	for _, d := range []struct {
		name string
		step func(Scene, []Placed, int) *image.RGBA
	}{
		{"blurred", func(s Scene, p []Placed, k int) *image.RGBA { return blur(Draw(s.Background, p), k) }},
		{"shifted right", func(s Scene, p []Placed, k int) *image.RGBA { return shift(Draw(s.Background, p), 2*k, 0) }},
		{"shifted up", func(s Scene, p []Placed, k int) *image.RGBA { return shift(Draw(s.Background, p), 0, -2*k) }},
		{"recoloured", func(s Scene, p []Placed, k int) *image.RGBA {
			img, other := Draw(s.Background, p), slices.Clone(p)
			other[0].Colour = (other[0].Colour + 2) % colourCount
			to := Draw(s.Background, other)
			for i := range img.Pix {
				img.Pix[i] = uint8((int(img.Pix[i])*(10-k) + int(to.Pix[i])*k) / 10)
			}
			return img
		}},
	} {
		t.Run(d.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(6, 6))
			worst, mean := 1.0, 0.0
			list := scenes(24, 7)
			for _, s := range list {
				p := s.Place(rng)
				var values []float64
				for k := range 9 {
					r, err := ScoreScene(d.step(s, p, k), s)
					if err != nil {
						t.Fatal(err)
					}
					values = append(values, r.Smooth)
				}
				c := -rankCorrelation(values)
				worst, mean = min(worst, c), mean+c/float64(len(list))
				if !(c >= 0.9) {
					t.Errorf("%+v: rank correlation %.3f, values %.3f", s, c, values)
				}
			}
			t.Logf("rank correlation: mean %.4f, least %.4f", mean, worst)
		})
	}
}

func TestScoreOfOtherSizesAndKinds(t *testing.T) {
	s := Scene{Beside, White, Object{Small, Green, Ring}, Object{Large, Blue, Triangle}}
	img := s.Render(rand.New(rand.NewPCG(8, 8)))
	double := image.NewNRGBA(image.Rect(5, 7, 5+2*PictureSize, 7+2*PictureSize))
	for y := range 2 * PictureSize {
		for x := range 2 * PictureSize {
			double.Set(5+x, 7+y, img.At(x/2, y/2))
		}
	}
	a, err := ScoreScene(img, s)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ScoreScene(double, s)
	if err != nil || !b.Strict || !(math.Abs(a.Smooth-b.Smooth) <= 1e-12) {
		t.Errorf("doubled: %+v, %v; want %+v", b, err, a)
	}
	if _, err := ScoreScene(image.NewRGBA(image.Rectangle{}), s); err == nil {
		t.Error("an empty picture was scored")
	}
	if _, err := ScoreScene(img, Scene{Layout: 9}); err == nil {
		t.Error("an unknown layout was accepted")
	}
	noise := image.NewRGBA(img.Rect)
	rng := rand.New(rand.NewPCG(9, 9))
	for i := range noise.Pix {
		noise.Pix[i] = uint8(rng.IntN(256))
	}
	if r, err := ScoreScene(noise, s); err != nil || r.Strict || !(r.Smooth >= 0 && r.Smooth <= 0.2) {
		t.Errorf("noise: %+v, %v", r, err)
	}
}

func TestScoreConcurrently(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 10))
	list := scenes(16, 11)
	images := make([]*image.RGBA, len(list))
	want := make([]Result, len(list))
	for i, s := range list {
		images[i] = blur(s.Render(rng), 1)
		want[i], _ = ScoreScene(images[i], s)
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i, s := range list {
				if got, err := ScoreScene(images[i], s); err != nil || got != want[i] {
					t.Errorf("%+v: %+v, %v; want %+v", s, got, err, want[i])
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkScore(b *testing.B) {
	s := scenes(8, 12)[3]
	img := s.Render(rand.New(rand.NewPCG(1, 2)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ScoreScene(img, s); err != nil {
			b.Fatal(err)
		}
	}
}
