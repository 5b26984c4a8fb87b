package study

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// damagedDir is where Repair puts what it replaces. It is no part of a study.
const damagedDir = "damaged"

// RepairAction is something that Repair did to a file of a study.
type RepairAction struct {
	File string `json:"file"`
	What string `json:"what"`
}

// Repaired is what Repair did, and what the log holds after it.
type Repaired struct {
	Actions     []RepairAction `json:"actions"`
	Lost        int64          `json:"lost_bytes"` // of the log
	Scores      int            `json:"scores"`
	Generations int            `json:"generations"`
}

// Repair saves what is good of a damaged study in dir. Of the log it keeps every record whose checksum holds, before and after the damage, and of
// the generations those before the first that is lost; the search repeats the others from the scores that are left and evaluates what is
// missing. config.toml is restored from the log. Other damaged files are taken away; the next run of the search writes results again. Everything
// that is replaced goes to the folder "damaged" first, and each step leaves a study that can be repaired again. The error wraps ErrLocked,
// ErrNotStudy, or ErrCorrupt when the beginning of the log, without which nothing else means anything, is lost.
func Repair(dir string) (*Repaired, error) {
	d := newOSDisk(dir)
	if _, err := fs.Stat(d, logDir); err != nil {
		return nil, fmt.Errorf("%s: %w: it has no log: name the directory of a study", dir, ErrNotStudy)
	}
	lock, err := d.Lock()
	if err != nil {
		return nil, locate(dir, err)
	}
	r := &repair{disk: d, index: newIndex(), report: &Repaired{Actions: []RepairAction{}}}
	if err = errors.Join(r.run(), lock.Close()); err != nil {
		return nil, locate(dir, err)
	}
	return r.report, nil
}

type repair struct {
	disk
	*index
	report *Repaired
}

func (r *repair) did(name, what string) {
	r.report.Actions = append(r.report.Actions, RepairAction{name, what})
}

func (r *repair) run() error {
	count, err := r.lastSegment()
	if err != nil {
		return err
	}
	replaced := map[string][]byte{}
	for number := uint32(1); number <= count; number++ {
		name := segmentName(number)
		data, err := fs.ReadFile(r.disk, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		records, lost, err := r.salvage(data, number)
		if err != nil {
			return err
		}
		if number == 1 && !r.founded() {
			return &CorruptError{File: name, What: "the beginning of the log, which says what the scores depend on, is lost, so that it cannot be repaired"}
		}
		r.fingerprint = fingerprint(r.origin)
		good := r.segment(number, records, number == count)
		if lost == 0 && len(data) > 0 && (number == count || r.whole(data, number)) && bytes.HasPrefix(data, good[:segmentHead]) {
			continue
		}
		r.report.Lost += lost
		replaced[name] = good
		switch {
		case len(data) == 0:
			r.did(name, "the file was lost: an empty one takes its place")
		case lost == 0:
			r.did(name, "its ends are mended; no record is lost")
		default:
			r.did(name, fmt.Sprintf("%d damaged bytes are left out", lost))
		}
	}
	if err := r.replaceLog(replaced); err != nil {
		return err
	}
	if err := r.restoreConfig(); err != nil {
		return err
	}
	r.report.Scores, r.report.Generations = r.count(), r.generations()
	return r.removeDamaged()
}

// lastSegment returns the highest number of a segment.
func (r *repair) lastSegment() (uint32, error) {
	entries, err := fs.ReadDir(r.disk, logDir)
	if err != nil {
		return 0, err
	}
	last := uint32(1)
	for _, e := range entries {
		n, err := strconv.ParseUint(strings.TrimSuffix(e.Name(), segmentSuffix), 10, 32)
		if err == nil && path.Join(logDir, e.Name()) == segmentName(uint32(n)) && n < 1<<20 {
			last = max(last, uint32(n))
		}
	}
	return last, nil
}

// salvage takes in every good record of a segment and returns them encoded, without synced and end records, which speak of places. lost is how
// many bytes are in none.
func (r *repair) salvage(data []byte, number uint32) (records []byte, lost int64, err error) {
	if n, print, err := parseHeader(data); err == nil && (n != number || number > 1 && print != r.fingerprint) {
		return nil, int64(len(data)), nil // of another study
	}
	var version versionError
	if _, _, err := parseHeader(data); errors.As(err, &version) {
		return nil, 0, err
	}
	for at := min(segmentHead, len(data)); at < len(data); {
		t, p, size, err := nextRecord(data[at:])
		if err != nil {
			lost++
			at++
			continue
		}
		switch {
		case t == typeSynced || t == typeEnd:
		case t == typeOrigin && len(r.origin) > 0 || t == typeConfig && r.founded():
			lost += int64(size)
		default:
			before := len(r.snapshots)
			if _, err := r.take(t, p, number, at); err != nil {
				lost += int64(size) // of a generation that follows a lost one
				r.pending = nil
			} else if t != typeCandidate && t != typeCommit {
				records = appendRecord(records, t, p)
			} else if len(r.snapshots) > before {
				if records, err = appendSnapshot(records, r.snapshots[before]); err != nil {
					return nil, 0, err
				}
			}
		}
		at += size
	}
	r.pending = nil
	return records, lost, nil
}

// segment encodes a segment of salvaged records.
func (r *repair) segment(number uint32, records []byte, last bool) []byte {
	b := append(appendHeader(nil, number, r.fingerprint), records...)
	if last {
		return appendSynced(b, number, int64(len(b)))
	}
	return appendEnd(b, number+1)
}

// whole reports whether a segment that is not the last one ends as it should.
func (r *repair) whole(data []byte, number uint32) bool {
	return bytes.HasSuffix(data, appendEnd(nil, number+1))
}

// replaceLog puts mended segments in place, after the mark of the end is gone and the damaged ones are kept.
func (r *repair) replaceLog(replaced map[string][]byte) error {
	names, err := segments(r.disk)
	x := newIndex()
	if err == nil {
		_, err = x.read(r.disk, names)
	}
	var c *CorruptError
	if err != nil && !errors.As(err, &c) {
		return err
	}
	if err == nil && len(replaced) == 0 {
		return nil // all is well
	}
	if err := r.unmark(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(replaced)) {
		if err := r.keep(name); err != nil {
			return err
		}
		if err := replaceFile(r.disk, name, replaced[name]); err != nil {
			return err
		}
	}
	return nil
}

// unmark takes the mark of the clean end away: something of the study is not as it was.
func (r *repair) unmark() error {
	if !closed(r.disk) {
		return nil
	}
	r.did(endFile, "it is taken away: the next run writes it again")
	if err := r.disk.Remove(endFile); err != nil {
		return err
	}
	return r.SyncDir(logDir)
}

// keep copies a file to the folder of damaged ones, beside earlier ones of its name.
func (r *repair) keep(name string) error {
	data, err := fs.ReadFile(r.disk, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = r.MakeDir(damagedDir)
	}
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	return replaceFile(r.disk, fmt.Sprintf("%s/%s.%x", damagedDir, strings.ReplaceAll(name, "/", "-"), sum[:4]), data)
}

func (r *repair) restoreConfig() error {
	data, err := fs.ReadFile(r.disk, configFile)
	if err == nil && bytes.Equal(data, r.config) {
		return nil
	}
	if err := r.keep(configFile); err != nil {
		return err
	}
	r.did(configFile, "it is restored from the log")
	return replaceFile(r.disk, configFile, r.config)
}

// removeDamaged takes away files whose contents the log does not know.
func (r *repair) removeDamaged() error {
	v := &Verification{Closed: closed(r.disk)}
	if err := v.verifyFiles(r.disk, r.index, true); err != nil {
		return err
	}
	for _, f := range v.Findings {
		if f.Severity != Damage {
			continue
		}
		if err := errors.Join(r.unmark(), r.keep(f.File)); err != nil {
			return err
		}
		what := "it is taken away: "
		if err := r.disk.Remove(f.File); errors.Is(err, fs.ErrNotExist) {
			what = "it is missing: "
		} else if err != nil {
			return err
		}
		if strings.HasPrefix(f.File, "inputs/") {
			what += "put a copy in its place before the search is run again"
		} else {
			what += "the search writes it when it is run again"
		}
		r.did(f.File, what)
	}
	return nil
}
