package study

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"ecadx/ga"
	"ecadx/schedule"
)

// Contents is a study as it stands on disk, to be looked at. It may be of a study that runs.
type Contents struct {
	Dir      string
	Config   []byte
	Origin   []Part // what scores depend on; the first is the configuration's hash
	Sessions []Session
	// Snapshots by generation, beginning with generation 0. Shared; read only.
	Snapshots []*ga.Snapshot
	Scores    int
	Shape     schedule.Shape // zero if the study does not say
	// Front is the content of front.json, nil before the study is finished.
	Front *Front
	// Running says that a process has it open; Closed that the last one ended in good order.
	Running, Closed bool
	Torn            int64 // bytes of an append that was never finished
	Fingerprint     [32]byte
}

// Read reads the study in dir without changing or locking it. Errors wrap ErrNotStudy or ErrCorrupt.
func Read(dir string) (*Contents, error) {
	d := newOSDisk(dir)
	x := newIndex()
	names, err := segments(d)
	var pos position
	switch {
	case err == nil && len(names) == 0:
		err = fmt.Errorf("%w: it has no log: name the directory of a study", ErrNotStudy)
	case err == nil:
		pos, err = x.read(d, names)
	}
	if err != nil {
		return nil, locate(dir, err)
	}
	c := &Contents{Dir: dir, Config: x.config, Origin: x.origin, Sessions: x.sessions, Snapshots: x.snapshots, Scores: x.count(), Fingerprint: x.fingerprint,
		Running: Running(dir), Closed: closed(d), Torn: pos.torn}
	c.Shape, _ = x.shape()
	data, err := fs.ReadFile(d, frontFile)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil && !slices.Contains(x.files[frontFile], sha256.Sum256(data)) {
		err = &CorruptError{File: frontFile, What: "its contents have changed since it was written"}
		return nil, locate(dir, err)
	}
	if err == nil {
		c.Front, err = decodeFront(data)
	}
	if err != nil {
		return nil, locate(dir, fmt.Errorf("%s: %w", frontFile, err))
	}
	return c, nil
}

// shape reads the shape of the schedules from the origin.
func (x *index) shape() (s schedule.Shape, ok bool) {
	for _, p := range x.origin {
		if p.Name == ShapePart {
			return s, json.Unmarshal([]byte(p.Value), &s) == nil && s.Validate() == nil
		}
	}
	return s, false
}

// Generations returns how many generations are finished.
func (c *Contents) Generations() int { return max(0, len(c.Snapshots)-1) }

// ScheduleOf returns the schedule that a candidate stands for. It may have fewer steps than the study's.
func (c *Contents) ScheduleOf(e ga.Evaluation) (*schedule.Schedule, error) {
	return ga.ScheduleOf(c.Shape, e.Genome)
}

// Is reports whether a directory holds a study that has begun.
func Is(dir string) bool {
	names, err := segments(newOSDisk(dir))
	return err != nil && errors.Is(err, ErrCorrupt) || len(names) > 0
}
