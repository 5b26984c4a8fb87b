package study

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"ecadx/ga"
	"ecadx/schedule"
)

// Errors that callers tell apart.
var (
	// ErrLocked means that another process has the study open.
	ErrLocked = errors.New("the study is in use")
	// ErrDrift means that the study was begun with another configuration, other weights or other prompts.
	ErrDrift = errors.New("the study was begun with another configuration")
	// ErrNotStudy means that the directory holds something else.
	ErrNotStudy = errors.New("the directory is not a study")
	// ErrCorrupt means that a file of the study has changed after it was written.
	ErrCorrupt = errors.New("the study is damaged")
)

// CorruptError says where a study is damaged. It wraps ErrCorrupt.
type CorruptError struct {
	File   string
	Offset int64 // of the first bad byte or record
	What   string
	cause  error
}

// Error names file and offset.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: damaged at byte %d: %s: ecadx study verify lists all damage, ecadx study repair saves what is good",
		e.File, e.Offset, e.What)
}

// Unwrap returns ErrCorrupt and the cause, if there is one.
func (e *CorruptError) Unwrap() []error {
	if e.cause == nil {
		return []error{ErrCorrupt}
	}
	return []error{ErrCorrupt, e.cause}
}

// Options say what study is meant.
type Options struct {
	// Config is the canonical configuration: every default and every resolved value written out, so that equal searches have equal bytes.
	Config []byte
	// Origin names what else scores depend on, such as the hashes of weights and prompts, each name once, in any order. A study goes on under
	// the same origin only.
	Origin []Part
	// Session describes this process: what the log keeps about each one that writes to it, such as commit and time. Nothing depends on it.
	Session []Part
	// SegmentBytes is the size at which the log starts a new file; 0 means 64 MiB.
	SegmentBytes int64

	disk disk // nil: the file system
}

// Study is an open study directory. It implements ga.Log. It is for one goroutine at a time.
type Study struct {
	*index
	dir     string
	disk    disk
	lock    io.Closer
	limit   int64
	resumed bool
	dropped int64
	session []Part

	out    file // the last segment
	pos    position
	begun  bool  // this process has written to the log
	failed error // the error that ended writing
}

// Open opens the study in dir, or begins one if dir does not exist or is empty. Errors wrap ErrLocked, ErrDrift (a *DriftError that lists the
// keys), ErrNotStudy or ErrCorrupt (a *CorruptError with file and offset). The torn end that a killed process leaves in the log is dropped; see
// Dropped. The caller closes the study.
func Open(dir string, o Options) (*Study, error) {
	s := newStudy(dir, o)
	origin := slices.Clone(o.Origin)
	slices.SortStableFunc(origin, func(a, b Part) int { return strings.Compare(a.Name, b.Name) })
	s.origin, s.config = append([]Part{configPart(o.Config)}, origin...), o.Config
	if err := checkDir(s.disk); err != nil {
		return nil, s.located(err)
	}
	return s.enter(func(names []string) error { return s.open(names, o) })
}

// OpenExisting opens a study that has begun, under its own configuration and origin. Of the options session and segment size count.
func OpenExisting(dir string, o Options) (*Study, error) {
	s := newStudy(dir, o)
	if names, err := segments(s.disk); err == nil && len(names) == 0 {
		return nil, fmt.Errorf("%s: %w: it has no log: name the directory of a study", dir, ErrNotStudy)
	}
	return s.enter(func(names []string) error { return s.openLog(names) })
}

func newStudy(dir string, o Options) *Study {
	s := &Study{index: newIndex(), dir: dir, disk: o.disk, limit: o.SegmentBytes, session: o.Session}
	if s.disk == nil {
		s.disk = newOSDisk(dir)
	}
	if s.limit <= 0 {
		s.limit = 64 << 20
	}
	return s
}

// enter takes the lock and opens the study under it.
func (s *Study) enter(open func(names []string) error) (*Study, error) {
	err := s.disk.MakeDir(".")
	if err == nil {
		s.lock, err = s.disk.Lock()
	}
	if err != nil {
		return nil, s.located(err)
	}
	if err = s.disk.MakeDir(logDir); err == nil {
		s.removeTemporary()
		var names []string
		if names, err = segments(s.disk); err == nil {
			err = open(names)
		}
	}
	if err != nil {
		s.lock.Close()
		if s.out != nil {
			s.out.Close()
		}
		return nil, s.located(err)
	}
	return s, nil
}

// located makes an error name the study's directory.
func (s *Study) located(err error) error { return locate(s.dir, err) }

func locate(dir string, err error) error {
	var c *CorruptError
	if errors.As(err, &c) {
		c.File = filepath.Join(dir, filepath.FromSlash(c.File))
		return err
	}
	return fmt.Errorf("%s: %w", dir, err)
}

// checkDir returns ErrNotStudy if a directory holds something that is no beginning of a study.
func checkDir(d fs.FS) error {
	entries, err := fs.ReadDir(d, ".")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	foreign := ""
	for _, e := range entries {
		switch name := e.Name(); {
		case name == configFile:
			return nil
		case name == lockFile || name == logDir || strings.HasSuffix(name, temporary):
		default:
			foreign = name
		}
	}
	if names, err := segments(d); foreign != "" && err == nil && len(names) == 0 {
		return fmt.Errorf("%w: it holds %q but no config.toml: give an empty or a new directory", ErrNotStudy, foreign)
	}
	return nil
}

// FrozenConfig returns the configuration of the study in dir, or an error that wraps ErrNotStudy if there is none.
func FrozenConfig(dir string) ([]byte, error) {
	config, err := fs.ReadFile(newOSDisk(dir), configFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: it has no config.toml: name the directory of a study", dir, ErrNotStudy)
	}
	return config, err
}

// removeTemporary deletes files that a killed process was writing.
func (s *Study) removeTemporary() {
	for _, dir := range folders {
		entries, _ := fs.ReadDir(s.disk, dir)
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), temporary) {
				s.disk.Remove(path.Join(dir, e.Name())) // one that stays does no harm
			}
		}
	}
}

// open reads the study under the lock, or begins it.
func (s *Study) open(names []string, o Options) error {
	frozen, err := fs.ReadFile(s.disk, configFile)
	switch {
	case err == nil && len(names) > 0:
		wanted := s.origin
		s.origin, s.config = nil, nil
		if err := s.openLog(names); err != nil {
			return err
		}
		return s.checkOrigin(frozen, o.Config, wanted)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case len(names) > 0:
		return &CorruptError{File: configFile, What: "the file is missing", cause: err}
	}
	// New, or killed before the log began: nothing depends on the configuration yet.
	err = replaceFile(s.disk, configFile, o.Config)
	if err == nil {
		err = s.disk.SyncDir(".")
	}
	if err != nil {
		return err
	}
	s.fingerprint = fingerprint(s.origin)
	s.pos.ended = true
	return s.newSegment()
}

// openLog reads the log and opens its last segment for appending.
func (s *Study) openLog(names []string) error {
	var err error
	s.resumed = true
	if s.pos, err = s.read(s.disk, names); err != nil {
		return err
	}
	s.dropped = s.pos.torn
	if s.out, err = s.disk.OpenAppend(segmentName(s.pos.segment)); err != nil {
		return err
	}
	if s.dropped > 0 {
		if err := s.out.Truncate(s.pos.size); err != nil {
			return err
		}
	}
	if !closed(s.disk) {
		if err := s.settle(); err != nil {
			return err
		}
	}
	if s.pos.ended {
		return s.newSegment()
	}
	return nil
}

// folders are the directories that a study writes files in.
var folders = []string{".", logDir, "schedules", "samples", "inputs"}

// settle makes durable what a process has written that was killed before it synced: the end of the log, and names.
func (s *Study) settle() error {
	if err := s.out.Sync(); err != nil {
		return err
	}
	for _, dir := range folders {
		if err := s.disk.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// checkOrigin compares the frozen configuration with the present one and with the origin in the log.
func (s *Study) checkOrigin(frozen, config []byte, wanted []Part) error {
	if !bytes.Equal(frozen, s.config) {
		return &CorruptError{File: configFile, What: "it is not the configuration that the study was begun with"}
	}
	var diff []Difference
	if !bytes.Equal(frozen, config) {
		if diff = compareConfigs(frozen, config); len(diff) == 0 {
			diff = []Difference{{configFile, fmt.Sprintf("%d bytes", len(frozen)), fmt.Sprintf("%d bytes of other layout", len(config))}}
		}
	}
	diff = append(diff, compareParts(s.origin[1:], wanted[1:])...)
	if len(diff) > 0 {
		return &DriftError{Dir: s.dir, Differences: diff}
	}
	return nil
}

// configPart is the first part of every origin.
func configPart(config []byte) Part {
	sum := sha256.Sum256(config)
	return Part{"config", hex.EncodeToString(sum[:])}
}

// fingerprint hashes the parts in order.
func fingerprint(parts []Part) [32]byte {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s%d:%s", len(p.Name), p.Name, len(p.Value), p.Value)
	}
	return [32]byte(h.Sum(nil))
}

// Dir returns the directory.
func (s *Study) Dir() string { return s.dir }

// Resumed reports whether the study had begun before it was opened.
func (s *Study) Resumed() bool { return s.resumed }

// Dropped returns how many bytes of a torn append Open has cut off the log.
func (s *Study) Dropped() int64 { return s.dropped }

// Scores returns how many scores the log holds.
func (s *Study) Scores() int { return s.count() }

// Generations returns how many generations the log holds.
func (s *Study) Generations() int { return s.generations() }

// Fingerprint returns the hash of configuration and origin.
func (s *Study) Fingerprint() [32]byte { return s.fingerprint }

// Changed lists what is other about this process than about the last one that wrote, among the parts that both name.
func (s *Study) Changed() []Difference {
	if len(s.sessions) == 0 {
		return nil
	}
	return slices.DeleteFunc(compareParts(s.sessions[len(s.sessions)-1].Parts, s.session), func(d Difference) bool { return d.Study == "" || d.Now == "" })
}

// Score implements ga.Log.
func (s *Study) Score(h schedule.Hash, image ga.ImageID) (ga.Score, bool) { return s.score(h, image) }

// Snapshot implements ga.Log.
func (s *Study) Snapshot(generation int) (*ga.Snapshot, bool) {
	if generation < 0 || generation >= len(s.snapshots) {
		return nil, false
	}
	return s.snapshots[generation], true
}

// Close marks where the log ends, and gives up files and lock. The study must not be used afterwards.
func (s *Study) Close() error {
	var err error
	if s.failed == nil && !closed(s.disk) {
		if !s.pos.synced {
			err = s.write(appendSynced(nil, s.pos.segment, s.pos.size))
		}
		if err == nil {
			err = replaceFile(s.disk, endFile, endText(s.pos))
		}
	}
	if s.out != nil {
		err = errors.Join(err, s.out.Close())
	}
	if err = errors.Join(err, s.lock.Close()); err != nil {
		return s.located(err)
	}
	return nil
}
