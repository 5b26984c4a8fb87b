package safetensors

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"

	"ecadx/dit/jsonscan"
)

// MaxIndex is the largest index file that is read, in bytes. The index of a 12-billion-parameter model has about 120 KB.
const MaxIndex = 4 << 20

// DefaultVariants is the order in which OpenWeights looks for weights when it is given none: the plain files first, then
// the half-precision copies that snapshots keep beside them or in their place.
var DefaultVariants = []string{"", "fp16", "bf16"}

// Weights holds the tensors of one part of a model, from one file or several shards. Its methods may be called from several
// goroutines at a time; Close must come last.
type Weights struct{ files []*File }

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
// Every tensor of the map must be in its shard, and no tensor may be in two. Shards are plain file names beside the index.
// As in the reference, tensors that the map does not list are loaded too.
func OpenSharded(s Source, name string) (_ *Weights, err error) {
	data, err := s.ReadFile(name, MaxIndex)
	if err != nil {
		return nil, err
	}
	w := &Weights{}
	defer func() {
		if err != nil {
			w.Close()
			err = fmt.Errorf("%s: %w", s.Path(name), err)
		}
	}()
	opened := map[string]*File{}
	err = parseIndex(data, func(tensor, file []byte) error {
		f := opened[string(file)]
		if f == nil {
			if len(file) == 0 || string(file) == "." || string(file) == ".." || bytes.ContainsAny(file, "/\\:\x00") {
				return fmt.Errorf("shard %q is not a plain file name", clip(string(file)))
			}
			var err error
			if f, err = s.Open(string(file)); err != nil {
				return err
			}
			opened[string(file)] = f
			w.files = append(w.files, f)
		}
		if f.index.find(tensor) == nil {
			return fmt.Errorf("it is not in %s", file)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return w, w.checkTwice()
}

// checkTwice refuses a tensor that two files hold.
func (w *Weights) checkTwice() error {
	for i, f := range w.files {
		for _, e := range f.index.entries {
			name := f.index.name(e)
			for _, g := range w.files[:i] {
				if g.index.find(name) != nil {
					return fmt.Errorf("tensor %q is in both %s and %s", clip(string(name)), g.name, f.name)
				}
			}
		}
	}
	return nil
}

// parseIndex calls add for each member of weight_map, in file order. Errors of add get the tensor's name.
func parseIndex(data []byte, add func(tensor, file []byte) error) error {
	if !utf8.Valid(data) {
		return errors.New("not valid UTF-8")
	}
	s := &scanner{jsonscan.Scanner{Bytes: data}}
	members := -1 // no weight_map yet
	var tensor, file []byte
	err := s.List('{', '}', func() error {
		key, err := s.Key()
		if err != nil {
			return err
		}
		if string(key.Raw(data)) != "weight_map" {
			return s.Skip()
		}
		if members >= 0 {
			return s.Errorf("weight_map appears twice")
		}
		members = 0
		return s.List('{', '}', func() error {
			members++
			k, v, err := s.pair()
			if err != nil {
				return fmt.Errorf("weight_map: %w", err)
			}
			tensor, file = k.Append(tensor[:0], data), v.Append(file[:0], data)
			if err := add(tensor, file); err != nil {
				return fmt.Errorf("weight_map: tensor %q: %w", clip(string(tensor)), err)
			}
			return nil
		})
	})
	if err == nil {
		err = s.End()
	}
	switch {
	case err != nil:
		return err
	case members < 0:
		return errors.New(`not an index: key "weight_map" is missing`)
	case members == 0:
		return errors.New("weight_map lists no tensors")
	}
	return nil
}

// Names returns the names of all tensors, sorted.
func (w *Weights) Names() []string {
	var names []string
	for _, f := range w.files {
		names = append(names, f.Names()...)
	}
	slices.Sort(names)
	return names
}

// Tensor returns the tensor called name and whether there is one. The data is not copied.
func (w *Weights) Tensor(name string) (Tensor, bool) {
	for _, f := range w.files {
		if t, ok := f.Tensor(name); ok {
			return t, true
		}
	}
	return Tensor{}, false
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
