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

// newSegment creates the segment after the present one, with its header, in one step, and opens it. The first one also holds what the study
// begins with.
func (s *Study) newSegment() error {
	next := s.pos.segment + 1
	data := appendHeader(nil, next, s.fingerprint)
	if next == 1 {
		var err error
		if data, err = appendParts(data, typeOrigin, s.origin); err != nil {
			return err
		}
		for part := range slices.Chunk(s.config, maxPayload) {
			data = appendRecord(data, typeConfig, part)
		}
	}
	if err := s.unmark(); err != nil {
		return err
	}
	name := segmentName(next)
	if err := replaceFile(s.disk, name, data); err != nil {
		return err
	}
	out, err := s.disk.OpenAppend(name)
	if err != nil {
		return err
	}
	if s.out != nil {
		s.out.Close()
	}
	s.out, s.pos = out, position{segment: next, size: int64(len(data))}
	return nil
}

// unmark removes the mark of a clean end before anything is written behind it.
func (s *Study) unmark() error {
	if err := s.disk.Remove(endFile); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return s.disk.SyncDir(logDir)
}

// Append implements ga.Log: it writes the records that are new and returns once they are on disk. After an error nothing more can be written;
// what was acknowledged before is safe.
func (s *Study) Append(records []ga.Record) error {
	var b []byte
	var fresh []ga.Record
	for _, r := range records {
		r.Score = r.Score.Checked()
		if _, known := s.score(r.Hash, r.Image); !known {
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
		s.add(r)
	}
	return nil
}

// Commit implements ga.Log.
func (s *Study) Commit(snapshot *ga.Snapshot) error {
	known, err := snapshot.CheckNext(s.snapshots)
	if err != nil || known {
		return err
	}
	b, err := appendSnapshot(nil, snapshot)
	if err != nil {
		return err
	}
	if err := s.append(b); err != nil {
		return err
	}
	s.snapshots = append(s.snapshots, snapshot)
	return nil
}

// WriteFile gives a file of the study new contents in one step. Its hash is logged first, so that damage is found later. name is relative to
// the study, with slashes. The same contents again write nothing.
func (s *Study) WriteFile(name string, data []byte) error {
	if !fs.ValidPath(name) || name == "." || name == configFile || name == lockFile || strings.HasPrefix(name+"/", logDir+"/") || len(name) > maxPart {
		return fmt.Errorf("ecadx/study: %.80q cannot be the name of a file of a study", name)
	}
	sum := sha256.Sum256(data)
	if known := s.files[name]; len(known) == 0 || known[len(known)-1] != sum {
		if err := s.append(appendFile(nil, name, sum)); err != nil {
			return err
		}
		s.files[name] = append(known, sum)
	}
	err := s.disk.MakeDir(path.Dir(name))
	if err == nil {
		err = replaceFile(s.disk, name, data)
	}
	if err != nil && s.failed == nil {
		s.failed = s.located(fmt.Errorf("%s cannot be written: %w: make room or repair the disk, then run the same command again", name, err))
	}
	return s.failed
}

// ReadFile returns a file of the study that WriteFile has written. The error is a *CorruptError if its contents have changed since, and wraps
// fs.ErrNotExist if it was never written, or only half.
func (s *Study) ReadFile(name string) ([]byte, error) {
	data, err := fs.ReadFile(s.disk, name)
	known := s.files[name]
	switch {
	case err != nil:
		return nil, s.located(err)
	case len(known) == 0 || !slices.Contains(known, sha256.Sum256(data)):
		return nil, s.located(&CorruptError{File: name, What: "it has changed since it was written"})
	}
	return data, nil
}

// append writes records to the last segment and syncs them. A full segment is closed first, and before the first records of a process it is
// logged who writes.
func (s *Study) append(records []byte) error {
	if s.failed != nil {
		return s.failed
	}
	if s.pos.size >= s.limit {
		if err := s.unmark(); err != nil {
			return s.fail(err)
		}
		if err := s.write(appendEnd(nil, s.pos.segment+1)); err != nil {
			return err
		}
		if err := s.newSegment(); err != nil {
			return s.fail(err)
		}
	}
	var b []byte
	if !s.pos.synced {
		b = appendSynced(nil, s.pos.segment, s.pos.size)
	}
	if !s.begun {
		if err := s.unmark(); err != nil {
			return s.fail(err)
		}
		if len(s.session) > 0 {
			var err error
			if b, err = appendParts(b, typeSession, s.session); err != nil {
				return err
			}
		}
	}
	if err := s.write(append(b, records...)); err != nil {
		return err
	}
	if !s.begun && len(s.session) > 0 {
		s.sessions = append(s.sessions, Session{s.session, s.generations(), s.count()})
	}
	s.begun, s.pos.synced = true, false
	return nil
}

// write appends bytes to the last segment and syncs it. On an error it tries to take the bytes back, so that the log ends with a whole record
// even if nobody opens it again to repair it.
func (s *Study) write(b []byte) error {
	_, err := s.out.Write(b)
	if err == nil {
		err = s.out.Sync()
	}
	if err != nil {
		s.out.Truncate(s.pos.size) // best effort; reopening drops a torn end anyway
		return s.fail(err)
	}
	s.pos.size += int64(len(b))
	return nil
}

func (s *Study) fail(err error) error {
	s.failed = s.located(fmt.Errorf("%s: the log cannot be written: %w: make room or repair the disk, then run the same command again",
		segmentName(s.pos.segment), err))
	return s.failed
}
