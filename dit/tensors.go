package dit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"ecadx/dit/safetensors"
)

// Tensors is the set of weights of one part of a model: mapped files, a copy of embedded ones, or generated values. Every
// tensor's bytes lie outside the Go heap, so that libecad may borrow them. Safe for concurrent use.
//
// It is reference-counted: whoever lends its memory to libecad retains it, and the memory goes when the last one has
// released it.
type Tensors struct {
	path  string
	list  []safetensors.Tensor // sorted by name; Data of generated tensors is written by generate
	index map[string]int
	seed  uint64
	ready []sync.Once // one per tensor, nil when all have their values from the start
	free  func() error

	mu   sync.Mutex
	refs int
}

// openTensors opens the weights called base in the folder src: single or sharded, plain or of a variant. mapped says that
// src hands out mapped files, else their tensors are copied. The result has one reference.
func openTensors(src safetensors.Source, base string, mapped bool) (*Tensors, error) {
	w, err := safetensors.OpenWeights(src, base)
	if err != nil {
		return nil, err
	}
	t := &Tensors{path: w.Path(), free: w.Close, refs: 1}
	for _, name := range w.Names() {
		x, _ := w.Tensor(name)
		t.list = append(t.list, x)
	}
	if !mapped {
		if err := t.moveOffHeap(); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", t.path, err), w.Close())
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
	}
	t.makeIndex()
	return t, nil
}

// moveOffHeap copies all data into one mapping.
func (t *Tensors) moveOffHeap() error {
	memory, err := t.reserve(func(x safetensors.Tensor) int64 { return int64(len(x.Data)) })
	if err != nil {
		return err
	}
	for i := range t.list {
		n := copy(memory, t.list[i].Data)
		t.list[i].Data = memory[:n:n]
		memory = memory[alignUp(int64(n)):]
	}
	return nil
}

func alignUp(n int64) int64 { return (n + 63) &^ 63 }

// reserve maps memory for all tensors, each at a multiple of 64 bytes.
func (t *Tensors) reserve(size func(safetensors.Tensor) int64) ([]byte, error) {
	total := int64(0)
	for _, x := range t.list {
		total += alignUp(size(x))
	}
	memory, free, err := mapMemory(total)
	t.free = free
	return memory, err
}

// newRandomTensors makes float32 tensors of the given names and shapes whose values are generated on first use.
func newRandomTensors(path string, specs []TensorSpec, seed uint64) (*Tensors, error) {
	t := &Tensors{path: path, refs: 1, seed: seed}
	for _, s := range specs {
		if !s.Optional {
			t.list = append(t.list, safetensors.Tensor{Name: s.Name, DType: safetensors.F32, Shape: s.Shape})
		}
	}
	slices.SortFunc(t.list, func(a, b safetensors.Tensor) int { return strings.Compare(a.Name, b.Name) })
	memory, err := t.reserve(func(x safetensors.Tensor) int64 { return 4 * elements(x.Shape) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i := range t.list {
		n := 4 * elements(t.list[i].Shape)
		t.list[i].Data = memory[:n:n]
		memory = memory[alignUp(n):]
	}
	t.ready = make([]sync.Once, len(t.list))
	t.makeIndex()
	return t, nil
}

func elements(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	return n
}

func (t *Tensors) makeIndex() {
	t.index = make(map[string]int, len(t.list))
	for i, x := range t.list {
		t.index[x.Name] = i
	}
}

// Path names the weights in messages: their first file, or the reference of a random model.
func (t *Tensors) Path() string { return t.path }

// Names returns the names of all tensors, sorted.
func (t *Tensors) Names() []string {
	names := make([]string, len(t.list))
	for i, x := range t.list {
		names[i] = x.Name
	}
	return names
}

// Describe returns name, dtype and shape of a tensor without generating its values: Data must not be read.
func (t *Tensors) Describe(name string) (safetensors.Tensor, bool) {
	i, ok := t.index[name]
	if !ok {
		return safetensors.Tensor{}, false
	}
	return t.list[i], true
}

// Tensor returns a tensor with its values. Data is valid until the Tensors are released.
func (t *Tensors) Tensor(name string) (safetensors.Tensor, bool) {
	i, ok := t.index[name]
	if !ok {
		return safetensors.Tensor{}, false
	}
	if t.ready != nil {
		t.ready[i].Do(func() {
			x := t.list[i]
			fillRandomParallel(x.Data, t.seed, x.Name, weightDistribution(x.Name, x.Shape))
		})
	}
	return t.list[i], true
}

// retain adds a reference.
func (t *Tensors) retain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refs++
}

// Close releases one reference; the last one unmaps the memory.
func (t *Tensors) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refs == 0 {
		return nil
	}
	if t.refs--; t.refs > 0 {
		return nil
	}
	return t.free()
}

// TensorSpec is one tensor that an architecture has.
type TensorSpec struct {
	Name     string
	Shape    []int64
	Optional bool // it may be missing
}

// Verification is how the tensors of a checkpoint compare to an architecture.
type Verification struct {
	Path       string   `json:"path"`
	Tensors    int      `json:"tensors"`    // that the architecture has
	Parameters int64    `json:"parameters"` // in these
	Missing    []string `json:"missing"`
	Wrong      []string `json:"wrong"` // shape or dtype; each line names the tensor and both
	Extra      []string `json:"extra"` // not used; no error
}

// Err returns the first problem as an error that names file and tensor, nil when every tensor fits.
func (v *Verification) Err() error {
	n := len(v.Missing) + len(v.Wrong)
	switch {
	case n == 0:
		return nil
	case len(v.Wrong) > 0:
		return fmt.Errorf("%s: %s (%d such problems): the file belongs to another configuration", v.Path, v.Wrong[0], n)
	}
	return fmt.Errorf("%s: tensor %q is missing (%d such problems): the file is incomplete or belongs to another configuration", v.Path, v.Missing[0], n)
}

// verify compares the tensors to specs. ignored names are neither wanted nor extra.
func (t *Tensors) verify(specs []TensorSpec, ignored ...string) *Verification {
	v := &Verification{Path: t.path, Missing: []string{}, Wrong: []string{}, Extra: []string{}}
	known := map[string]bool{}
	for _, name := range ignored {
		known[name] = true
	}
	for _, s := range specs {
		known[s.Name] = true
		x, ok := t.Describe(s.Name)
		if !ok {
			if !s.Optional {
				v.Missing = append(v.Missing, s.Name)
				v.Tensors++
				v.Parameters += elements(s.Shape)
			}
			continue
		}
		v.Tensors++
		v.Parameters += elements(s.Shape)
		if !slices.Equal(x.Shape, s.Shape) {
			v.Wrong = append(v.Wrong, fmt.Sprintf("tensor %q has shape %v, the model needs %v", s.Name, x.Shape, s.Shape))
		} else if _, ok := deviceDType(x.DType); !ok {
			v.Wrong = append(v.Wrong, fmt.Sprintf("tensor %q is %v, weights are F32, F16 or BF16", s.Name, x.DType))
		}
	}
	for _, name := range t.Names() {
		if !known[name] {
			v.Extra = append(v.Extra, name)
		}
	}
	return v
}

// Parameters is the number of values in all tensors.
func (t *Tensors) Parameters() int64 {
	n := int64(0)
	for _, x := range t.list {
		n += elements(x.Shape)
	}
	return n
}
