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
// released it. The values of one tensor take memory only while somebody holds it (Read, hold): those of mapped files are read
// again from the file, generated ones are generated again.
type Tensors struct {
	path   string
	list   []safetensors.Tensor // sorted by name; Data of generated tensors is written by hold
	index  map[string]int
	source valueSource
	seed   uint64
	holds  []holds // one per tensor
	free   func() error

	mu   sync.Mutex
	refs int
}

// valueSource says where the values of tensors come from, and so what becomes of those that nobody holds.
type valueSource uint8

const (
	copied valueSource = iota // in memory of their own, kept
	mapped
	generated
)

// holds counts who reads a tensor; the mutex is held while its values are made.
type holds struct {
	mu   sync.Mutex
	n    int
	kept bool // the values are in memory of their own, whatever the source
}

// openTensors opens the weights called base in the folder src: single or sharded, plain or of a variant. onDisk says that
// src hands out mapped files, else their tensors are copied. The result has one reference.
func openTensors(src safetensors.Source, base string, onDisk bool) (*Tensors, error) {
	w, err := safetensors.OpenWeights(src, base)
	if err != nil {
		return nil, err
	}
	t := &Tensors{path: w.Path(), source: mapped, free: w.Close, refs: 1}
	for _, name := range w.Names() {
		x, _ := w.Tensor(name)
		t.list = append(t.list, x)
	}
	if !onDisk {
		t.source = copied
		if err := t.moveOffHeap(); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", t.path, err), w.Close())
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
	}
	t.holds = make([]holds, len(t.list))
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

// alignUp rounds to 64 bytes, from a page on to pages, so that large tensors share no pages with others.
func alignUp(n int64) int64 {
	const page = 4096
	if n >= page {
		return (n + page - 1) &^ (page - 1)
	}
	return (n + 63) &^ 63
}

// reserve maps memory for all tensors, each of a size that alignUp gives.
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
	t := &Tensors{path: path, source: generated, refs: 1, seed: seed}
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
	t.holds = make([]holds, len(t.list))
	t.makeIndex()
	return t, nil
}

// replace gives the set other tensors, views of its memory. Nobody may hold any. Two of one name are an error.
func (t *Tensors) replace(list []safetensors.Tensor) error {
	slices.SortFunc(list, func(a, b safetensors.Tensor) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(list); i++ {
		if list[i].Name == list[i-1].Name {
			return fmt.Errorf("%s: tensor %q is there twice, under different names: remove one", t.path, list[i].Name)
		}
	}
	t.list, t.holds = list, make([]holds, len(list))
	t.makeIndex()
	return nil
}

// rewrite gives a tensor memory of its own, filled by make from its values. A name that is not there stays so.
func (t *Tensors) rewrite(name string, make func(dst, src []byte)) error {
	i, ok := t.index[name]
	if !ok {
		return nil
	}
	memory, free, err := mapMemory(int64(len(t.list[i].Data)))
	if err != nil {
		return fmt.Errorf("%s: %w", t.path, err)
	}
	make(memory, t.list[i].Data)
	before := t.free
	t.list[i].Data, t.holds[i].kept, t.free = memory, true, func() error { return errors.Join(free(), before()) }
	return nil
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

// Read calls use with a tensor and its values, which are good during the call only. A name that is not there is an error.
func (t *Tensors) Read(name string, use func(safetensors.Tensor) error) error {
	i, ok := t.index[name]
	if !ok {
		return fmt.Errorf("%s: tensor %q is missing", t.path, name)
	}
	t.hold(i)
	defer t.drop(i)
	return use(t.list[i])
}

// hold makes the values of tensor i be there until drop.
func (t *Tensors) hold(i int) {
	h := &t.holds[i]
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n++; h.n == 1 && t.source == generated {
		x := t.list[i]
		fillRandomParallel(x.Data, t.seed, x.Name, weightDistribution(x.Name, x.Shape))
	}
}

// drop ends a hold; the last one gives the memory back.
func (t *Tensors) drop(i int) {
	h := &t.holds[i]
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n--; h.n == 0 && t.source != copied && !h.kept {
		dropPages(t.list[i].Data)
	}
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

// specList collects the tensors of an architecture.
type specList []TensorSpec

func (l *specList) add(name string, shape ...int64) {
	*l = append(*l, TensorSpec{Name: name, Shape: shape})
}

// linear is weight and bias of a linear layer.
func (l *specList) linear(name string, out, in int64) {
	l.add(name+".weight", out, in)
	l.add(name+".bias", out)
}

// mlp is two linear layers of one width.
func (l *specList) mlp(name string, out, in int64) {
	l.linear(name+".linear_1", out, in)
	l.linear(name+".linear_2", out, out)
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
