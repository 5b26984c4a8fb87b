package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// quietTime is how long work goes on before its progress is shown.
const quietTime = 2 * time.Second

// progress shows how far a piece of work is and how long it will take, on standard error: a line that is rewritten where a person looks on,
// lines now and then otherwise. Safe for concurrent use; nil shows nothing.
type progress struct {
	w     io.Writer
	live  bool
	what  string
	unit  string
	start time.Time

	mu    sync.Mutex
	done  int
	all   int
	note  string
	own   string // what status was given
	shown time.Time
	drawn int // lines on screen
	width int // of the terminal
}

// newProgress starts the clock for `all` pieces of work; all 0 means nobody knows.
func (o *options) newProgress(env *environment, what, unit string, all int) *progress {
	if o.quiet {
		return nil
	}
	return &progress{w: env.stderr, live: isTerminal(env.stderr), width: terminalColumns(env.stderr), what: what, unit: unit, all: all, start: time.Now()}
}

// add reports n more pieces as done.
func (p *progress) add(n int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.show()
}

// say reports where the work stands, with a remark.
func (p *progress) say(done, all int, note string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.all, p.note = done, all, note
	p.show()
}

// status shows text of the caller's own in place of counts. It may have several lines, of which only a terminal shows more than the first.
func (p *progress) status(text string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.own = text
	p.show()
}

// line prints a finished line above the live one.
func (p *progress) line(format string, args ...any) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	fmt.Fprintf(p.w, format+"\n", args...)
	p.shown = time.Time{}
}

// end takes the live line away.
func (p *progress) end() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
}

func (p *progress) wipe() {
	if p.live && p.drawn > 0 {
		up := ""
		if p.drawn > 1 {
			up = fmt.Sprintf("\x1b[%dA", p.drawn-1)
		}
		fmt.Fprint(p.w, "\r"+up+"\x1b[J") // clears from here to the end of the screen
		p.drawn = 0
	}
}

// show draws if it is time to: 5 times a second on a terminal, every 10 seconds elsewhere.
func (p *progress) show() {
	now := time.Now()
	every := 200 * time.Millisecond
	if !p.live {
		every = 10 * time.Second
	}
	if now.Sub(p.start) < quietTime || now.Sub(p.shown) < every {
		return
	}
	p.shown = now
	lines := strings.Split(p.text(now), "\n")
	if !p.live {
		fmt.Fprintln(p.w, lines[0])
		return
	}
	p.wipe()
	for i, line := range lines {
		// A line that reaches the edge would take two.
		if r := []rune(line); p.width > 1 && len(r) >= p.width {
			lines[i] = string(r[:p.width-1])
		}
	}
	fmt.Fprint(p.w, strings.Join(lines, "\n"))
	p.drawn = len(lines)
}

func (p *progress) text(now time.Time) string {
	if p.own != "" {
		return p.own
	}
	text := p.what
	if p.all > 0 {
		text += fmt.Sprintf(" %d/%d %s", p.done, p.all, p.unit)
	} else if p.done > 0 {
		text += fmt.Sprintf(" %d %s", p.done, p.unit)
	}
	if p.note != "" {
		text += ", " + p.note
	}
	if p.done > 0 && p.all > p.done {
		elapsed := now.Sub(p.start)
		text += ", " + shortDuration(time.Duration(float64(elapsed)/float64(p.done)*float64(p.all-p.done))) + " left"
	}
	return text
}

// shortDuration writes a duration as people say it: 8 s, 2 min 10 s, 3 h 5 min.
func shortDuration(d time.Duration) string {
	s := int(d.Round(time.Second) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	}
	return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
}
