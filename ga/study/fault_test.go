package study

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ecadx/ga"
)

// recordEnds returns the offset of every record end in a segment, the header's end first.
func recordEnds(t *testing.T, data []byte) []int {
	t.Helper()
	ends := []int{segmentHead}
	for at := segmentHead; at < len(data); {
		_, _, size, err := nextRecord(data[at:])
		if err != nil {
			t.Fatal(err)
		}
		at += size
		ends = append(ends, at)
	}
	return ends
}

// TestEveryPrefix cuts the log after every byte, as a kill at that moment would, and resumes. Opening must leave exactly
// the whole records, so the search itself is run once per record.
func TestEveryPrefix(t *testing.T) {
	want, done, total := whole(t)
	log := readFile(t, firstSegment(done))
	ends := recordEnds(t, log)
	dir := t.TempDir()
	cfg, o := smallSearch(t), testOptions()
	writeFile(t, filepath.Join(dir, "config.toml"), testConfig)
	if err := os.Mkdir(filepath.Join(dir, "log"), 0o777); err != nil {
		t.Fatal(err)
	}
	left := total + 1
	first := slices.Index(ends, founded(t, log))
	for k, end := range ends {
		if k < first {
			continue
		}
		k--
		next := len(log) + 1
		if k+2 < len(ends) {
			next = ends[k+2]
		}
		for n := end; n < next && n <= len(log); n++ {
			if good, _, err := freshReader().segment(log[:n], true); err != nil || good != end {
				t.Fatalf("%d bytes of %d: %d bytes good, want %d: %v", n, len(log), good, end, err)
			}
		}
		n := min(end+1+k%40, next-1)
		writeFile(t, firstSegment(dir), log[:n])
		os.Remove(filepath.Join(dir, endFile)) // whose writer was killed
		if s, err := openLazy(dir, o); err != nil || s.Dropped() != int64(n-end) {
			t.Fatalf("%d bytes of %d: %v", n, len(log), err)
		} else { // without the record that Close adds
			s.out.Close()
			s.lock.Close()
		}
		if !bytes.Equal(readFile(t, firstSegment(dir)), log[:end]) {
			t.Fatalf("%d bytes of %d: the torn record was not cut off", n, len(log))
		}
		e := &synthetic{}
		s, err := openLazy(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		sameFront(t, fmt.Sprintf("%d bytes of %d", end, len(log)), frontOf(t, s, cfg, e), want)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if e.images > left {
			t.Fatalf("%d bytes of %d: %d images evaluated, %d with less log", end, len(log), e.images, left)
		}
		left = e.images
	}
	if left != 0 {
		t.Errorf("the whole log still needs %d images", left)
	}
	for n := range founded(t, log) { // header, origin and configuration come by rename, whole: this is damage, and said so
		writeFile(t, firstSegment(dir), log[:n])
		os.Remove(filepath.Join(dir, endFile))
		if _, err := openLazy(dir, o); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d bytes of %d: error %v, want ErrCorrupt", n, len(log), err)
		}
	}
}

// reader reads the first segment of a test's log.
type reader struct{ *index }

func freshReader() reader {
	x := newIndex()
	x.fingerprint = fingerprint(append([]Part{configPart(testConfig)}, testOptions().Origin...))
	return reader{x}
}

func (r reader) segment(data []byte, last bool) (good int, ended bool, err error) {
	good, ended, _, err = r.readSegment("log", 1, data, last)
	return good, ended, err
}

// founded is where the part of a first segment ends that is put in place in one step.
func founded(t *testing.T, log []byte) int {
	t.Helper()
	at := segmentHead
	for {
		kind, _, size, err := nextRecord(log[at:])
		if err != nil {
			t.Fatal(err)
		}
		if kind != typeOrigin && kind != typeConfig {
			return at
		}
		at += size
	}
}

// frontOf runs the search on an open study and returns what front.json would be.
func frontOf(t *testing.T, s *Study, cfg ga.Config, e ga.Evaluator) []byte {
	t.Helper()
	res, err := ga.Run(context.Background(), cfg, deps(e, s))
	if err != nil {
		t.Fatal(err)
	}
	front, err := NewFront(res, "scene", "macs").Encode()
	if err != nil {
		t.Fatal(err)
	}
	return front
}

// TestEveryBit flips every single bit of a small study. It is detected, or it makes no difference.
func TestEveryBit(t *testing.T) {
	want, done, _ := whole(t)
	log := readFile(t, firstSegment(done))
	ends := recordEnds(t, log)
	lastRecord := ends[len(ends)-2] // a synced record: damage there looks like a torn append, and costs nothing
	if good, _, err := freshReader().segment(log, true); err != nil || good != len(log) {
		t.Fatalf("the undamaged log: %d bytes good, %v", good, err)
	}
	for bit := range 8 * len(log) {
		if raceEnabled && bit%11 != 0 {
			continue
		}
		log[bit/8] ^= 1 << (bit % 8)
		good, _, err := freshReader().segment(log, true)
		log[bit/8] ^= 1 << (bit % 8)
		var c *CorruptError
		switch {
		case bit/8 >= lastRecord:
			if err != nil || good != lastRecord {
				t.Fatalf("bit %d, in the last record: %d bytes good, %v", bit, good, err)
			}
		case !errors.As(err, &c):
			t.Fatalf("bit %d at byte %d is not detected: %v", bit, bit/8, err)
		case c.Offset > int64(bit/8) || int64(bit/8) >= c.Offset+recordHead+400:
			t.Fatalf("bit %d at byte %d is reported at byte %d", bit, bit/8, c.Offset)
		}
	}
	// Through the files, for some bits of each.
	dir := filepath.Join(t.TempDir(), "study")
	copyTree(t, done, dir)
	o := testOptions()
	for _, name := range []string{"config.toml", filepath.Join("log", "000001.ecadlog")} {
		path := filepath.Join(dir, name)
		data := readFile(t, filepath.Join(done, name))
		for at := 0; at < len(data); at += 1 + len(data)/60 {
			data[at] ^= 1 << (at % 8)
			writeFile(t, path, data)
			data[at] ^= 1 << (at % 8)
			if _, err := openLazy(dir, o); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) {
				t.Fatalf("%s, byte %d: %v", name, at, err)
			}
		}
		writeFile(t, path, data)
	}
	data := append([]byte(nil), log...)
	data[len(data)-1] ^= 1
	writeFile(t, firstSegment(dir), data)
	if err := os.Remove(filepath.Join(dir, endFile)); err != nil { // as if its writer had been killed
		t.Fatal(err)
	}
	got, err := runStudy(dir, o, smallSearch(t), &synthetic{})
	if err != nil {
		t.Fatal(err)
	}
	sameFront(t, "the last record damaged", got, want)
}

// TestInterrupt sends a child SIGINT: it saves, leaves with 130, and goes on when run again.
func TestInterrupt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "study")
	c := child(dir, "ecad", 0)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	log := firstSegment(dir)
	for { // until something was evaluated
		if info, err := os.Stat(log); err == nil && info.Size() > 1000 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	c.Process.Signal(syscall.SIGINT)
	c.Wait()
	if code := c.ProcessState.ExitCode(); code != 130 {
		t.Fatalf("exit code %d, want 130", code)
	}
	s, err := Open(dir, testOptions())
	if err != nil || s.Dropped() != 0 || !s.Resumed() || s.Scores() == 0 {
		t.Fatalf("the interrupted study: %v", err)
	}
	s.Close()
	if out, err := child(dir, "ecad", 0).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestDiskFull runs out of space after every number of bytes, then has space again: a clean stop, nothing lost, nothing repeated but the batch
// at work.
func TestDiskFull(t *testing.T) {
	_, want, images := tinyStudy(t)
	cfg, o := tinySearch(t), testOptions()
	step := 1
	if raceEnabled {
		step = 97
	}
	for capacity := 0; ; capacity += step {
		d := newMemDisk()
		d.left, o.disk = capacity, d
		e := &synthetic{}
		_, err := runStudy("", o, cfg, e)
		if err == nil {
			t.Logf("%d capacities", capacity/step)
			return
		}
		if !errors.Is(err, errFull) || d.locked {
			t.Fatalf("capacity %d: locked %v, %v", capacity, d.locked, err)
		}
		d.left = -1
		again := &synthetic{}
		got, err := runStudy("", o, cfg, again)
		if err != nil {
			t.Fatalf("capacity %d, space again: %v", capacity, err)
		}
		sameFront(t, fmt.Sprintf("capacity %d", capacity), got, want)
		// Only the batch at work may be evaluated twice.
		if e.images+again.images > images+e.largest {
			t.Fatalf("capacity %d: %d + %d images, %d undisturbed", capacity, e.images, again.images, images)
		}
	}
}

// TestWriteFailureIsFinal checks that nothing is acknowledged after a failed write.
func TestWriteFailureIsFinal(t *testing.T) {
	d, o := newMemDisk(), testOptions()
	o.disk = d
	s, err := Open("", o)
	if err != nil {
		t.Fatal(err)
	}
	one := ga.Record{Image: 1, Score: ga.Score{Value: 0.5}}
	if err := s.Append([]ga.Record{one}); err != nil {
		t.Fatal(err)
	}
	d.left = 10
	two := ga.Record{Image: 2, Score: ga.Score{Value: 0.6}}
	if err := s.Append([]ga.Record{two}); !errors.Is(err, errFull) {
		t.Fatalf("a full disk: %v", err)
	}
	d.left = -1
	if err := s.Append([]ga.Record{two}); !errors.Is(err, errFull) {
		t.Errorf("writing went on after an error: %v", err)
	}
	if err := s.Commit(testSnapshot(0)); !errors.Is(err, errFull) {
		t.Errorf("a generation was committed after an error: %v", err)
	}
	if err := s.WriteFile("front.json", nil); !errors.Is(err, errFull) {
		t.Errorf("a file was written after an error: %v", err)
	}
	if _, known := s.Score(two.Hash, 2); known {
		t.Error("a score counts that was not written")
	}
	s.Close()
	if s, err = Open("", o); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, ok := s.Score(one.Hash, 1); !ok || got.Value != 0.5 || s.Scores() != 1 {
		t.Errorf("after reopening: %v, %v, %d scores", got, ok, s.Scores())
	}
}

// TestSegments makes the log start a new file after nearly every append, and damages the parts.
func TestSegments(t *testing.T) {
	want, _, images := whole(t)
	o := testOptions()
	o.SegmentBytes = 300
	dir := filepath.Join(t.TempDir(), "study")
	ctx, cancel := context.WithCancel(context.Background())
	n, total := 0, 0
	for { // interrupted after every batch
		s, err := openLazy(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		e := &synthetic{after: cancel}
		_, err = ga.Run(ctx, smallSearch(t), deps(e, s))
		s.Close()
		total += e.images
		if err == nil {
			break
		}
		n++
		ctx, cancel = context.WithCancel(context.Background())
	}
	cancel()
	got, err := runStudy(dir, o, smallSearch(t), &synthetic{})
	if err != nil {
		t.Fatal(err)
	}
	sameFront(t, "segments", got, want)
	files, _ := os.ReadDir(filepath.Join(dir, "log"))
	if len(files) < 6 || n < 10 || total != images {
		t.Fatalf("%d segments, %d interruptions, %d images of %d", len(files), n, total, images)
	}
	damage := func(name string, change func(path string)) {
		t.Helper()
		copied := filepath.Join(t.TempDir(), "study")
		copyTree(t, dir, copied)
		change(filepath.Join(copied, "log", "000004.ecadlog"))
		_, err := openLazy(copied, o)
		var c *CorruptError
		if !errors.As(err, &c) || !errors.Is(err, ErrCorrupt) || !strings.Contains(c.Error(), "000004") {
			t.Errorf("%s: error %v, want ErrCorrupt in 000004", name, err)
		}
	}
	damage("missing", func(p string) { os.Remove(p) })
	damage("cut", func(p string) { d := readFile(t, p); writeFile(t, p, d[:len(d)-1]) })
	damage("cut at a record", func(p string) {
		d := readFile(t, p)
		ends := recordEnds(t, d)
		writeFile(t, p, d[:ends[len(ends)-2]])
	})
	damage("longer", func(p string) { writeFile(t, p, appendSynced(readFile(t, p), 4, 0)) })
	damage("flipped", func(p string) { d := readFile(t, p); d[len(d)/2] ^= 4; writeFile(t, p, d) })
	damage("another segment", func(p string) { writeFile(t, p, readFile(t, strings.Replace(p, "04.", "05.", 1))) })
}
