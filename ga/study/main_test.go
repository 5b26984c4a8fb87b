package study

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ecadx/ga"
	"ecadx/schedule"
)

var testShape = schedule.Shape{Family: schedule.PixArt, Steps: 5, Blocks: 2}

var testConfig = []byte("[search]\nmode = \"ecad\"\npopulation = 6\ngenerations = 4\nseed = 7\n")

func testOptions() Options {
	return Options{Config: testConfig, Origin: []Part{{"prompts", "bb"}, {"weights", "aa"}}}
}

// synthetic scores from schedule and image alone, some schedules as invalid.
type synthetic struct {
	images  int
	largest int // images of the largest call
	pause   time.Duration
	after   func()
}

func (e *synthetic) Evaluate(ctx context.Context, schedules []*schedule.Schedule, images []ga.ImageID) ([][]ga.Score, error) {
	out := make([][]ga.Score, len(schedules))
	e.largest = max(e.largest, len(schedules)*len(images))
	for i, s := range schedules {
		h := s.Hash()
		for _, id := range images {
			e.images++
			if h[9]%16 == 3 {
				out[i] = append(out[i], ga.Score{Invalid: "step 2, block 1, ff: NaN"})
				continue
			}
			wobble := float64(binary.LittleEndian.Uint16(h[id%16:])) / 65536
			out[i] = append(out[i], ga.Score{Value: 1 / (1 + float64(s.Reused())/20 + 0.2*wobble)})
		}
	}
	if e.pause > 0 {
		time.Sleep(e.pause)
	}
	if e.after != nil {
		e.after()
	}
	return out, nil
}

func countCost(s *schedule.Schedule) (float64, error) {
	return float64(s.Shape().Cells()-s.Reused()) * 1e9, nil
}

func searchConfig(t testing.TB, shape schedule.Shape, population, generations, images int) ga.Config {
	t.Helper()
	cfg := ga.NewConfig(shape, 7)
	a := ga.DefaultNSGA2(shape.Cells(), 7)
	a.PopulationSize, a.MutationChildProb = population, 0.7
	cfg.Algorithm, cfg.Generations, cfg.Batch = a, generations, 2
	for _, ref := range []string{"none", "fora:2", "fora:3", "random:0.3:1"} {
		g, err := schedule.Resolve(ref, shape)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Seeds = append(cfg.Seeds, ga.Named{Name: ref, Schedule: g.Schedule})
		if ref == "fora:2" {
			cfg.Baselines = append(cfg.Baselines, ga.Named{Name: ref, Schedule: g.Schedule})
		}
	}
	for i := range images {
		cfg.Images = append(cfg.Images, ga.Image{ID: ga.ImageID(i), Prompt: uint32(i)})
	}
	cfg.HeldOut = []ga.Image{{ID: 1000, Prompt: 1000}, {ID: 1001, Prompt: 1001}}
	cfg.Confirm = []ga.Image{{ID: 2000, Prompt: 2000}}
	return cfg
}

// tinySearch ends in a study of less than 10 kB, for tests that try every byte of it.
func tinySearch(t testing.TB) ga.Config {
	cfg := searchConfig(t, schedule.Shape{Family: schedule.PixArt, Steps: 4, Blocks: 1}, 2, 1, 2)
	cfg.Seeds, cfg.Baselines, cfg.Confirm, cfg.HeldOut = cfg.Seeds[1:2], nil, nil, nil
	return cfg
}

// tinyStudy is what an undisturbed tinySearch leaves on a disk, its front.json and the images it took.
func tinyStudy(t testing.TB) (d *memDisk, front []byte, images int) {
	t.Helper()
	d = newMemDisk()
	o, e := testOptions(), &synthetic{}
	o.disk = d
	front, err := runStudy("", o, tinySearch(t), e)
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for _, f := range d.names {
		size += len(f.data)
	}
	if size > 10_000 {
		t.Errorf("the tiny study has %d bytes", size)
	}
	return d, front, e.images
}

func smallSearch(t testing.TB) ga.Config { return searchConfig(t, testShape, 6, 4, 3) }

func deps(e ga.Evaluator, l ga.Log) ga.Deps {
	return ga.Deps{Evaluator: e, Cost: ga.CostFunc(countCost), MACs: ga.CostFunc(countCost), Log: l}
}

func encodeSchedule(c ga.Candidate) ([]byte, error) {
	return []byte(fmt.Sprintf("{%q: %q}\n", c.Hash, c.Name)), nil
}

// runStudy opens the study, runs the search to its end, writes the result and closes. It returns front.json.
func runStudy(dir string, o Options, cfg ga.Config, e ga.Evaluator) ([]byte, error) {
	s, err := openLazy(dir, o)
	if err != nil {
		return nil, err
	}
	res, err := ga.Run(context.Background(), cfg, deps(e, s))
	if err == nil {
		err = s.WriteResult(res, "scene", "macs", encodeSchedule)
	}
	var front []byte
	if err == nil {
		front, err = fs.ReadFile(s.disk, frontFile)
	}
	return front, errors.Join(err, s.Close())
}

// whole returns the front.json of an undisturbed run, its directory, and the images it took.
func whole(t testing.TB) (front []byte, dir string, images int) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "study")
	e := &synthetic{}
	front, err := runStudy(dir, testOptions(), smallSearch(t), e)
	if err != nil {
		t.Fatal(err)
	}
	return front, dir, e.images
}

// lazyDisk is the file system without waiting for the disk.
type lazyDisk struct{ disk }

type lazyFile struct{ file }

func (lazyFile) Sync() error          { return nil }
func (lazyDisk) SyncDir(string) error { return nil }
func lazy(f file, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return lazyFile{f}, nil
}
func (d lazyDisk) OpenAppend(name string) (file, error) { return lazy(d.disk.OpenAppend(name)) }
func (d lazyDisk) Create(name string) (file, error)     { return lazy(d.disk.Create(name)) }

// openLazy opens a study on a disk that does not wait, unless the options name one.
func openLazy(dir string, o Options) (*Study, error) {
	if o.disk == nil {
		o.disk = lazyDisk{newOSDisk(dir)}
	}
	return Open(dir, o)
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func firstSegment(dir string) string { return filepath.Join(dir, "log", "000001.ecadlog") }

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func sameFront(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: front.json differs:\n%s\nwant\n%s", what, got, want)
	}
}
