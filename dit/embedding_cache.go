package dit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"ecadx/dit/safetensors"
)

// cachedEncoder is the number of weights from which on embeddings are kept on disk: encoding with T5-XXL takes seconds a prompt and 19 GB.
var cachedEncoder = int64(100e6)

// embeddingCache keeps embeddings as safetensors files in the user's cache folder (ecadx/embeddings), named by a hash of everything they
// depend on. Losing or deleting files only costs time. The zero value keeps nothing.
type embeddingCache struct {
	dir     string
	encoder [sha256.Size]byte
}

// newEmbeddingCache identifies the encoder by its configuration, its tensors' names, types and shapes, and the first and last bytes of each.
func newEmbeddingCache(t *Tensors, config []byte) *embeddingCache {
	base, err := os.UserCacheDir()
	if err != nil || t.Parameters() < cachedEncoder {
		return &embeddingCache{}
	}
	const sample = 4096
	h := sha256.New()
	h.Write(config)
	for _, name := range t.Names() {
		if err := t.Read(name, func(x safetensors.Tensor) error {
			fmt.Fprintf(h, "%q %v %v\n", name, x.DType, x.Shape)
			h.Write(x.Data[:min(sample, len(x.Data))])
			_, err := h.Write(x.Data[max(0, len(x.Data)-sample):])
			return err
		}); err != nil {
			return &embeddingCache{}
		}
	}
	return &embeddingCache{dir: filepath.Join(base, "ecadx", "embeddings"), encoder: [sha256.Size]byte(h.Sum(nil))}
}

// path is the file of a token sequence encoded in an arithmetic.
func (c *embeddingCache) path(ids []int32, dtype DType) string {
	h := sha256.New()
	h.Write(c.encoder[:])
	fmt.Fprintf(h, "%v\n", dtype)
	for _, id := range ids {
		h.Write(binary.LittleEndian.AppendUint32(nil, uint32(id)))
	}
	return filepath.Join(c.dir, hex.EncodeToString(h.Sum(nil))+".safetensors")
}

const cachedTensor = "prompt_embeds"

// load returns the embedding of ids, [rows, width], if it is kept and of the right size; a damaged file counts as none.
func (c *embeddingCache) load(ids []int32, rows, width int, dtype DType) ([]float32, bool) {
	if c.dir == "" {
		return nil, false
	}
	f, err := safetensors.Open(c.path(ids, dtype))
	if err != nil {
		return nil, false
	}
	defer f.Close()
	x, ok := f.Tensor(cachedTensor)
	if !ok || len(x.Shape) != 2 || x.Shape[0] != int64(rows) || x.Shape[1] != int64(width) || x.DType != safetensors.F32 {
		return nil, false
	}
	v, err := x.ToFloat32()
	return v, err == nil
}

// store keeps an embedding. The cache is a convenience: a full disk must not stop the pictures, so the caller may ignore the error.
func (c *embeddingCache) store(ids []int32, rows, width int, dtype DType, values []float32) error {
	if c.dir == "" {
		return nil
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	item, err := safetensors.FromFloat32(cachedTensor, safetensors.F32, []int64{int64(rows), int64(width)}, values)
	if err != nil {
		return err
	}
	return safetensors.WriteFile(c.path(ids, dtype), safetensors.Items(item), nil)
}
