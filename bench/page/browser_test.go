package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	_ "embed"

	"ecadx/schedule"
)

// harness.html opens the page in two frames, moves its slider and writes what it finds into itself.
//
//go:embed testdata/harness.html
var harness string

// moved is what the harness finds at one place of the slider.
type moved struct {
	Name, ValueText, Chosen, Heatmap, Remark, Command string
	Sources, Scores                                   []string
	Paths, Views                                      []string
}

// found is what the harness finds at one width.
type found struct {
	Width, Overflow               int
	Labels, Headings, Unnamed     int
	MinorTicks                    string // their display
	First, Last, Between, Clicked moved
	SliderAfterClick              string
	Tabbable                      bool
}

// browser finds Chromium under the names that it is installed by.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("SKIP: no Chromium: sh scripts/deps.sh chromium installs it")
	return ""
}

// TestInBrowser loads the page 400 and 1400 pixels wide, moves the slider and looks at what changes.
func TestInBrowser(t *testing.T) {
	chromium, c := browser(t), testContent(t)
	text := render(t, c)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if r.URL.Path == "/report.html" {
			fmt.Fprint(w, text)
			return
		}
		fmt.Fprint(w, harness)
	}))
	defer server.Close()
	cmd := exec.CommandContext(t.Context(), chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--user-data-dir="+t.TempDir(),
		"--window-size=1900,1200", "--virtual-time-budget=20000", "--dump-dom", server.URL)
	cmd.WaitDelay = time.Minute
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	dom, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, stderr.String())
	}
	m := regexp.MustCompile(`(?s)<pre id="result">(.*?)</pre>`).FindSubmatch(dom)
	if m == nil {
		t.Fatalf("the harness left no result:\n%s\n%s", dom, stderr.String())
	}
	var results []found
	if err := json.Unmarshal([]byte(html.UnescapeString(string(m[1]))), &results); err != nil {
		t.Fatalf("%v: %s", err, m[1])
	}
	if len(results) != 2 || results[0].Width != 400 || results[1].Width != 1400 {
		t.Fatalf("%+v", results)
	}
	for _, r := range results {
		checkWidth(t, c, r)
	}
	if results[0].MinorTicks != "none" || results[1].MinorTicks == "none" {
		t.Errorf("every other tick is %q on a narrow and %q on a wide screen", results[0].MinorTicks, results[1].MinorTicks)
	}
}

func checkWidth(t *testing.T, c Content, r found) {
	t.Helper()
	if r.Overflow > 0 {
		t.Errorf("%d px: the page is %d px wider than the window", r.Width, r.Overflow)
	}
	if r.Labels != 1 || !r.Tabbable || r.Headings != 1 || r.Unnamed != 0 {
		t.Errorf("%d px: the slider has %d labels (reachable by keyboard: %v), there are %d headings of the first level, and %d pictures and plots have no name", r.Width, r.Labels,
			r.Tabbable, r.Headings, r.Unnamed)
	}
	for _, at := range []struct {
		index, drawn int
		m            moved
	}{{0, 0, r.First}, {4, 2, r.Last}, {1, 0, r.Between}, {3, 1, r.Clicked}} {
		name := entryName(c.Front.Front[at.index])
		if at.m.Name != name || at.m.Chosen != fmt.Sprint(at.index) || !strings.Contains(at.m.ValueText, fmt.Sprintf("schedule %d of 5", at.index+1)) ||
			at.m.Command != "ecadx generate --schedule "+c.Front.Front[at.index].File || at.m.Heatmap != heatmapText(c.Schedules[at.index].Shape().Steps, schedule.Summarize(c.Schedules[at.index])) {
			t.Errorf("%d px, place %d: %+v", r.Width, at.index, at.m)
		}
		if own := c.Drawn[at.drawn] == at.index; own != (at.m.Remark == "") {
			t.Errorf("%d px, place %d: remark %q", r.Width, at.index, at.m.Remark)
		}
		for k, g := range c.Galleries {
			if len(at.m.Sources) != len(c.Galleries) || at.m.Sources[k] != string(g.Front[at.drawn].source()) || at.m.Scores[k] != "scene "+number(*g.Front[at.drawn].Quality) {
				t.Errorf("%d px, place %d: picture %d is another one, score %q", r.Width, at.index, k, at.m.Scores)
			}
		}
		for i, p := range newPanels(c.longest()) {
			s := c.Schedules[at.index]
			if want := fmt.Sprintf("0 0 %d %d", s.Shape().Steps, p.Blocks); len(at.m.Views) <= i || at.m.Views[i] != want {
				t.Errorf("%d px, place %d: the map of %s shows %q, want %q", r.Width, at.index, p.Name, at.m.Views, want)
			}
			if want := p.path(s.Shape().Steps, func(step, block int) bool { return s.At(step, block, p.Comp) == schedule.Compute }); len(at.m.Paths) <= i || at.m.Paths[i] != want {
				t.Errorf("%d px, place %d: map of %s is %q, want %q", r.Width, at.index, p.Name, at.m.Paths, want)
			}
		}
	}
	if r.SliderAfterClick != "3" {
		t.Errorf("%d px: a click on the fourth point moves the slider to %s", r.Width, r.SliderAfterClick)
	}
}
