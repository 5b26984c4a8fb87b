package study

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ecadx/ga"
	"ecadx/schedule"
)

var simulateAll = flag.Bool("simulate", false, "TestSimulation: all 10,000 searches and 20 long ones instead of some")

// world is a simulated search: what is searched, and how often it is disturbed on the way.
type world struct {
	seed                            uint64
	shape                           schedule.Shape
	population, generations, images int
	surrogate, disturbances         int
}

// config is the search of a world. Every second one is of mode ecadx, with racing; half of these search shorter runs as well.
func (w world) config() (ga.Config, error) {
	cfg := ga.NewConfig(w.shape, w.seed)
	if w.seed%2 == 0 {
		a := ga.DefaultNSGA2(w.shape.Cells(), w.seed)
		a.PopulationSize, a.MutationChildProb = w.population, 0.5
		cfg.Algorithm = a
	} else {
		s := ga.DefaultStructured(w.seed)
		s.PopulationSize, s.Offspring, s.Surrogate, s.Cost = w.population, w.population, w.surrogate, ga.CostFunc(countCost)
		if w.seed%4 == 1 {
			cfg.FewerSteps = []int{w.shape.Steps - 1, w.shape.Steps / 2} // more than the children of one generation run
		}
		s.FewerSteps = cfg.FewerSteps
		a, err := ga.NewStructured(w.shape, s)
		if err != nil {
			return cfg, err
		}
		cfg.Algorithm, cfg.Racing = a, ga.Racing{Rungs: []int{2}, Confidence: 0.9}
	}
	cfg.Generations, cfg.Batch = w.generations, w.images
	for _, ref := range []string{"fora:2", "random:0.3:1", "random:0.5:2"} {
		g, err := schedule.Resolve(ref, w.shape)
		if err != nil {
			return cfg, err
		}
		cfg.Seeds = append(cfg.Seeds, ga.Named{Name: ref, Schedule: g.Schedule})
	}
	cfg.Baselines = cfg.Seeds[:1]
	for _, n := range cfg.FewerSteps {
		short := w.shape
		short.Steps = n
		all, err := schedule.New(short)
		if err != nil {
			return cfg, err
		}
		cfg.Seeds = append(cfg.Seeds, ga.Named{Name: fmt.Sprintf("steps:%d", n), Schedule: all})
	}
	for i := range w.images {
		cfg.Images = append(cfg.Images, ga.Image{ID: ga.ImageID(i), Prompt: uint32(i)})
	}
	cfg.Confirm, cfg.HeldOut = []ga.Image{{ID: 101, Prompt: 101}}, []ga.Image{{ID: 100, Prompt: 100}}
	return cfg, nil
}

// witness is an evaluator and a log in one: it remembers what was acknowledged, and notices what is evaluated again. calls is how many batches
// are evaluated before stop is called.
type witness struct {
	synthetic
	*Study
	acknowledged map[pair]bool
	repeated     int
	calls        int
	stop         func()
}

type pair struct {
	hash  schedule.Hash
	image ga.ImageID
}

func (w *witness) Evaluate(ctx context.Context, schedules []*schedule.Schedule, images []ga.ImageID) ([][]ga.Score, error) {
	if w.calls--; w.calls == 0 {
		w.stop()
	}
	for _, s := range schedules {
		h := s.Hash()
		for _, id := range images {
			if w.acknowledged[pair{h, id}] {
				w.repeated++
			}
		}
	}
	return w.synthetic.Evaluate(ctx, schedules, images)
}

func (w *witness) Append(records []ga.Record) error {
	if err := w.Study.Append(records); err != nil {
		return err
	}
	for _, r := range records {
		w.acknowledged[pair{r.Hash, r.Image}] = true
	}
	return nil
}

// disturbed runs the search on a disk that its process or its power leaves again and again, with batches of another size each time so that scores
// come in another order, and returns the bytes of front.json.
func (w world) disturbed() ([]byte, error) {
	r := rand.New(rand.NewPCG(w.seed, 99))
	d := newMemDisk()
	d.rand = r
	o := testOptions()
	o.disk, o.Session = d, []Part{{"commit", "simulated"}}
	if r.IntN(4) == 0 {
		o.SegmentBytes = int64(500 + r.IntN(5000))
	}
	acknowledged := map[pair]bool{}
	ops := 12 * w.generations // about as many as the whole takes
	for left := w.disturbances; ; left-- {
		cfg, err := w.config()
		if err != nil {
			return nil, err
		}
		cfg.Batch = 1 + r.IntN(w.images)
		ctx, cancel := context.WithCancel(context.Background())
		e := &witness{acknowledged: acknowledged, stop: cancel}
		how := r.IntN(3)
		switch {
		case left <= 0: // undisturbed to the end
		case how == 0:
			e.calls = 1 + r.IntN(2*w.generations)
		default:
			d.dieAt = 1 + r.IntN(ops)
		}
		front, err := e.once(ctx, o, cfg)
		cancel()
		switch {
		case e.repeated > 0:
			return nil, fmt.Errorf("%d acknowledged evaluations are repeated", e.repeated)
		case err == nil:
			return front, nil
		case left <= 0, !d.dead && !errors.Is(err, ga.ErrInterrupted):
			return nil, err
		case d.dead:
			d.restart(how == 2)
		}
	}
}

// once opens the study, searches, and writes the result.
func (w *witness) once(ctx context.Context, o Options, cfg ga.Config) (front []byte, err error) {
	if w.Study, err = Open("", o); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Study.Close()) }()
	res, err := ga.Run(ctx, cfg, deps(w, w))
	if err == nil {
		err = w.WriteResult(res, "scene", "macs", encodeSchedule)
	}
	if err != nil {
		return nil, err
	}
	return w.ReadFile(frontFile)
}

// undisturbed is the front that a world ends with.
func (w world) undisturbed() ([]byte, error) {
	cfg, err := w.config()
	if err != nil {
		return nil, err
	}
	res, err := ga.Run(context.Background(), cfg, deps(&synthetic{}, &ga.MemoryLog{}))
	if err != nil {
		return nil, err
	}
	return NewFront(res, "scene", "macs").Encode()
}

// TestSimulation runs many small searches and some long ones, each undisturbed and disturbed: interrupted, killed within any operation on the
// disk, left by the power with any part of what was not synced, its scores in any order. Both end with the same front, and no acknowledged
// evaluation is repeated.
func TestSimulation(t *testing.T) {
	small, long := 300, 0
	if *simulateAll {
		small, long = 10_000, 20
	}
	if raceEnabled {
		small = 20
	}
	worlds := []world{{seed: 1600, shape: testShape, population: 16, generations: 20, images: 3, surrogate: 1, disturbances: 4}} // once lost a log whose name was not synced
	for i := range long {
		worlds = append(worlds, world{seed: uint64(i), shape: schedule.Shape{Family: schedule.PixArt, Steps: 20, Blocks: 4}, population: 72, generations: 500,
			images: 3, surrogate: 1, disturbances: 3})
	}
	for i := range small {
		w := world{seed: uint64(1000 + i), shape: testShape, population: 16, generations: 20, images: 3, surrogate: 1, disturbances: 3}
		if i%100 == 1 {
			w.surrogate = 3
		}
		worlds = append(worlds, w)
	}
	var next atomic.Int64
	var work sync.WaitGroup
	begin := time.Now()
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(worlds)) && !t.Failed(); i = next.Add(1) - 1 {
				want, err := worlds[i].undisturbed()
				if err != nil {
					t.Errorf("seed %d: %v", worlds[i].seed, err)
					continue
				}
				if got, err := worlds[i].disturbed(); err != nil || !bytes.Equal(got, want) {
					t.Errorf("seed %d: disturbed, it ends with another front: %v\n%s\nwant\n%s", worlds[i].seed, err, got, want)
				}
			}
		})
	}
	work.Wait()
	t.Logf("%d searches of 20 x 16 and %d of 500 x 72 in %.0f s", small, long, time.Since(begin).Seconds())
}
