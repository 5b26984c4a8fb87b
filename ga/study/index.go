package study

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"

	"ecadx/ga"
	"ecadx/schedule"
)

const (
	lockFile      = "LOCK"
	configFile    = "config.toml"
	logDir        = "log"
	segmentSuffix = ".ecadlog"
)

func segmentName(number uint32) string {
	return fmt.Sprintf("%s/%06d%s", logDir, number, segmentSuffix)
}

// index is what a log says.
type index struct {
	fingerprint [32]byte
	origin      []Part
	config      []byte // as it was frozen
	scores      map[schedule.Hash]*scoreList
	reasons     map[reasonKey]string
	snapshots   []*ga.Snapshot
	pending     []ga.Evaluation // candidates whose commit is still to come
	files       map[string][][32]byte
	sessions    []Session
}

type reasonKey struct {
	hash  schedule.Hash
	image ga.ImageID
}

// Session is a process that has written to a study, and the place in the study where it began.
type Session struct {
	Parts []Part
	// Generations and Scores are those that the log held.
	Generations, Scores int
}

func newIndex() *index {
	return &index{scores: make(map[schedule.Hash]*scoreList), reasons: make(map[reasonKey]string), files: make(map[string][][32]byte)}
}

// segments lists the files of the log in order and checks that none is missing. No log at all is no error.
func segments(d fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(d, logDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries { // sorted by name
		name := path.Join(logDir, e.Name())
		if strings.HasSuffix(name, temporary) || name == endFile {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(e.Name(), segmentSuffix), 10, 32)
		if err != nil || name != segmentName(uint32(n)) {
			return nil, &CorruptError{File: name, What: "this file is no part of a log"}
		}
		if want := uint32(len(names) + 1); uint32(n) != want {
			return nil, &CorruptError{File: segmentName(want), What: "the file is missing"}
		}
		names = append(names, name)
	}
	return names, nil
}

// corrupt returns a *CorruptError, unless the file is just of another version.
func corrupt(name string, at int, cause error) error {
	var v versionError
	if errors.As(cause, &v) {
		return fmt.Errorf("%s: %w", name, v)
	}
	return &CorruptError{File: name, Offset: int64(at), What: cause.Error(), cause: cause}
}

// position is where a log ends.
type position struct {
	segment uint32 // 0: there is no log
	size    int64  // of its good bytes
	torn    int64  // bytes after them
	ended   bool   // the segment is full and closed
	synced  bool   // the last record is a synced record
}

// read takes in all segments and checks them against the mark of a clean end.
func (x *index) read(d fs.FS, names []string) (position, error) {
	pos := position{ended: true}
	for i, name := range names {
		data, err := fs.ReadFile(d, name)
		if err != nil {
			return pos, err
		}
		pos.segment = uint32(i + 1)
		if i == 0 {
			if _, x.fingerprint, err = parseHeader(data); err != nil {
				return pos, corrupt(name, 0, err)
			}
		}
		good, end, synced, err := x.readSegment(name, pos.segment, data, i == len(names)-1)
		if err != nil {
			return pos, err
		}
		pos.size, pos.torn, pos.ended, pos.synced = int64(good), int64(len(data)-good), end, synced
	}
	if len(names) == 0 {
		return pos, nil
	}
	if x.fingerprint != fingerprint(x.origin) {
		return pos, corrupt(names[0], 0, errors.New("the header does not belong to the origin that follows it"))
	}
	if !x.founded() {
		return pos, corrupt(names[0], segmentHead, errors.New("the configuration in the log is not that of the origin"))
	}
	x.pending = nil
	return pos, checkEnd(d, pos)
}

// founded reports whether the log has its whole beginning: the origin, and the configuration that belongs to it.
func (x *index) founded() bool { return len(x.origin) > 0 && x.origin[0] == configPart(x.config) }

// readSegment takes in the records of a segment and returns how many bytes of it are good, whether it was closed by an end record, and whether
// its last record is a synced one. Only the last segment may have a torn end.
func (x *index) readSegment(name string, number uint32, data []byte, last bool) (good int, ended, synced bool, err error) {
	have, print, err := parseHeader(data)
	if err != nil {
		return 0, false, false, corrupt(name, 0, err)
	}
	if have != number || print != x.fingerprint {
		return 0, false, false, corrupt(name, 0, errors.New("the file belongs to another place or another study"))
	}
	at := segmentHead
	for at < len(data) {
		if ended {
			return 0, false, false, corrupt(name, at, errors.New("there are records after the end of the segment"))
		}
		t, payload, size, err := nextRecord(data[at:])
		if err != nil {
			// Header, origin and configuration were put in place in one step, so a cut there is no torn append.
			if last && (number > 1 || x.founded()) && findSynced(data, number, at) < 0 {
				return at, false, synced, nil
			}
			return 0, false, false, corrupt(name, at, err)
		}
		if ended, err = x.take(t, payload, number, at); err != nil {
			return 0, false, false, corrupt(name, at, err)
		}
		synced = t == typeSynced
		at += size
	}
	if !last && !ended {
		return 0, false, false, corrupt(name, at, errors.New("the segment is not complete"))
	}
	return at, ended, synced, nil
}

// take adds one record at offset at of a segment.
func (x *index) take(t recordType, p []byte, segment uint32, at int) (end bool, err error) {
	if t != typeCandidate && t != typeCommit {
		x.pending = nil // of an append that was never finished
	}
	switch t {
	case typeOrigin:
		if segment != 1 || at != segmentHead {
			return false, errors.New("an origin record in the middle of the log")
		}
		x.origin, err = parseParts(p)
		return false, err
	case typeConfig:
		x.config = append(x.config, p...)
	case typeScore, typeInvalid:
		r, err := parseScore(t, p)
		if err != nil {
			return false, err
		}
		x.add(r)
	case typeCandidate:
		g, e, err := parseCandidate(p)
		if err != nil {
			return false, err
		}
		if g != len(x.snapshots) {
			return false, fmt.Errorf("a candidate of generation %d follows generation %d", g, len(x.snapshots)-1)
		}
		x.pending = append(x.pending, e)
	case typeCommit:
		s, n, err := parseCommit(p)
		if err != nil {
			return false, err
		}
		if s.Generation != len(x.snapshots) || n != len(x.pending) {
			return false, fmt.Errorf("generation %d with %d of %d candidates follows generation %d", s.Generation, len(x.pending), n, len(x.snapshots)-1)
		}
		s.Candidates, x.pending = x.pending, nil
		x.snapshots = append(x.snapshots, s)
	case typeFile:
		name, sum, err := parseFile(p)
		if err != nil {
			return false, err
		}
		x.files[name] = append(x.files[name], sum)
	case typeSession:
		parts, err := parseParts(p)
		if err != nil {
			return false, err
		}
		x.sessions = append(x.sessions, Session{parts, x.generations(), x.count()})
	case typeSynced:
		if !isSynced(p, segment, at) {
			return false, errors.New("a synced record from another place")
		}
	case typeEnd:
		return true, nil
	default:
		return false, fmt.Errorf("a record of unknown type %d", t)
	}
	return false, nil
}

// add remembers a score; the first one of a schedule and image stays.
func (x *index) add(r ga.Record) {
	list := x.scores[r.Hash]
	if list == nil {
		list = new(scoreList)
		x.scores[r.Hash] = list
	}
	if r.Score.Invalid == "" {
		list.add(r.Image, r.Score.Value)
		return
	}
	list.add(r.Image, math.NaN())
	key := reasonKey{r.Hash, r.Image}
	if _, known := x.reasons[key]; !known {
		x.reasons[key] = r.Score.Invalid
	}
}

// score returns the score of a schedule on an image, if there is one.
func (x *index) score(h schedule.Hash, image ga.ImageID) (ga.Score, bool) {
	list := x.scores[h]
	if list == nil {
		return ga.Score{}, false
	}
	v, ok := list.get(image)
	if ok && v != v {
		return ga.Score{Invalid: x.reasons[reasonKey{h, image}]}, true
	}
	return ga.Score{Value: v}, ok
}

// count returns the number of scores.
func (x *index) count() int {
	n := 0
	for _, l := range x.scores {
		l.tidy()
		n += len(l.images)
	}
	return n
}

// generations returns how many generations are finished; the snapshot of generation 0 is none.
func (x *index) generations() int { return max(0, len(x.snapshots)-1) }

// scoreList holds the scores of one schedule; NaN stands for an invalid score. It takes 12 bytes a score, less than its
// record in the log.
type scoreList struct {
	images []ga.ImageID
	values []float64
	// unsorted says that images must be sorted before they are searched. Scores arrive nearly always in image order.
	unsorted bool
}

// Len, Less and Swap sort by image.
func (l *scoreList) Len() int           { return len(l.images) }
func (l *scoreList) Less(i, j int) bool { return l.images[i] < l.images[j] }
func (l *scoreList) Swap(i, j int) {
	l.images[i], l.images[j] = l.images[j], l.images[i]
	l.values[i], l.values[j] = l.values[j], l.values[i]
}

// add appends a score. Of several scores of an image the first added is the one that get returns.
func (l *scoreList) add(image ga.ImageID, v float64) {
	if n := len(l.images); n > 0 && l.images[n-1] >= image {
		l.unsorted = true
	}
	l.images = append(l.images, image)
	l.values = append(l.values, v)
}

// tidy sorts the list and drops repeated images.
func (l *scoreList) tidy() {
	if !l.unsorted {
		return
	}
	sort.Stable(l)
	n := 0
	for i, image := range l.images {
		if i == 0 || image != l.images[n-1] {
			l.images[n], l.values[n] = image, l.values[i]
			n++
		}
	}
	l.images, l.values, l.unsorted = l.images[:n], l.values[:n], false
}

func (l *scoreList) get(image ga.ImageID) (float64, bool) {
	l.tidy()
	i, ok := slices.BinarySearch(l.images, image)
	if !ok {
		return 0, false
	}
	return l.values[i], true
}
