package ga

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"ecadx/schedule"
)

// ImageID numbers an image of a study: one prompt with one noise seed. Search and held-out images share the numbering.
type ImageID uint32

// Image is an image that schedules are scored on.
type Image struct {
	ID ImageID
	// Prompt groups the images that were made from one prompt; confidence intervals resample prompts.
	Prompt uint32
}

// Score is what an Evaluator found for one schedule on one image.
type Score struct {
	// Value is the quality of the image, higher is better. It has no meaning when Invalid is not empty.
	Value float64
	// Invalid says why there is no score; empty for a valid score. One invalid score makes its schedule an invalid
	// candidate: scores are never averaged around it.
	Invalid string
}

// maxReason bounds the length of Score.Invalid in bytes.
const maxReason = 500

// Checked returns the score in the form in which it is logged: a NaN or infinite value becomes an invalid score, and
// the reason is valid UTF-8 of a limited length.
func (s Score) Checked() Score {
	if s.Invalid == "" {
		if math.IsNaN(s.Value) || math.IsInf(s.Value, 0) {
			return Score{Invalid: fmt.Sprintf("the score is %v", s.Value)}
		}
		return s
	}
	reason := strings.ToValidUTF8(s.Invalid, "?")
	if len(reason) > maxReason {
		reason = reason[:maxReason]
		for !utf8.ValidString(reason) {
			reason = reason[:len(reason)-1]
		}
	}
	return Score{Invalid: reason}
}

// same reports whether two checked scores agree bit for bit.
func (s Score) same(o Score) bool {
	return math.Float64bits(s.Value) == math.Float64bits(o.Value) && s.Invalid == o.Invalid
}

// Evaluator computes scores. scores[i][k] belongs to schedules[i] and images[k] and must depend on nothing but that
// schedule, that image, the weights and the settings frozen for the study: not on the other schedules or images of the
// call, their order, or the number of threads. Schedules are canonical, distinct and read only; an implementation may
// share their work (they are evaluated as a prefix tree) but must not keep them.
//
// A failure that concerns one candidate is an invalid Score; an error means that nothing of the call is usable. When ctx
// is cancelled, Evaluate returns an error soon.
type Evaluator interface {
	Evaluate(ctx context.Context, schedules []*schedule.Schedule, images []ImageID) (scores [][]Score, err error)
}

// CostModel gives the cost of running a schedule once for one image, for example MACs or milliseconds. It is exact and
// deterministic, and finite and not negative.
type CostModel interface {
	Cost(s *schedule.Schedule) (float64, error)
}

// CostFunc is a function as a CostModel.
type CostFunc func(s *schedule.Schedule) (float64, error)

// Cost calls the function.
func (f CostFunc) Cost(s *schedule.Schedule) (float64, error) { return f(s) }

// Record is a score as it is logged.
type Record struct {
	Hash  schedule.Hash
	Image ImageID
	Score Score
}

// ErrDiverged means that a replayed generation is not the one in the log: the study was written by a version of the
// search that decides differently.
var ErrDiverged = errors.New("ecadx/ga: the log holds another trajectory")

// Log keeps scores across runs. It is used from one goroutine at a time.
type Log interface {
	// Score returns the score of a schedule on an image, if there is one.
	Score(h schedule.Hash, image ImageID) (Score, bool)
	// Append adds records. They are durable when it returns nil; a record whose score is known changes nothing.
	Append(records []Record) error
	// Snapshot returns the snapshot of a generation, if the log holds it. It is read only.
	Snapshot(generation int) (*Snapshot, bool)
	// Commit keeps the snapshot of the generation after the last one; it is durable when Commit returns nil. If the log already holds
	// that generation it compares, and returns an error that wraps ErrDiverged when they differ.
	Commit(s *Snapshot) error
}

// MemoryLog is a Log that forgets everything when the process ends. The zero value is empty.
type MemoryLog struct {
	scores    map[schedule.Hash]map[ImageID]Score
	snapshots []*Snapshot // by generation
}

// Score implements Log.
func (l *MemoryLog) Score(h schedule.Hash, image ImageID) (Score, bool) {
	s, ok := l.scores[h][image]
	return s, ok
}

// Append implements Log.
func (l *MemoryLog) Append(records []Record) error {
	if l.scores == nil {
		l.scores = make(map[schedule.Hash]map[ImageID]Score)
	}
	for _, r := range records {
		m := l.scores[r.Hash]
		if m == nil {
			m = make(map[ImageID]Score)
			l.scores[r.Hash] = m
		}
		if _, known := m[r.Image]; !known {
			m[r.Image] = r.Score
		}
	}
	return nil
}

// Snapshot implements Log.
func (l *MemoryLog) Snapshot(generation int) (*Snapshot, bool) {
	if generation < 0 || generation >= len(l.snapshots) {
		return nil, false
	}
	return l.snapshots[generation], true
}

// Commit implements Log.
func (l *MemoryLog) Commit(s *Snapshot) error {
	known, err := s.CheckNext(l.snapshots)
	if err == nil && !known {
		l.snapshots = append(l.snapshots, s)
	}
	return err
}
