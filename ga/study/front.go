package study

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"ecadx/ga"
)

const frontFile = "front.json"

// Front is the content of front.json. It depends on configuration and scores alone: the same study gives the same
// bytes on every machine, however often it was interrupted.
type Front struct {
	Quality   string         `json:"quality"` // name of the quality, maximised
	Cost      string         `json:"cost"`    // name of the cost, minimised
	Reference FrontReference `json:"reference"`
	Uncached  FrontEntry     `json:"uncached"`
	Baselines []FrontEntry   `json:"baselines"`
	Seeds     []FrontEntry   `json:"seeds"`
	Front     []FrontEntry   `json:"front"` // by ascending cost
	// Hypervolume and SeedsHypervolume are normalised to the rectangle from Reference to (uncached quality, cost 0).
	Hypervolume      float64 `json:"hypervolume"`
	SeedsHypervolume float64 `json:"seeds_hypervolume"`
	// ConfirmPrompts is how many prompts, besides those of the search, the qualities are about.
	ConfirmPrompts int          `json:"confirm_prompts"`
	HeldOut        FrontHeldOut `json:"heldout"`
	Evaluations    int64        `json:"evaluations"` // distinct schedules scored for the search
	Images         int64        `json:"images"`      // images scored for the search
	Generations    int          `json:"generations"`
	Seed           uint64       `json:"seed"`
}

// FrontReference is the reference point of the hypervolume.
type FrontReference struct {
	Quality float64 `json:"quality"`
	Cost    float64 `json:"cost"`
}

// FrontHeldOut sums up the held-out images. Its hypervolumes take held-out qualities, also that of the uncached
// schedule; the reference point is that of the search.
type FrontHeldOut struct {
	Prompts          int     `json:"prompts"`
	Hypervolume      float64 `json:"hypervolume"`
	SeedsHypervolume float64 `json:"seeds_hypervolume"`
	// Comparisons set baselines beside the front at equal cost; see ga.Comparison.
	Comparisons []FrontComparison `json:"comparisons"`
}

// FrontComparison is the held-out quality of a schedule of the front minus that of a baseline which costs no less.
type FrontComparison struct {
	Baseline   string     `json:"baseline"` // hash
	Front      string     `json:"front"`    // hash
	Difference float64    `json:"difference"`
	CI95       [2]float64 `json:"ci95"` // paired by image, over prompts
}

// FrontEntry is a schedule. Qualities are null where there is no score; Invalid then says why, unless nothing was held
// out.
type FrontEntry struct {
	Name           string      `json:"name,omitempty"`
	Hash           string      `json:"hash"`
	File           string      `json:"file"` // relative to the study
	Quality        *float64    `json:"quality"`
	QualityCI95    *[2]float64 `json:"quality_ci95"`
	HeldOutQuality *float64    `json:"heldout_quality"`
	HeldOutCI95    *[2]float64 `json:"heldout_ci95"`
	Cost           float64     `json:"cost"`
	MACsRatio      float64     `json:"macs_ratio"`
	Invalid        string      `json:"invalid,omitempty"`
}

// NewFront returns the content of front.json for a result. quality and cost are the names of the objectives.
func NewFront(res *ga.Result, quality, cost string) *Front {
	entries := func(list []ga.Candidate) []FrontEntry {
		out := make([]FrontEntry, len(list))
		for i, c := range list {
			out[i] = newEntry(c)
		}
		return out
	}
	comparisons := make([]FrontComparison, len(res.Comparisons))
	for i, c := range res.Comparisons {
		comparisons[i] = FrontComparison{res.Baselines[c.Baseline].Hash.String(), res.Front[c.Front].Hash.String(), c.Difference.Mean, c.Difference.CI95}
	}
	return &Front{
		Quality: quality, Cost: cost,
		Reference: FrontReference{res.Reference.Quality, res.Reference.Cost},
		Uncached:  newEntry(res.Uncached),
		Baselines: entries(res.Baselines), Seeds: entries(res.Seeds), Front: entries(res.Front),
		Hypervolume: res.Hypervolume, SeedsHypervolume: res.SeedsHypervolume,
		ConfirmPrompts: res.ConfirmPrompts, HeldOut: FrontHeldOut{res.HeldOutPrompts, res.HeldOutHypervolume, res.HeldOutSeedsHypervolume, comparisons},
		Evaluations: res.Evaluations, Images: res.Images, Generations: res.Generations, Seed: res.Seed,
	}
}

func newEntry(c ga.Candidate) FrontEntry {
	e := FrontEntry{Name: c.Name, Hash: c.Hash.String(), File: schedulePath(c), Cost: c.Cost, MACsRatio: c.MACsRatio,
		Invalid: c.Invalid}
	if q := c.Quality; q != nil {
		e.Quality, e.QualityCI95 = &q.Mean, &q.CI95
	}
	if q := c.HeldOut; q != nil {
		e.HeldOutQuality, e.HeldOutCI95 = &q.Mean, &q.CI95
	}
	return e
}

func schedulePath(c ga.Candidate) string { return "schedules/" + c.Hash.String() + ".json" }

// Encode returns the bytes of front.json. A NaN or infinite number is an error; a result of ga.Run has none.
func (f *Front) Encode() ([]byte, error) { return encodeJSON("front.json", f) }

// ReadFront reads a front.json.
func ReadFront(path string) (*Front, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := decodeFront(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func decodeFront(data []byte) (*Front, error) {
	f := new(Front)
	if err := json.Unmarshal(data, f); err != nil {
		return nil, err
	}
	return f, nil
}

func encodeJSON(name string, v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("ecadx/study: %s: %w", name, err)
	}
	return b.Bytes(), nil
}

// WriteResult writes the schedules that the result lists, three tables, front.svg and, last, front.json, each in one step. encode
// returns the bytes of a schedule file; the same candidate must always give the same bytes.
func (s *Study) WriteResult(res *ga.Result, quality, cost string, encode func(ga.Candidate) ([]byte, error)) error {
	front := NewFront(res, quality, cost)
	data, err := front.Encode()
	if err != nil {
		return err
	}
	for _, list := range [][]ga.Candidate{{res.Uncached}, res.Baselines, res.Seeds, res.Front} {
		for _, c := range list {
			text, err := encode(c)
			if err != nil {
				return fmt.Errorf("schedule %v: %w", c.Hash, err)
			}
			if err := s.WriteFile(schedulePath(c), text); err != nil {
				return err
			}
		}
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{"evaluations.csv", EvaluationsCSV(s.snapshots)}, {"history.csv", HistoryCSV(s.snapshots)}, {"front.csv", front.CSV()}, {"front.svg", front.SVG()}} {
		if err := s.WriteFile(f.name, f.data); err != nil {
			return err
		}
	}
	return s.WriteFile(frontFile, data)
}

// WriteRun writes run.json, the record of what depends on the machine, in one step. v must encode to JSON.
func (s *Study) WriteRun(v any) error {
	data, err := encodeJSON("run.json", v)
	if err != nil {
		return err
	}
	return s.WriteFile("run.json", data)
}
