package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"ecadx/bench"
	"ecadx/dit"
	"ecadx/schedule"
)

// releasedModel stands for the released model of a file's shape.
const releasedModel = "released"

// macsResolution is the resolution at which files are counted unless the user says another.
var macsResolution = pixels{256, 256}

// macsCounter counts schedules, each by the sizes of --model or of the model it is for.
type macsCounter struct {
	o      *options
	models map[string]*dit.Model
}

func (k *macsCounter) close() {
	for _, m := range k.models {
		m.Close()
	}
}

func (k *macsCounter) model(ref string) (*dit.Model, error) {
	if m, ok := k.models[ref]; ok {
		return m, nil
	}
	m, err := dit.Open(ref)
	if err != nil {
		return nil, badInput(err)
	}
	if k.models == nil {
		k.models = map[string]*dit.Model{}
	}
	k.models[ref] = m
	return m, nil
}

// count counts one reference.
func (k *macsCounter) count(ref string) (schedule.Tally, error) {
	modelRef := k.o.model
	if schedule.IsHeuristic(ref) {
		if modelRef == releasedModel {
			modelRef = dit.DefaultModel
		}
		m, err := k.model(modelRef)
		if err != nil {
			return schedule.Tally{}, err
		}
		r, err := readSchedule(ref, m.Shape(k.o.steps))
		if err != nil {
			return schedule.Tally{}, err
		}
		return k.countFor(r, m)
	}
	r, err := readSchedule(ref, schedule.Shape{})
	if err != nil {
		return schedule.Tally{}, err
	}
	if modelRef == releasedModel {
		modelRef = madeFor(r.file)
	}
	if modelRef == releasedModel {
		return k.countReleased(r)
	}
	m, err := k.model(modelRef)
	if err != nil {
		return schedule.Tally{}, err
	}
	shape := r.schedule.Shape()
	if err := shape.Fits(m.Shape(shape.Steps)); err != nil {
		return schedule.Tally{}, inputError("%s: %w", ref, shapeProblem(err))
	}
	return k.countFor(r, m)
}

// madeFor returns the built-in model whose name a file holds, or releasedModel.
func madeFor(f *schedule.File) string {
	c, err := f.Config()
	if err == nil && slices.Contains(dit.References(), c.TransformerWeights) && !strings.HasPrefix(c.TransformerWeights, "random:") {
		return c.TransformerWeights
	}
	return releasedModel
}

// countReleased counts by the sizes under which ECAD counts the family.
func (k *macsCounter) countReleased(r *resolved) (schedule.Tally, error) {
	size := k.o.resolution
	if size == (pixels{}) {
		size = macsResolution
	}
	d, err := schedule.ECADDims(r.schedule.Shape().Family, size.height, size.width)
	if err != nil {
		return schedule.Tally{}, usageError("%s: --%s: %w", k.o.command, flagResolution, err)
	}
	if k.o.guidance != nil && *k.o.guidance <= 1 && d.Family == schedule.PixArt {
		d.BatchRows = 1
	}
	return k.tally(r, d)
}

// countFor counts by a model's own sizes.
func (k *macsCounter) countFor(r *resolved, m *dit.Model) (schedule.Tally, error) {
	guidance := m.Defaults().Guidance
	if k.o.guidance != nil {
		guidance = *k.o.guidance
	}
	size, err := bench.SizeOf(m, k.o.resolution.height, k.o.resolution.width)
	if err != nil {
		return schedule.Tally{}, usageError("%s: --%s: %w", k.o.command, flagResolution, err)
	}
	d, err := bench.ModelDims(m, size, guidance)
	if err != nil {
		return schedule.Tally{}, badInput(err)
	}
	return k.tally(r, d)
}

func (k *macsCounter) tally(r *resolved, d schedule.Dims) (schedule.Tally, error) {
	t, err := r.macs(d)
	if err != nil {
		return t, inputError("%s: %w", r.ref, err)
	}
	return t, nil
}

// readLimited reads a whole file of at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, badInput(err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, inputError("%s: is a directory: name a file", path)
	case info.Size() > limit:
		return nil, inputError("%s: %d bytes: at most %d are read", path, info.Size(), limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = errors.New("too long")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}
