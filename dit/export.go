package dit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"ecadx/dit/hfconfig"
	"ecadx/dit/safetensors"
)

// ExportOptions modify Export.
type ExportOptions struct {
	Force    bool                  // replace an existing snapshot
	Progress func(done, all int64) // bytes of weights written, may be nil
}

// ErrExists is wrapped when Export would overwrite something.
var ErrExists = errors.New("exists already")

// Export writes a random or built-in model as a snapshot that diffusers reads. The directory appears only when it is complete.
func (m *Model) Export(dir string, opt ExportOptions) (err error) {
	if m.snapshot != nil && m.builtin == nil {
		return fmt.Errorf("%s: this is a snapshot already: export is for built-in and %s models", m.ref, randomPrefix)
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 && !opt.Force {
		return fmt.Errorf("%s: %w: give another directory or force it", dir, ErrExists)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(dir)), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(dir)), ".export-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	if m.builtin != nil {
		err = os.CopyFS(tmp, m.builtin)
	} else {
		err = m.writeRandom(tmp, opt.Progress)
	}
	if err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if opt.Force {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	} else if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) { // an empty directory
		return err
	}
	return os.Rename(tmp, dir)
}

// writeRandom writes transformer and scheduler; values are generated piece by piece.
func (m *Model) writeRandom(dir string, progress func(done, all int64)) error {
	index, err := m.modelIndex()
	if err != nil {
		return err
	}
	files := []struct{ name, text string }{
		{modelIndexFile, index},
		{path.Join(string(Scheduler), schedulerFile), m.family.traits().scheduler},
		{path.Join(string(Transformer), configFile), string(m.config)},
	}
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(f.text), 0o644); err != nil {
			return err
		}
	}
	var items []safetensors.Item
	var done, all int64
	for _, s := range m.family.tensors() {
		all += 4 * elements(s.Shape)
		items = append(items, safetensors.Item{
			Tensor: safetensors.Tensor{Name: s.Name, DType: safetensors.F32, Shape: s.Shape},
			Stream: func(w io.Writer) error {
				return streamRandom(w, m.seed, s, func(n int64) {
					if done += n; progress != nil {
						progress(done, all)
					}
				})
			},
		})
	}
	name := filepath.Join(dir, string(Transformer), diffusersWeights+".safetensors")
	return safetensors.WriteFile(name, items, map[string]string{"format": "pt"})
}

// streamRandom writes the values of one tensor.
func streamRandom(w io.Writer, seed uint64, s TensorSpec, wrote func(int64)) error {
	d := weightDistribution(s.Name, s.Shape)
	buf := make([]byte, 1<<20)
	for at, n := int64(0), 4*elements(s.Shape); at < n; {
		part := buf[:min(int64(len(buf)), n-at)]
		fillRandom(part, seed, s.Name, int(at/4), d)
		if _, err := w.Write(part); err != nil {
			return err
		}
		at += int64(len(part))
		wrote(int64(len(part)))
	}
	return nil
}

// modelIndex is model_index.json of a snapshot with transformer and scheduler alone.
func (m *Model) modelIndex() (string, error) {
	t := m.family.traits()
	classes := map[Part]string{}
	for part, file := range map[Part][]byte{Transformer: m.config, Scheduler: []byte(t.scheduler)} {
		var class struct {
			Name string `json:"_class_name"`
		}
		if err := hfconfig.Decode(file, &class); err != nil {
			return "", err
		}
		classes[part] = class.Name
	}
	var b strings.Builder
	fmt.Fprintf(&b, "{\n  \"_class_name\": %q", t.pipeline)
	for _, part := range slices.Sorted(slices.Values(t.parts)) {
		library, class := "null", "null"
		if name := classes[part]; name != "" {
			library, class = `"diffusers"`, strconv.Quote(name)
		}
		fmt.Fprintf(&b, ",\n  %q: [\n    %s,\n    %s\n  ]", part, library, class)
	}
	b.WriteString("\n}\n")
	return b.String(), nil
}
