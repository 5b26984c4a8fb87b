package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// MaxIndex is the largest index file that is read, in bytes. The index of a 12-billion-parameter model has about 120 KB.
const MaxIndex = 4 << 20

// DefaultVariants is the order in which OpenWeights looks for weights when it is given none: the plain files first, then
// the half-precision copies that snapshots keep beside them or in their place.
var DefaultVariants = []string{"", "fp16", "bf16"}

// Weights holds the tensors of one part of a model, from one file or several shards. Its methods may be called from several
// goroutines at a time; Close must come last.
type Weights struct {
	files []*File
	index map[string]int // tensor to file; nil for a single file
}

// OpenWeights opens the weights called base in s, such as "diffusion_pytorch_model" (diffusers) or "model"
// (transformers). For each variant in turn it tries BASE[.VARIANT].safetensors and then the shards listed in
// BASE.safetensors.index[.VARIANT].json. No variants means DefaultVariants. When nothing is there the error satisfies
// errors.Is(err, fs.ErrNotExist) and names what was looked for.
func OpenWeights(s Source, base string, variants ...string) (*Weights, error) {
	if len(variants) == 0 {
		variants = DefaultVariants
	}
	var tried []string
	for _, v := range variants {
		if v != "" {
			v = "." + v
		}
		single, index := base+v+".safetensors", base+".safetensors.index"+v+".json"
		tried = append(tried, single, index)
		if s.Exists(single) {
			f, err := s.Open(single)
			if err != nil {
				return nil, err
			}
			return &Weights{files: []*File{f}}, nil
		}
		if s.Exists(index) {
			return OpenSharded(s, index)
		}
	}
	return nil, fmt.Errorf("%s: no weights: looked for %s: %w", s.Path(""), strings.Join(tried, ", "), fs.ErrNotExist)
}

// OpenSharded opens all shards that the index file name of s lists:
//
//	{"metadata": {...}, "weight_map": {"tensor": "shard file", ...}}
//
// Every tensor of the map must be in its shard. Shards are plain file names beside the index. Tensors that the map does not
// list are not visible.
func OpenSharded(s Source, name string) (*Weights, error) {
	data, err := s.ReadFile(name, MaxIndex)
	if err != nil {
		return nil, err
	}
	where := s.Path(name)
	shards, err := parseIndex(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	w := &Weights{index: make(map[string]int, len(shards))}
	opened := map[string]int{}
	for _, m := range shards {
		at, ok := opened[m.file]
		if !ok {
			f, err := s.Open(m.file)
			if err != nil {
				w.Close()
				return nil, fmt.Errorf("%s: shard of tensor %q: %w", where, clip(m.tensor), err)
			}
			at = len(w.files)
			opened[m.file] = at
			w.files = append(w.files, f)
		}
		if _, twice := w.index[m.tensor]; twice {
			w.Close()
			return nil, fmt.Errorf("%s: weight_map: tensor %q appears twice", where, clip(m.tensor))
		}
		if w.files[at].index.find(m.tensor) == nil {
			w.Close()
			return nil, fmt.Errorf("%s: weight_map: tensor %q is not in %s", where, clip(m.tensor), m.file)
		}
		w.index[m.tensor] = at
	}
	return w, nil
}

type mapping struct{ tensor, file string }

// parseIndex reads weight_map in file order, duplicates kept.
func parseIndex(data []byte) ([]mapping, error) {
	var top struct {
		WeightMap json.RawMessage `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &top); err != nil {
		return nil, fmt.Errorf("not a JSON index: %w", err)
	}
	if top.WeightMap == nil {
		return nil, errors.New(`not an index: key "weight_map" is missing`)
	}
	d := json.NewDecoder(bytes.NewReader(top.WeightMap))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New(`key "weight_map" must be an object of tensor names and shard files`)
	}
	var out []mapping
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("weight_map: %w", err)
		}
		value, err := d.Token()
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("weight_map: %w", err)
		}
		file, ok := value.(string)
		if !ok {
			return nil, fmt.Errorf("weight_map: tensor %q: want the name of a shard file", clip(key.(string)))
		}
		if file == "" || file == "." || file == ".." || strings.ContainsAny(file, "/\\:\x00") {
			return nil, fmt.Errorf("weight_map: tensor %q: shard %q is not a plain file name", clip(key.(string)), clip(file))
		}
		out = append(out, mapping{key.(string), file})
	}
	if len(out) == 0 {
		return nil, errors.New("weight_map lists no tensors")
	}
	return out, nil
}

// Names returns the names of all tensors, sorted.
func (w *Weights) Names() []string {
	if w.index == nil {
		return w.files[0].Names()
	}
	names := make([]string, 0, len(w.index))
	for n := range w.index {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Tensor returns the tensor called name and whether there is one. The data is not copied.
func (w *Weights) Tensor(name string) (Tensor, bool) {
	if w.index == nil {
		return w.files[0].Tensor(name)
	}
	at, ok := w.index[name]
	if !ok {
		return Tensor{}, false
	}
	return w.files[at].Tensor(name)
}

// Need returns the tensor called name if it has exactly the given shape; a dimension of -1 allows any size. Errors name the
// file, the tensor and both shapes.
func (w *Weights) Need(name string, shape ...int64) (Tensor, error) {
	t, ok := w.Tensor(name)
	if !ok {
		return Tensor{}, fmt.Errorf("%s: tensor %q is missing", w.Path(), name)
	}
	same := len(t.Shape) == len(shape)
	for i := 0; same && i < len(shape); i++ {
		same = shape[i] == -1 || shape[i] == t.Shape[i]
	}
	if !same {
		return Tensor{}, fmt.Errorf("%s: tensor %q has shape %v, the model needs %v", w.Path(), name, t.Shape, shape)
	}
	return t, nil
}

// Files returns the open files, in the order the index first names them.
func (w *Weights) Files() []*File { return slices.Clone(w.files) }

// Path returns the path of the first file, to name the weights in messages.
func (w *Weights) Path() string {
	if len(w.files) == 0 {
		return ""
	}
	return w.files[0].name
}

// Close closes all files. Their tensors become invalid.
func (w *Weights) Close() error {
	var errs []error
	for _, f := range w.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
