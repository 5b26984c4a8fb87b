package dit

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	ecad "ecadx/cgo"
)

// Embeddings of a large encoder are kept on disk, used again bit for bit, and made again when a file is damaged.
func TestEmbeddingCache(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	defer func(n int64) { cachedEncoder = n }(cachedEncoder)
	cachedEncoder = 0
	m, err := Open(DefaultModel)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	dev, err := ecad.OpenDevice(ecad.DeviceConfig{Backend: ecad.CPU, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	encode := func(dtype DType, text string) []float32 {
		t.Helper()
		e, err := m.OpenPromptEncoder()
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		p, err := e.Encode(context.Background(), dev, dtype, []string{text})
		if err != nil {
			t.Fatal(err)
		}
		return p[0].Embeds
	}
	files := func() []string {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		list, err := filepath.Glob(filepath.Join(base, "ecadx", "embeddings", "*.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	first := encode(Float32, "a small red ring")
	if n := len(files()); n != 1 {
		t.Fatalf("%d files after the first prompt, want 1", n)
	}
	// A change inside the kept file comes back: it is what is read.
	data, err := os.ReadFile(files()[0])
	if err != nil {
		t.Fatal(err)
	}
	changed := slices.Clone(data)
	changed[len(changed)-1] ^= 0x01
	if err := os.WriteFile(files()[0], changed, 0o644); err != nil {
		t.Fatal(err)
	}
	if slices.Equal(encode(Float32, "A small red ring "), first) {
		t.Error("the kept embedding was not used")
	}
	if err := os.WriteFile(files()[0], data[:len(data)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(encode(Float32, "a small red ring"), first) {
		t.Error("a cut file changes the embedding")
	}
	encode(Float32, "a large blue square")
	encode(BFloat16, "a large blue square")
	if n := len(files()); n != 3 {
		t.Errorf("%d files after two prompts and two arithmetics, want 3", n)
	}
}
