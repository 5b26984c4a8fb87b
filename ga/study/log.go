package study

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"ecadx/ga"
)

const segmentSuffix = ".ecadlog"

func (s *Study) segmentPath(number uint32) string {
	return filepath.Join(s.dir, "log", fmt.Sprintf("%06d%s", number, segmentSuffix))
}

// segments lists the files of the log in order and checks that none is missing.
func (s *Study) segments() ([]string, error) {
	dir := filepath.Join(s.dir, "log")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries { // sorted by name
		name := e.Name()
		if strings.HasSuffix(name, temporary) {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(name, segmentSuffix), 10, 32)
		if err != nil || name != filepath.Base(s.segmentPath(uint32(n))) {
			return nil, &CorruptError{File: filepath.Join(dir, name), What: "this file is no part of a log"}
		}
		if want := uint32(len(paths) + 1); uint32(n) != want {
			return nil, &CorruptError{File: s.segmentPath(want), What: "the file is missing"}
		}
		paths = append(paths, filepath.Join(dir, name))
	}
	return paths, nil
}

// corrupt returns a *CorruptError, unless the file is just of another version.
func corrupt(path string, at int, cause error) error {
	var v versionError
	if errors.As(cause, &v) {
		return fmt.Errorf("%s: %w", path, v)
	}
	return &CorruptError{File: path, Offset: int64(at), What: cause.Error(), cause: cause}
}

// readOrigin reads the origin at the start of the first segment.
func readOrigin(path string) ([]Part, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(segmentHead+recordHead+maxPayload)))
	if err != nil {
		return nil, err
	}
	if _, _, err := parseHeader(data); err != nil {
		return nil, corrupt(path, 0, err)
	}
	t, payload, _, err := nextRecord(data[segmentHead:])
	if err == nil && t != typeOrigin {
		err = errors.New("the log does not start with its origin")
	}
	var parts []Part
	if err == nil {
		parts, err = parseOrigin(payload)
	}
	if err != nil {
		return nil, corrupt(path, segmentHead, err)
	}
	return parts, nil
}

// openLog reads all segments and opens the last for appending, making the first or a next one where needed.
func (s *Study) openLog(paths []string) error {
	ended := true
	for i, path := range paths {
		s.segment = uint32(i + 1)
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		last := i == len(paths)-1
		good, end, err := s.readSegment(path, data, last)
		if err != nil {
			return err
		}
		ended, s.size = end, int64(good)
		s.dropped += int64(len(data) - good)
	}
	if ended {
		return s.newSegment()
	}
	var err error
	if s.out, err = s.disk.OpenAppend(paths[len(paths)-1]); err != nil {
		return err
	}
	if s.dropped > 0 {
		if err := s.out.Truncate(s.size); err != nil {
			return err
		}
	}
	// The process that wrote the tail may have been killed before it synced.
	return s.out.Sync()
}

// newSegment creates the segment after the present one, with its header, in one step, and opens it.
func (s *Study) newSegment() error {
	next := s.segment + 1
	data := appendHeader(nil, next, s.fingerprint)
	if next == 1 {
		var err error
		if data, err = appendOrigin(data, s.origin); err != nil {
			return err
		}
	}
	path := s.segmentPath(next)
	if err := replaceFile(s.disk, path, data); err != nil {
		return err
	}
	out, err := s.disk.OpenAppend(path)
	if err != nil {
		return err
	}
	if s.out != nil {
		s.out.Close()
	}
	s.out, s.segment, s.size, s.synced = out, next, int64(len(data)), false
	return nil
}

// readSegment takes in the records of a segment and returns how many bytes of it are good and whether it was closed by
// an end record. Only the last segment may have a torn end.
func (s *Study) readSegment(path string, data []byte, last bool) (good int, ended bool, err error) {
	number, print, err := parseHeader(data)
	if err != nil {
		return 0, false, corrupt(path, 0, err)
	}
	if number != s.segment || print != s.fingerprint {
		return 0, false, corrupt(path, 0, errors.New("the file belongs to another place or another study"))
	}
	at := segmentHead
	for at < len(data) {
		if ended {
			return 0, false, corrupt(path, at, errors.New("there are records after the end of the segment"))
		}
		t, payload, size, err := nextRecord(data[at:])
		if err != nil {
			// Header and origin were put in place in one step, so a cut there is no torn append.
			if last && (number > 1 || at > segmentHead) && findSynced(data, number, at) < 0 {
				return at, false, nil
			}
			return 0, false, corrupt(path, at, err)
		}
		if ended, err = s.take(t, payload, at); err != nil {
			return 0, false, corrupt(path, at, err)
		}
		s.synced = t == typeSynced
		at += size
	}
	if !last && !ended {
		return 0, false, corrupt(path, at, errors.New("the segment is not complete"))
	}
	return at, ended, nil
}

// take adds one record at offset at of the present segment to the index.
func (s *Study) take(t recordType, p []byte, at int) (end bool, err error) {
	switch t {
	case typeOrigin:
		if s.segment != 1 || at != segmentHead {
			return false, errors.New("an origin record in the middle of the log")
		}
	case typeScore, typeInvalid:
		r, err := parseScore(t, p)
		if err != nil {
			return false, err
		}
		s.index(r)
	case typeCommit:
		c, err := parseCommit(p)
		if err != nil {
			return false, err
		}
		if c.Generation != len(s.commits)+1 {
			return false, fmt.Errorf("generation %d follows generation %d", c.Generation, len(s.commits))
		}
		s.commits = append(s.commits, c)
	case typeSynced:
		if !isSynced(p, s.segment, at) {
			return false, errors.New("a synced record from another place")
		}
	case typeEnd:
		return true, nil
	default:
		return false, fmt.Errorf("a record of unknown type %d", t)
	}
	return false, nil
}

// index remembers a score; the first one of a schedule and image stays.
func (s *Study) index(r ga.Record) {
	list := s.scores[r.Hash]
	if list == nil {
		list = new(scoreList)
		s.scores[r.Hash] = list
	}
	if r.Score.Invalid == "" {
		list.add(r.Image, r.Score.Value)
		return
	}
	list.add(r.Image, math.NaN())
	key := reasonKey{r.Hash, r.Image}
	if _, known := s.reasons[key]; !known {
		s.reasons[key] = r.Score.Invalid
	}
}

// Append implements ga.Log: it writes the records that are new and returns once they are on disk. After an error
// nothing more can be written; what was acknowledged before is safe.
func (s *Study) Append(records []ga.Record) error {
	var b []byte
	var fresh []ga.Record
	for _, r := range records {
		r.Score = r.Score.Checked()
		if _, known := s.Score(r.Hash, r.Image); !known {
			fresh = append(fresh, r)
			b = appendScore(b, r)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := s.append(b); err != nil {
		return err
	}
	for _, r := range fresh {
		s.index(r)
	}
	return nil
}

// Commit implements ga.Log.
func (s *Study) Commit(c ga.Commit) error {
	i := c.Generation - 1
	if i < 0 || i > len(s.commits) {
		return fmt.Errorf("%w: generation %d is committed after generation %d", ga.ErrDiverged, c.Generation, len(s.commits))
	}
	if i < len(s.commits) {
		return ga.SameCommit(s.commits[i], c)
	}
	if err := s.append(appendCommit(nil, c)); err != nil {
		return err
	}
	s.commits = append(s.commits, c)
	return nil
}

// append writes records to the last segment and syncs them. A full segment is closed first.
func (s *Study) append(records []byte) error {
	if s.failed == nil && s.size >= s.limit {
		if err := s.write(appendEnd(nil, s.segment+1)); err != nil {
			return err
		}
		if err := s.newSegment(); err != nil {
			return s.fail(err)
		}
	}
	b := records
	if !s.synced {
		b = append(appendSynced(nil, s.segment, s.size), records...)
	}
	s.synced = false
	return s.write(b)
}

// write appends bytes to the last segment and syncs it. On an error it tries to take the bytes back, so that the log
// ends with a whole record even if nobody opens it again to repair it.
func (s *Study) write(b []byte) error {
	if s.failed != nil {
		return s.failed
	}
	_, err := s.out.Write(b)
	if err == nil {
		err = s.out.Sync()
	}
	if err != nil {
		s.out.Truncate(s.size) // best effort; reopening drops a torn end anyway
		return s.fail(err)
	}
	s.size += int64(len(b))
	return nil
}

func (s *Study) fail(err error) error {
	s.failed = fmt.Errorf("%s: the log cannot be written: %w: make room or repair the disk, then run the same command again",
		s.segmentPath(s.segment), err)
	return s.failed
}
