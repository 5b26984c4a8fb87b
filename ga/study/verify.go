package study

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"ecadx/ga"
)

// Severity says what a finding means.
type Severity uint8

// The severities.
const (
	// Note: nothing is wrong; the next run cleans it up or leaves it alone.
	Note Severity = iota + 1
	// Damage: a file is not what was written.
	Damage
)

// String names the severity.
func (s Severity) String() string {
	if s == Damage {
		return "damage"
	}
	return "note"
}

// MarshalText writes the name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is something that Verify has to say about a file of a study.
type Finding struct {
	File     string   `json:"file"` // relative to the study
	Offset   int64    `json:"offset"`
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
}

// Verification is what Verify found. Counts are of what could be read.
type Verification struct {
	Findings    []Finding `json:"findings"`
	Files       int       `json:"files"` // checked, the log's included
	Bytes       int64     `json:"bytes"`
	Scores      int       `json:"scores"`
	Generations int       `json:"generations"`
	Closed      bool      `json:"closed"` // the last process ended in good order
}

// Damaged reports whether any finding is damage.
func (v *Verification) Damaged() bool {
	return slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Severity == Damage })
}

// Verify reads every byte of the study in dir and compares it with the checksums in the log. It changes nothing and needs no lock; a study that
// runs meanwhile may have notes about files in the making. The error is about reading; damage is in the result.
func Verify(dir string) (*Verification, error) {
	v, err := verify(newOSDisk(dir))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return v, nil
}

func verify(d fs.FS) (*Verification, error) {
	v := &Verification{Findings: []Finding{}, Closed: closed(d)}
	names, err := segments(d)
	x := newIndex()
	if err == nil && len(names) == 0 {
		if _, err := fs.Stat(d, configFile); err != nil {
			return nil, fmt.Errorf("%w: it has neither config.toml nor a log: name the directory of a study", ErrNotStudy)
		}
		v.note(configFile, "the study has not begun yet")
		return v, nil
	}
	if err == nil {
		err = v.verifyLog(d, x, names)
	}
	var c *CorruptError
	switch {
	case errors.As(err, &c):
		v.Findings = append(v.Findings, Finding{c.File, c.Offset, Damage, c.What})
	case err != nil:
		return nil, err
	}
	v.Scores, v.Generations = x.count(), x.generations()
	return v, v.verifyFiles(d, x, err == nil)
}

func (v *Verification) note(name, what string)   { v.add(name, Note, what) }
func (v *Verification) damage(name, what string) { v.add(name, Damage, what) }
func (v *Verification) add(name string, s Severity, what string) {
	v.Findings = append(v.Findings, Finding{File: name, Severity: s, What: what})
}

// verifyLog reads the log, and checks that candidates are the schedules whose hashes they carry.
func (v *Verification) verifyLog(d fs.FS, x *index, names []string) error {
	for _, name := range names {
		if info, err := fs.Stat(d, name); err == nil {
			v.Files++
			v.Bytes += info.Size()
		}
	}
	pos, err := x.read(d, names)
	if err != nil {
		return err
	}
	if pos.torn > 0 {
		v.note(segmentName(pos.segment), fmt.Sprintf("the last %d bytes are of an append that was never finished: the next run drops them", pos.torn))
	}
	shape, ok := x.shape()
	if !ok {
		return nil
	}
	for _, s := range x.snapshots {
		for _, e := range s.Candidates {
			if known, err := ga.ScheduleOf(shape, e.Genome); err != nil || known.Hash() != e.Hash {
				v.damage(names[0], fmt.Sprintf("generation %d holds a candidate that is not schedule %v", s.Generation, e.Hash))
			}
		}
	}
	return nil
}

// verifyFiles compares all other files with the hashes in the log. whole says that the log could be read to its end.
func (v *Verification) verifyFiles(d fs.FS, x *index, whole bool) error {
	seen := map[string]bool{}
	err := fs.WalkDir(d, ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && name == damagedDir {
			return fs.SkipDir
		}
		if err != nil || e.IsDir() || path.Dir(name) == logDir && name != endFile || name == lockFile {
			return err
		}
		if strings.HasSuffix(name, temporary) {
			v.note(name, "left behind by a process that was killed: the next run removes it")
			return nil
		}
		data, err := fs.ReadFile(d, name)
		if err != nil {
			return err
		}
		v.Files++
		v.Bytes += int64(len(data))
		seen[name] = true
		v.verifyFile(x, name, data, whole)
		return nil
	})
	if err != nil {
		return err
	}
	if !seen[configFile] && len(x.config) > 0 {
		v.damage(configFile, "the file is missing")
	}
	for name := range x.files {
		if !seen[name] {
			if v.Closed {
				v.damage(name, "the file is missing")
			} else {
				v.note(name, "it was about to be written when the process ended: run the search again")
			}
		}
	}
	slices.SortFunc(v.Findings, func(a, b Finding) int { return strings.Compare(a.File, b.File) })
	return nil
}

// verifyFile judges one file that is not part of the log.
func (v *Verification) verifyFile(x *index, name string, data []byte, whole bool) {
	known := x.files[name]
	sum := sha256.Sum256(data)
	switch {
	case name == endFile: // read has compared it
	case name == configFile:
		if len(x.config) > 0 && string(x.config) != string(data) {
			v.damage(name, "it is not the configuration that the study was begun with")
		}
	case !whole:
		if len(known) > 0 && !slices.Contains(known, sum) {
			v.note(name, "its contents are not in the readable part of the log")
		}
	case len(known) == 0 && ours(name):
		v.damage(name, "the log does not know it: the log was cut, or the file was put there by something else")
	case len(known) == 0:
		v.note(name, "no file of the study: it is left alone")
	case known[len(known)-1] == sum:
	case !v.Closed && slices.Contains(known, sum):
		v.note(name, "a newer version was about to be written when the process ended: run the search again")
	default:
		v.damage(name, "its contents have changed since it was written")
	}
}

// ours reports whether a study writes files of this name.
func ours(name string) bool {
	switch name {
	case frontFile, "front.svg", "report.html", "run.json", "front.csv", "history.csv", "evaluations.csv":
		return true
	}
	dir, _, inside := strings.Cut(name, "/")
	return inside && slices.Contains([]string{"schedules", "samples", "inputs"}, dir)
}
