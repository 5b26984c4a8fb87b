package dit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

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
	pipeline := "PixArtAlphaPipeline"
	if m.family.defaults().TextTokens > 120 {
		pipeline = "PixArtSigmaPipeline"
	}
	files := []struct{ name, text string }{
		{modelIndexFile, fmt.Sprintf(modelIndexText, pipeline)},
		{path.Join(string(Scheduler), schedulerFile), schedulerText},
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

// modelIndexText is model_index.json of a snapshot without text encoder and decoder.
const modelIndexText = `{
  "_class_name": "%s",
  "scheduler": [
    "diffusers",
    "DPMSolverMultistepScheduler"
  ],
  "text_encoder": [
    null,
    null
  ],
  "tokenizer": [
    null,
    null
  ],
  "transformer": [
    "diffusers",
    "PixArtTransformer2DModel"
  ],
  "vae": [
    null,
    null
  ]
}
`

// schedulerText is PixArt's scheduler_config.json: the class's defaults.
const schedulerText = `{
  "_class_name": "DPMSolverMultistepScheduler",
  "algorithm_type": "dpmsolver++",
  "beta_end": 0.02,
  "beta_schedule": "linear",
  "beta_start": 0.0001,
  "final_sigmas_type": "zero",
  "lower_order_final": true,
  "num_train_timesteps": 1000,
  "prediction_type": "epsilon",
  "solver_order": 2,
  "solver_type": "midpoint",
  "timestep_spacing": "linspace"
}
`
