package safetensors

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// Item is a tensor to write. Its bytes come from Data or, when Stream is not nil, from Stream, which must write exactly the
// bytes that DType and Shape need; so a model larger than memory can be written.
type Item struct {
	Tensor
	Stream func(w io.Writer) error
}

// Items wraps tensors for Write.
func Items(tensors ...Tensor) []Item {
	items := make([]Item, len(tensors))
	for i, t := range tensors {
		items[i].Tensor = t
	}
	return items
}

// Write writes one safetensors file: tensors by descending element alignment and then by name, metadata keys sorted, the
// header padded with spaces to a multiple of 8, as the reference writer does. Nothing is written when an item is invalid.
func Write(w io.Writer, items []Item, metadata map[string]string) error {
	sorted := slices.Clone(items)
	slices.SortStableFunc(sorted, func(a, b Item) int {
		if a.DType != b.DType {
			return int(b.DType) - int(a.DType) // the constants are in the order of the reference's enumeration
		}
		return strings.Compare(a.Name, b.Name)
	})
	header, err := makeHeader(sorted, metadata)
	if err != nil {
		return err
	}
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))); err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for _, t := range sorted {
		if t.Stream == nil {
			if _, err := w.Write(t.Data); err != nil {
				return err
			}
			continue
		}
		n, _ := elements(t.Shape)
		c := &counter{w: w, left: n * t.DType.Size()}
		if err := t.Stream(c); err != nil {
			return fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if c.left != 0 {
			return fmt.Errorf("tensor %q: its stream ended %d bytes early", t.Name, c.left)
		}
	}
	return nil
}

// counter passes on exactly left bytes.
type counter struct {
	w    io.Writer
	left int64
}

func (c *counter) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		return 0, fmt.Errorf("its stream writes more than the shape needs")
	}
	n, err := c.w.Write(p)
	c.left -= int64(n)
	return n, err
}

// makeHeader checks the sorted items and returns the padded header.
func makeHeader(items []Item, metadata map[string]string) ([]byte, error) {
	b := []byte{'{'}
	if len(metadata) > 0 {
		for k, v := range metadata {
			if !utf8.ValidString(k) || !utf8.ValidString(v) {
				return nil, fmt.Errorf("metadata %q: not valid UTF-8", clip(k))
			}
		}
		b = append(b, `"`+metadataKey+`":`...)
		b = appendJSON(b, metadata) // encoding/json sorts the keys
		b = append(b, ',')
	}
	seen := make(map[string]bool, len(items))
	at := int64(0)
	for _, t := range items {
		n, ok := elements(t.Shape)
		hi, size := bits.Mul64(uint64(n), uint64(t.DType.Size()))
		switch {
		case seen[t.Name]:
			return nil, fmt.Errorf("tensor %q is given twice", clip(t.Name))
		case t.Name == metadataKey:
			return nil, fmt.Errorf("a tensor cannot be called %s", metadataKey)
		case !utf8.ValidString(t.Name):
			return nil, fmt.Errorf("tensor %q: the name is not valid UTF-8", clip(t.Name))
		case t.DType.Size() == 0:
			return nil, fmt.Errorf("tensor %q: invalid dtype %v", clip(t.Name), t.DType)
		case !ok || hi != 0 || size > 1<<63-1 || at+int64(size) < 0 || len(t.Shape) > maxRank:
			return nil, fmt.Errorf("tensor %q: invalid shape %v", clip(t.Name), t.Shape)
		case t.Stream == nil && uint64(len(t.Data)) != size:
			return nil, fmt.Errorf("tensor %q: %d bytes, but %v %v needs %d", clip(t.Name), len(t.Data), t.DType, t.Shape, size)
		}
		seen[t.Name] = true
		b = append(appendJSON(b, t.Name), `:{"dtype":"`+t.DType.String()+`","shape":[`...)
		for i, d := range t.Shape {
			if i > 0 {
				b = append(b, ',')
			}
			b = fmt.Append(b, d)
		}
		b = fmt.Appendf(b, `],"data_offsets":[%d,%d]},`, at, at+int64(size))
		at += int64(size)
	}
	if b[len(b)-1] == ',' {
		b = b[:len(b)-1]
	}
	b = append(b, '}')
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	if len(b) > MaxHeader {
		return nil, fmt.Errorf("the header would take %d bytes, the format allows %d: write fewer tensors per file", len(b), MaxHeader)
	}
	return b, nil
}

// appendJSON appends v without HTML escapes, as the reference writer does.
func appendJSON(b []byte, v any) []byte {
	var s strings.Builder
	e := json.NewEncoder(&s)
	e.SetEscapeHTML(false)
	e.Encode(v) // strings and string maps cannot fail
	return append(b, strings.TrimSuffix(s.String(), "\n")...)
}

// elements returns the product of shape; ok is false for negative dimensions and overflow.
func elements(shape []int64) (n int64, ok bool) {
	p := uint64(1)
	for _, d := range shape {
		hi, lo := bits.Mul64(p, uint64(max(d, 0)))
		if d < 0 || hi != 0 || lo > 1<<63-1 {
			return 0, false
		}
		p = lo
	}
	return int64(p), true
}

// WriteFile writes the file at path through a temporary file in the same directory, so that path never holds half a file.
// An existing file is replaced.
func WriteFile(path string, items []Item, metadata map[string]string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := Write(w, items, metadata); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		os.Remove(f.Name())
		return err
	}
	return os.Rename(f.Name(), path)
}
