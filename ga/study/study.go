package study

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
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
	return fmt.Sprintf("%s: damaged at byte %d: %s: restore the file from a copy, or start again in another directory",
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
	// Config is the canonical configuration: every default and every resolved value written out, so that equal
	// searches have equal bytes.
	Config []byte
	// Origin names what else scores depend on, such as the hashes of weights and prompts, each name once, in any order.
	Origin []Part
	// SegmentBytes is the size at which the log starts a new file; 0 means 64 MiB.
	SegmentBytes int64

	disk disk // nil: the file system
}

// Study is an open study directory. It implements ga.Log. It is for one goroutine at a time.
type Study struct {
	dir     string
	disk    disk
	lock    *os.File
	limit   int64
	resumed bool
	dropped int64

	fingerprint [32]byte
	origin      []Part
	out         file   // the last segment
	segment     uint32 // its number
	size        int64  // its size
	synced      bool   // its last record is a synced record
	failed      error  // the error that ended writing

	scores  map[schedule.Hash]*scoreList
	reasons map[reasonKey]string
	commits []ga.Commit
}

type reasonKey struct {
	hash  schedule.Hash
	image ga.ImageID
}

// Open opens the study in dir, or begins one if dir does not exist or is empty. Errors wrap ErrLocked, ErrDrift (a
// *DriftError that lists the keys), ErrNotStudy or ErrCorrupt (a *CorruptError with file and offset). The torn end that
// a killed process leaves in the log is dropped; see Dropped. The caller closes the study.
func Open(dir string, o Options) (*Study, error) {
	s := &Study{dir: dir, disk: o.disk, limit: o.SegmentBytes, scores: make(map[schedule.Hash]*scoreList),
		reasons: make(map[reasonKey]string)}
	if s.disk == nil {
		s.disk = osDisk{}
	}
	if s.limit <= 0 {
		s.limit = 64 << 20
	}
	origin := slices.Clone(o.Origin)
	slices.SortStableFunc(origin, func(a, b Part) int { return strings.Compare(a.Name, b.Name) })
	s.origin = append([]Part{configPart(o.Config)}, origin...)
	s.fingerprint = fingerprint(s.origin)
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o777); err != nil {
		return nil, err
	}
	var err error
	if s.lock, err = acquireLock(filepath.Join(dir, "LOCK")); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if err := s.open(o.Config); err != nil {
		s.lock.Close()
		if s.out != nil {
			s.out.Close()
		}
		return nil, err
	}
	return s, nil
}

// checkDir returns ErrNotStudy if dir holds something that is no beginning of a study.
func checkDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	foreign := ""
	for _, e := range entries {
		switch name := e.Name(); {
		case name == "config.toml":
			return nil
		case name == "LOCK" || name == "log" || strings.HasSuffix(name, temporary):
		default:
			foreign = name
		}
	}
	if foreign != "" {
		return fmt.Errorf("%s: %w: it holds %q but no config.toml: give an empty or a new directory", dir, ErrNotStudy, foreign)
	}
	return nil
}

// FrozenConfig returns the configuration of the study in dir, or an error that wraps ErrNotStudy if there is none.
func FrozenConfig(dir string) ([]byte, error) {
	config, err := os.ReadFile(filepath.Join(dir, "config.toml"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: it has no config.toml: name the directory of a study", dir, ErrNotStudy)
	}
	return config, err
}

// removeTemporary deletes files that a killed process was writing.
func (s *Study) removeTemporary() {
	for _, sub := range []string{"", "log", "schedules"} {
		left, _ := filepath.Glob(filepath.Join(escapeGlob(s.dir), sub, "*"+temporary))
		for _, path := range left {
			os.Remove(path) // one that stays does no harm
		}
	}
}

// escapeGlob makes a path match itself.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// open reads the study under the lock.
func (s *Study) open(config []byte) error {
	s.removeTemporary()
	path := filepath.Join(s.dir, "config.toml")
	frozen, err := os.ReadFile(path)
	segments, listErr := s.segments()
	switch {
	case listErr != nil:
		return listErr
	case err == nil && len(segments) > 0:
		if err := s.checkConfig(path, frozen, config, segments[0]); err != nil {
			return err
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case len(segments) > 0:
		return &CorruptError{File: path, What: "the file is missing", cause: err}
	default:
		// New, or killed before the log began: nothing depends on the configuration yet.
		if err := replaceFile(s.disk, path, config); err != nil {
			return err
		}
		if err := s.disk.SyncDir(filepath.Dir(filepath.Clean(s.dir))); err != nil {
			return err
		}
	}
	s.resumed = len(segments) > 0
	return s.openLog(segments)
}

// checkConfig compares the frozen configuration with the present one and with the origin in the log.
func (s *Study) checkConfig(path string, frozen, config []byte, first string) error {
	origin, err := readOrigin(first)
	if err != nil {
		return err
	}
	if len(origin) == 0 || origin[0] != configPart(frozen) {
		return &CorruptError{File: path, What: "it is not the configuration that the study was begun with"}
	}
	var diff []Difference
	if !bytes.Equal(frozen, config) {
		if diff = compareConfigs(frozen, config); len(diff) == 0 {
			diff = []Difference{{"config.toml", fmt.Sprintf("%d bytes", len(frozen)), fmt.Sprintf("%d bytes of other layout", len(config))}}
		}
	}
	diff = append(diff, compareParts(origin[1:], s.origin[1:])...)
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
func (s *Study) Scores() int {
	n := 0
	for _, l := range s.scores {
		l.tidy()
		n += len(l.images)
	}
	return n
}

// Generations returns how many generations the log holds.
func (s *Study) Generations() int { return len(s.commits) }

// Fingerprint returns the hash of configuration and origin.
func (s *Study) Fingerprint() [32]byte { return s.fingerprint }

// Close marks the log as complete, and gives up files and lock. The study must not be used afterwards.
func (s *Study) Close() error {
	var err error
	if s.failed == nil && !s.synced {
		err = s.write(appendSynced(nil, s.segment, s.size))
		s.synced = err == nil
	}
	if s.out != nil {
		err = errors.Join(err, s.out.Close())
	}
	return errors.Join(err, s.lock.Close())
}

// Score implements ga.Log.
func (s *Study) Score(h schedule.Hash, image ga.ImageID) (ga.Score, bool) {
	list := s.scores[h]
	if list == nil {
		return ga.Score{}, false
	}
	v, ok := list.get(image)
	if ok && v != v {
		return ga.Score{Invalid: s.reasons[reasonKey{h, image}]}, true
	}
	return ga.Score{Value: v}, ok
}

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
