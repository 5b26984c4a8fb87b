package study

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ecadx/ga"
	"ecadx/schedule"
)

var kills = flag.Int("kills", 50, "TestTorture: how often a search is killed")

// childVariable makes the test binary run a study, for the tests that kill it: its arguments are the directory, the mode of the search, and the
// point on the way at which it kills itself.
const childVariable = "ECADX_STUDY_TEST_CHILD"

func child(dir, mode string, point int) *exec.Cmd {
	c := exec.Command(os.Args[0], dir, mode, strconv.Itoa(point))
	c.Env = append(os.Environ(), childVariable+"=1")
	return c
}

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		os.Exit(m.Run())
	}
	err := runChild(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	switch {
	case errors.Is(err, ga.ErrInterrupted):
		os.Exit(130)
	case err != nil:
		os.Exit(1)
	}
}

// childWorld is what a child searches.
func childWorld(mode string) world {
	w := world{seed: 6, shape: testShape, population: 8, generations: 6, images: 4, surrogate: 1}
	if mode == "ecadx" {
		w.seed, w.surrogate = 9, 3 // one that searches shorter runs as well
	}
	return w
}

func runChild(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT)
	defer stop()
	dir, mode := args[0], args[1]
	point, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	cfg, err := childWorld(mode).config()
	if err != nil {
		return err
	}
	cfg.Batch = 1
	o, d := testOptions(), &failDisk{disk: newOSDisk(dir), at: point}
	o.disk, o.Session = d, []Part{{"commit", "test"}}
	// What was evaluated and what acknowledged, for the parent. It is there when this process is killed, as its writes are.
	diary, err := os.OpenFile(dir+".diary", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	s, err := Open(dir, o)
	if err != nil {
		return err
	}
	w := &diarist{witness: witness{synthetic: synthetic{pause: time.Millisecond}, Study: s, acknowledged: map[pair]bool{}}, diary: diary}
	res, err := ga.Run(ctx, cfg, deps(w, w))
	if err == nil {
		err = s.WriteResult(res, "scene", "macs", encodeSchedule)
	}
	err = errors.Join(err, s.Close())
	fmt.Println(d.points)
	return err
}

// diarist writes down what is evaluated and what is acknowledged.
type diarist struct {
	witness
	diary *os.File
}

func (w *diarist) Evaluate(ctx context.Context, schedules []*schedule.Schedule, images []ga.ImageID) ([][]ga.Score, error) {
	var b strings.Builder
	for _, s := range schedules {
		for _, id := range images {
			fmt.Fprintf(&b, "evaluate %v/%d\n", s.Hash(), id)
		}
	}
	w.diary.WriteString(b.String())
	return w.witness.Evaluate(ctx, schedules, images)
}

func (w *diarist) Append(records []ga.Record) error {
	if err := w.witness.Append(records); err != nil {
		return err
	}
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintf(&b, "acknowledged %v/%d\n", r.Hash, r.Image)
	}
	w.diary.WriteString(b.String())
	return nil
}

// failDisk kills the process at a point: before, after, or in the middle of an operation that changes the disk.
type failDisk struct {
	disk
	points, at int
}

func (d *failDisk) point() {
	if d.points++; d.points == d.at {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// around runs an operation between two points.
func (d *failDisk) around(f func() error) error {
	d.point()
	defer d.point()
	return f()
}

func (d *failDisk) file(f file, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return failFile{f, d}, nil
}

func (d *failDisk) OpenAppend(name string) (file, error) { return d.file(d.disk.OpenAppend(name)) }
func (d *failDisk) Create(name string) (f file, err error) {
	err = d.around(func() error { f, err = d.disk.Create(name); return err })
	return d.file(f, err)
}
func (d *failDisk) Rename(from, to string) error {
	return d.around(func() error { return d.disk.Rename(from, to) })
}
func (d *failDisk) Remove(name string) error {
	return d.around(func() error { return d.disk.Remove(name) })
}
func (d *failDisk) MakeDir(name string) error {
	return d.around(func() error { return d.disk.MakeDir(name) })
}
func (d *failDisk) SyncDir(name string) error {
	return d.around(func() error { return d.disk.SyncDir(name) })
}

type failFile struct {
	file
	d *failDisk
}

// Write has a point after the first byte and one in the middle.
func (f failFile) Write(b []byte) (n int, err error) {
	for _, end := range []int{min(1, len(b)), len(b) / 2, len(b)} {
		f.d.point()
		if end <= n {
			continue
		}
		k, err := f.file.Write(b[n:end])
		if n += k; err != nil {
			return n, err
		}
	}
	f.d.point()
	return n, nil
}
func (f failFile) Sync() error { return f.d.around(f.file.Sync) }
func (f failFile) Truncate(size int64) error {
	return f.d.around(func() error { return f.file.Truncate(size) })
}
func (f failFile) Close() error { return f.d.around(f.file.Close) }

// TestTorture kills searches (SIGKILL) before, in and after random writes, syncs and renames, and at random times. After every kill the study
// must be sound; finished, every file but the log must have the bytes of an undisturbed search; and nothing acknowledged may be evaluated again.
func TestTorture(t *testing.T) {
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	root := t.TempDir()
	want, points := map[string]map[string]string{}, map[string]int{}
	for _, mode := range []string{"ecad", "ecadx"} {
		dir := filepath.Join(root, mode)
		out, err := child(dir, mode, 0).Output()
		if err == nil {
			points[mode], err = strconv.Atoi(strings.TrimSpace(string(out)))
		}
		if err != nil {
			t.Fatal(err)
		}
		want[mode] = resultFiles(t, dir)
	}
	count := *kills
	if raceEnabled {
		count = min(count, 10)
	}
	done, studies, timed := 0, 0, 0
	for ; done < count; studies++ {
		mode := []string{"ecad", "ecadx"}[studies%2]
		dir := filepath.Join(root, "study"+strconv.Itoa(studies))
		for finished := false; !finished; {
			point := 1 + r.IntN(points[mode])
			if r.IntN(2) == 0 {
				point = 1 + r.IntN(60) // soon after the start, when a study is repaired and goes on
			}
			c, timer := child(dir, mode, point), (*time.Timer)(nil)
			if r.IntN(5) == 0 {
				c = child(dir, mode, 0)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			if c.Args[3] == "0" {
				timer = time.AfterFunc(time.Duration(r.IntN(100))*time.Millisecond, func() { c.Process.Kill() })
			}
			err := c.Wait()
			if timer != nil {
				timer.Stop()
			}
			status := c.ProcessState.Sys().(syscall.WaitStatus)
			switch {
			case err == nil:
				finished = true
			case !status.Signaled() || status.Signal() != syscall.SIGKILL:
				t.Fatalf("after %d kills, point %d of %s: %v", done, point, mode, err)
			default:
				done++
				if timer != nil {
					timed++
				}
			}
			if v, err := Verify(dir); err == nil && v.Damaged() {
				t.Fatalf("after %d kills, point %d of %s: %+v", done, point, mode, v.Findings)
			} else if err != nil && !errors.Is(err, ErrNotStudy) && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		got := resultFiles(t, dir)
		if !maps.Equal(got, want[mode]) {
			t.Fatalf("after %d kills, %s ends with files %q, want %q", done, mode, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want[mode])))
		}
		checkDiary(t, dir+".diary")
		os.RemoveAll(dir)
	}
	t.Logf("%d kills, %d of them at a random time, in %d studies; %d and %d points in an undisturbed one", done, timed, studies, points["ecad"], points["ecadx"])
}

// resultFiles are the contents of all files of a study but the log and the lock.
func resultFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && name != lockFile && !strings.HasPrefix(name, logDir+"/") {
			files[name] = string(readFile(t, filepath.Join(dir, filepath.FromSlash(name))))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// checkDiary fails if an evaluation was repeated after it had been acknowledged.
func checkDiary(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	acknowledged := map[string]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		what, which, ok := strings.Cut(lines.Text(), " ")
		if what == "acknowledged" && ok {
			acknowledged[which] = true
		} else if acknowledged[which] {
			t.Fatalf("%s was evaluated again after it had been acknowledged", which)
		}
	}
	if len(acknowledged) == 0 {
		t.Fatal("nothing was acknowledged")
	}
}
