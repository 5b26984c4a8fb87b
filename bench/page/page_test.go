package page

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ecadx/ga/study"
	"ecadx/schedule"
)

const hostile = `</script><script>alert(1)</script> & "quoted"`

func entry(name, hash string, cost, quality float64) study.FrontEntry {
	return study.FrontEntry{Name: name, Hash: strings.Repeat(hash, 64/len(hash)), File: "schedules/" + hash + ".json", Cost: cost, MACsRatio: 1000 / cost,
		Quality: &quality, QualityCI95: &[2]float64{quality - 0.02, quality + 0.02}, HeldOutQuality: &quality, HeldOutCI95: &[2]float64{quality - 0.03, quality + 0.03}}
}

// solid is a picture of one colour, so that the tests can tell pictures apart.
func solid(t testing.TB, i int) Picture {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, 4, 4))
	for k := range 16 {
		m.SetNRGBA(k%4, k/4, color.NRGBA{uint8(40 * i), 90, 200, 255})
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	q := float64(i) / 10
	return Picture{"image/png", b.Bytes(), &q}
}

// testContent is a study of five schedules, three of them with pictures.
func testContent(t testing.TB) Content {
	t.Helper()
	shape := schedule.Shape{Family: schedule.Flux, Steps: 6, Blocks: 2, SingleBlocks: 3}
	c := Content{Study: "a study", Drawn: []int{0, 2, 4}, Generate: "ecadx generate --schedule %s", Facts: []Fact{{"model", "mini"}}}
	f := &study.Front{Quality: "scene", Cost: "macs", Uncached: entry("none", "0", 1000, 0.95), Generations: 3, Images: 99,
		HeldOut: study.FrontHeldOut{Prompts: 12, Hypervolume: 0.5, SeedsHypervolume: 0.4}}
	for i := range 5 {
		if i == 1 {
			shape.Steps = 4 // one runs fewer steps
		} else {
			shape.Steps = 6
		}
		e := entry("", strconv.Itoa(i+1), float64(200+100*i), 0.7+0.05*float64(i))
		f.Front = append(f.Front, e)
		g, err := schedule.Resolve(fmt.Sprintf("random:%g:%d", 0.8-0.1*float64(i), i), shape)
		if err != nil {
			t.Fatal(err)
		}
		c.Schedules = append(c.Schedules, g.Schedule.Canonical())
	}
	f.Baselines = []study.FrontEntry{entry("fora:2", "a", 500, 0.75), entry("steps:3", "b", 450, 0.8), entry("random:0.5:7", "c", 520, 0.3)}
	f.Seeds = []study.FrontEntry{entry("seed", "d", 640, 0.6)}
	f.HeldOut.Comparisons = []study.FrontComparison{{Baseline: f.Baselines[0].Hash, Front: f.Front[3].Hash, Difference: 0.1, CI95: [2]float64{0.05, 0.15}},
		{Baseline: f.Baselines[1].Hash, Front: f.Front[2].Hash, Difference: -0.1, CI95: [2]float64{-0.15, -0.05}}}
	c.Front = f
	for g := range 3 {
		c.History = append(c.History, Generation{g + 1, int64(33 * (g + 1)), 1e9 * float64(g+1), 0.3 + 0.1*float64(g)})
	}
	for k, prompt := range []string{"a red ring", hostile} {
		g := Gallery{Prompt: prompt, Uncached: solid(t, 5)}
		for i := range c.Drawn {
			g.Front = append(g.Front, solid(t, i+1+k))
		}
		c.Galleries = append(c.Galleries, g)
	}
	return c
}

func render(t testing.TB, c Content) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, c); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestPage: what the page says without its script, that it asks for nothing from outside, and that texts stay texts.
func TestPage(t *testing.T) {
	text := render(t, testContent(t))
	for _, want := range []string{"a study", "5 schedules from 1.67x fewer MACs to 5.00x fewer MACs", "Not ahead of every baseline", "steps:3 (-0.1, -0.15 to -0.05)",
		"fewer steps, no caching", "random:0.5:7", "the front is better", "the front is worse", "not compared", "single_attn", "full_ff_context", "generation 2: 0.4000 after 66 images",
		"12 held-out prompts", "schedules/3.json", "&lt;script&gt;alert(1)", "scene 0.5", "lang=\"en\""} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for _, pattern := range []string{`(?i)(src|href)="(https?:)?//`, `@import`, `url\(`, `<link`, `<script>alert`} {
		if found := regexp.MustCompile(pattern).FindString(text); found != "" {
			t.Errorf("the page has %q", found)
		}
	}
	if again := render(t, testContent(t)); again != text {
		t.Error("the same content makes another page")
	}
	c := testContent(t)
	c.Galleries, c.Drawn, c.History, c.Generate = nil, nil, nil, ""
	if plain := render(t, c); strings.Contains(plain, "<img") || strings.Contains(plain, "How the search went") || !strings.Contains(plain, `type="range"`) {
		t.Error("a page without pictures and history has them, or lacks its slider")
	}
}

// TestPageOfPoorStudies: nothing held out, a baseline without a score, a front of one schedule, a front above the uncached quality.
func TestPageOfPoorStudies(t *testing.T) {
	c := testContent(t)
	c.Front.HeldOut = study.FrontHeldOut{}
	for _, list := range [][]study.FrontEntry{c.Front.Front, c.Front.Baselines, c.Front.Seeds} {
		for i := range list {
			list[i].HeldOutQuality, list[i].HeldOutCI95 = nil, nil
		}
	}
	c.Front.Baselines[0].Quality, c.Front.Baselines[0].QualityCI95, c.Front.Baselines[0].Invalid = nil, nil, "NaN in <step 3>"
	text := render(t, c)
	for _, want := range []string{"nothing was held out", "invalid: NaN in &lt;step 3&gt;", "Nothing was compared", "scene quality on the searched prompts"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	c.Front.Front, c.Schedules, c.Drawn, c.Galleries = c.Front.Front[:1], c.Schedules[:1], nil, nil
	best := 0.2
	c.Front.Uncached.Quality, c.Front.Uncached.HeldOutQuality = &best, nil
	if text := render(t, c); strings.Contains(text, "NaN%") || strings.Contains(text, "Inf") || !strings.Contains(text, `max="0"`) {
		t.Error("a front of one schedule has places that are no numbers, or no slider")
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, change := range map[string]func(*Content){
		"empty front":           func(c *Content) { c.Front.Front = nil },
		"a schedule is missing": func(c *Content) { c.Schedules = c.Schedules[1:] },
		"drawn out of range":    func(c *Content) { c.Drawn[2] = 5 },
		"drawn out of order":    func(c *Content) { c.Drawn[0] = 2 },
		"too few pictures":      func(c *Content) { c.Galleries[1].Front = c.Galleries[1].Front[1:] },
		"another shape": func(c *Content) {
			c.Schedules[1], _ = schedule.New(schedule.Shape{Family: schedule.PixArt, Steps: 6, Blocks: 5})
		},
	} {
		c := testContent(t)
		change(&c)
		if err := Write(&bytes.Buffer{}, c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestThin: both ends, ascending, never more than asked for, all if there is room.
func TestThin(t *testing.T) {
	for n := range 40 {
		var front []study.FrontEntry
		for i := range n {
			front = append(front, study.FrontEntry{Cost: math.Exp(float64(i*i) / 300)})
		}
		for _, most := range []int{2, 3, 7, 40} {
			got := Thin(front, most)
			if len(got) != min(n, most) || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
				t.Fatalf("%d of %d: %v", most, n, got)
			}
			if n > 1 && (got[0] != 0 || got[len(got)-1] != n-1) {
				t.Fatalf("%d of %d: %v lacks an end", most, n, got)
			}
		}
	}
}

// TestTolerance counts by hand.
func TestTolerance(t *testing.T) {
	shape := schedule.Shape{Family: schedule.PixArt, Steps: 4, Blocks: 3}
	var front []*schedule.Schedule
	for _, ref := range []string{"none", "fora:2", "fora:4", "attn-every:2"} {
		g, err := schedule.Resolve(ref, shape)
		if err != nil {
			t.Fatal(err)
		}
		front = append(front, g.Schedule)
	}
	panels := newPanels(shape)
	for i := range panels {
		panels[i].tolerate(front)
	}
	// Of 4 x 3 live steps attn1 reuses 0 + 2 + 3 + 2 in every block, ff nothing under attn-every.
	if len(panels) != 3 || panels[0].Share != "58 %" || panels[2].Share != "42 %" {
		t.Errorf("%+v", panels)
	}
	if got := panels[0].Thirds[5]; got.Name != "last third of the steps" || got.Value != "50 %" { // steps 2 and 3: 0 + 1 + 2 + 1 of 4 x 2
		t.Errorf("%+v", got)
	}
	if got, want := panels[0].path(4, func(step, block int) bool { return front[1].At(step, block, 0) == schedule.Compute && block == 1 }), "M0 1h1v1h-1zM2 1h1v1h-1z"; got != want {
		t.Errorf("path %q, want %q", got, want)
	}
}

// TestContrast: texts keep 4.5:1 against the ground in both colour schemes (WCAG 2.1, 1.4.3), marks 3:1 (1.4.11).
func TestContrast(t *testing.T) {
	style, err := assets.ReadFile("style.css")
	if err != nil {
		t.Fatal(err)
	}
	schemes := regexp.MustCompile(`:root \{([^}]*)\}`).FindAllSubmatch(style, -1)
	if len(schemes) != 2 {
		t.Fatalf("%d colour schemes", len(schemes))
	}
	for i, s := range schemes {
		colours := map[string]float64{}
		for _, m := range regexp.MustCompile(`--(\w+): #(\w+);`).FindAllSubmatch(s[1], -1) {
			colours[string(m[1])] = luminance(t, string(m[2]))
		}
		for name, least := range map[string]float64{"fg": 4.5, "soft": 4.5, "front": 4.5, "good": 4.5, "bad": 4.5, "heuristic": 3, "steps": 3, "random": 3, "seed": 3} {
			a, b := colours[name]+0.05, colours["bg"]+0.05
			if ratio := max(a, b) / min(a, b); colours["bg"] == colours[name] || !(ratio >= least) {
				t.Errorf("scheme %d: %s has %.2f:1 against the ground, want %v", i, name, ratio, least)
			}
		}
	}
}

// luminance is the relative luminance of an sRGB colour (WCAG 2.1).
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i, weight := range []float64{0.0722, 0.7152, 0.2126} {
		v := float64(n>>(8*i)&255) / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		sum += weight * v
	}
	return sum
}
