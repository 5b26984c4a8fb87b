// Package page writes a study as one HTML page that needs no network: the front beside its baselines, the pictures along the front, the
// decisions of each schedule, which components tolerate reuse, and how the search went. What the page says it also says without its script;
// the script moves along the front.
package page

import (
	"bytes"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"math"

	"ecadx/ga/study"
	"ecadx/schedule"
)

//go:embed page.html style.css script.js
var assets embed.FS

var document = template.Must(template.New("page.html").Funcs(template.FuncMap{"asset": asset}).ParseFS(assets, "page.html"))

// asset is an embedded file as the part of a page that its name says.
func asset(name string) (any, error) {
	data, err := assets.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if name == "style.css" {
		return template.CSS(data), nil
	}
	return template.JS(data), nil
}

// Fact is a line of what the study ran on.
type Fact struct{ Name, Value string }

// Generation is what a search had found after a generation.
type Generation struct {
	Generation  int
	Images      int64   // scored so far
	MACs        float64 // of these images, each counted as a whole run; 0 if it is not known
	Hypervolume float64 // normalised, on the prompts of the search
}

// Picture is a picture as it is embedded.
type Picture struct {
	Type    string // of the data, such as image/png
	Data    []byte
	Quality *float64 // what the study's quality says of it; nil if it cannot
}

// Gallery is one prompt under the uncached schedule and schedules of the front.
type Gallery struct {
	Prompt   string
	Uncached Picture
	Front    []Picture // one for each of Content.Drawn
}

// Content is what a page shows.
type Content struct {
	Study     string // its name
	Front     *study.Front
	Schedules []*schedule.Schedule // of Front.Front, in its order
	Facts     []Fact
	History   []Generation // empty where it is not known
	Drawn     []int        // places in Front.Front of the schedules with pictures, ascending
	Galleries []Gallery
	// Generate is the command that makes a picture under the schedule of a file relative to the study; %s stands for the file. Empty: none is shown.
	Generate string
}

// Write writes the page. Errors are those of the writer, or say what of the content does not fit together.
func Write(w io.Writer, c Content) error {
	if err := c.validate(); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := document.Execute(&b, newView(c)); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (c Content) validate() error {
	if c.Front == nil || len(c.Front.Front) == 0 {
		return fmt.Errorf("page: the front is empty: let the search run longer")
	}
	if len(c.Schedules) != len(c.Front.Front) {
		return fmt.Errorf("page: %d schedules for a front of %d", len(c.Schedules), len(c.Front.Front))
	}
	longest := c.longest()
	for i, s := range c.Schedules {
		want := longest
		want.Steps = s.Shape().Steps
		if s.Shape() != want {
			return fmt.Errorf("page: schedule %d has other blocks than the first", i)
		}
	}
	last := -1
	for _, i := range c.Drawn {
		if i <= last || i >= len(c.Schedules) {
			return fmt.Errorf("page: pictures of schedule %d of %d", i, len(c.Schedules))
		}
		last = i
	}
	for _, g := range c.Galleries {
		if len(g.Front) != len(c.Drawn) || len(c.Drawn) == 0 {
			return fmt.Errorf("page: %d pictures of %q for %d schedules", len(g.Front), g.Prompt, len(c.Drawn))
		}
	}
	return nil
}

// longest is the shape of the schedules with the most steps among them.
func (c Content) longest() schedule.Shape {
	shape := c.Schedules[0].Shape()
	for _, s := range c.Schedules {
		shape.Steps = max(shape.Steps, s.Shape().Steps)
	}
	return shape
}

// Thin chooses at most n schedules of a front, the ends among them, evenly spread by the logarithm of their cost: those a page shows pictures
// of when there is no room for all.
func Thin(front []study.FrontEntry, n int) []int {
	n = min(n, len(front))
	var out []int
	for k := range n {
		out = append(out, nearestCost(front, k, n, out))
	}
	return out
}

// nearestCost is the entry nearest to place k of n between the first and the last cost, behind those taken and with room for those to come.
func nearestCost(front []study.FrontEntry, k, n int, taken []int) int {
	low, high := 0, len(front)-(n-k)
	if k > 0 {
		low = taken[k-1] + 1
	}
	if k == n-1 {
		return high // the last one, whatever lies nearer
	}
	cost := func(i int) float64 { return math.Log(max(front[i].Cost, math.SmallestNonzeroFloat64)) }
	aim := cost(0) + (cost(len(front)-1)-cost(0))*float64(k)/float64(n-1)
	best := low
	for i := low; i <= high; i++ {
		if math.Abs(cost(i)-aim) < math.Abs(cost(best)-aim) {
			best = i
		}
	}
	return best
}

// source is a picture as the source of an img element.
func (p Picture) source() template.URL {
	return template.URL("data:" + p.Type + ";base64," + base64.StdEncoding.EncodeToString(p.Data))
}
