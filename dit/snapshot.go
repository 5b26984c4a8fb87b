package dit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"ecadx/dit/hfconfig"
	"ecadx/dit/safetensors"
)

// Part is a folder of a snapshot, by its name in diffusers' layout.
type Part string

// The parts of the families we know.
const (
	Transformer  Part = "transformer"
	VAE          Part = "vae"
	TextEncoder  Part = "text_encoder"
	TextEncoder2 Part = "text_encoder_2"
	Tokenizer    Part = "tokenizer"
	Tokenizer2   Part = "tokenizer_2"
	Scheduler    Part = "scheduler"
)

// The names of the files that every part of one library has.
const (
	diffusersWeights    = "diffusion_pytorch_model"
	transformersWeights = "model"
	configFile          = "config.json"
	schedulerFile       = "scheduler_config.json"
	modelIndexFile      = "model_index.json"
)

// Snapshot is a model in diffusers' layout: one folder per part and model_index.json, or a bare transformer folder. Opening
// it reads nothing but the presence of files; a missing part is an error only when it is asked for.
type Snapshot struct {
	ref  string // what the user called it, for messages
	src  safetensors.Source
	bare bool // src is the transformer folder itself
	disk bool // src is a directory, whose weights are mapped

	// Of a checkpoint file without a folder of its own: its name without the ending, and the configuration that its tensors have.
	weights string
	config  []byte
}

const weightsSuffix = ".safetensors"

// onDisk: weights of directories are mapped, where that is possible.
const onDisk = runtime.GOOS != "windows"

// openSnapshotDir looks at a directory.
func openSnapshotDir(dir string) (*Snapshot, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s: a file: give the directory of a snapshot, or a FLUX transformer's %s", dir, weightsSuffix)
	}
	return openSnapshot(&Snapshot{ref: dir, src: safetensors.Dir(dir), disk: onDisk})
}

// openSnapshotFS looks at a file tree, such as an embedded one. ref is what the user called it.
func openSnapshotFS(ref string, fsys fs.FS) (*Snapshot, error) {
	return openSnapshot(&Snapshot{ref: ref, src: safetensors.FS(fsys)})
}

func openSnapshot(s *Snapshot) (*Snapshot, error) {
	if s.src.Exists(modelIndexFile) || s.src.Sub(string(Transformer)).Exists(configFile) {
		return s, nil
	}
	if s.src.Exists(configFile) {
		s.bare = true
		return s, nil
	}
	return nil, fmt.Errorf("%s: no model: found neither %s nor %s/%s nor %s: give a snapshot in diffusers' layout or its transformer folder",
		s.ref, modelIndexFile, Transformer, configFile, configFile)
}

// Path is what messages call the snapshot.
func (s *Snapshot) Path() string { return s.ref }

// Folder returns the folder of a part. It need not exist.
func (s *Snapshot) Folder(p Part) safetensors.Source {
	if s.bare && p == Transformer {
		return s.src
	}
	return s.src.Sub(string(p))
}

// Has tells whether the snapshot holds the file of a part.
func (s *Snapshot) Has(p Part, file string) bool {
	if s.config != nil {
		return p == Transformer && file == configFile
	}
	return (!s.bare || p == Transformer) && s.Folder(p).Exists(file)
}

// ReadFile reads a small file of a part, such as a tokenizer, of at most limit bytes. When it is missing the error names the file and
// satisfies errors.Is(err, fs.ErrNotExist).
func (s *Snapshot) ReadFile(p Part, file string, limit int64) ([]byte, error) {
	if !s.Has(p, file) {
		return nil, s.missing(p, file)
	}
	if s.config != nil {
		return s.config, nil
	}
	return s.Folder(p).ReadFile(file, limit)
}

func (s *Snapshot) missing(p Part, file string) error {
	if s.bare {
		return fmt.Errorf("%s: this is a transformer alone, but %s/%s is needed: give the whole snapshot: %w", s.ref, p, file, fs.ErrNotExist)
	}
	return fmt.Errorf("%s: %s is missing: the snapshot lacks its %s: %w", s.ref, s.Folder(p).Path(file), p, fs.ErrNotExist)
}

// ReadConfig decodes a part's JSON file into v, whose fields keep their values where the key is missing or null. Errors name the file
// and the key.
func (s *Snapshot) ReadConfig(p Part, file string, v any) error {
	data, err := s.ReadFile(p, file, hfconfig.MaxSize)
	if err != nil {
		return err
	}
	if err := hfconfig.Decode(data, v); err != nil {
		return fmt.Errorf("%s: %w", s.Folder(p).Path(file), err)
	}
	return nil
}

// OpenTensors opens the weights of a part. Text encoders are saved by transformers, the others by diffusers, each under its own file
// name.
func (s *Snapshot) OpenTensors(p Part) (*Tensors, error) {
	base := diffusersWeights
	if p == TextEncoder || p == TextEncoder2 {
		base = transformersWeights
	}
	if s.bare && p != Transformer {
		return nil, s.missing(p, base+weightsSuffix)
	}
	if s.weights != "" {
		base = s.weights
	}
	t, err := openTensors(s.Folder(p), base, s.disk)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: the snapshot lacks the weights of its %s: %w", s.ref, p, err)
	}
	return t, err
}
