package safetensors

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"ecadx/dit/jsonscan"
)

// Tensor is one tensor of a file. Data holds the elements row-major and little-endian, starting at any alignment; it
// belongs to the File it came from and must not be changed or used after the file is closed.
type Tensor struct {
	Name  string
	DType DType
	Shape []int64 // outermost dimension first; empty for a scalar; a dimension may be 0
	Data  []byte
}

// Elements returns the product of the shape.
func (t Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// File is an open safetensors file. Its methods may be called from several goroutines at a time; Close must come last.
type File struct {
	name  string
	index *index
	close func() error
}

// Open maps the file at path (or reads it where the system cannot map) and checks all of it. Symbolic links are followed.
// A mapped file must not be truncated while it is open. Errors name the file, and the tensor and key at fault.
func Open(path string) (*File, error) {
	data, unmap, err := mapFile(path)
	if err != nil {
		return nil, err // os errors name the path
	}
	return newFile(path, data, unmap)
}

// OpenFS reads the file name of fsys. An fs.FS offers no way to map, so the file's bytes are copied once.
func OpenFS(fsys fs.FS, name string) (*File, error) {
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	return newFile(name, data, nil)
}

// OpenBytes checks data, the content of a file; name is what errors call it. Tensors point into data.
func OpenBytes(name string, data []byte) (*File, error) { return newFile(name, data, nil) }

func newFile(name string, data []byte, close func() error) (*File, error) {
	if close == nil {
		close = func() error { return nil }
	}
	x, err := parse(data)
	if err != nil {
		close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &File{name: name, index: x, close: close}, nil
}

// Name returns the path or name the file was opened by.
func (f *File) Name() string { return f.name }

// Len returns the number of tensors.
func (f *File) Len() int { return len(f.index.entries) }

// Names returns the names of all tensors, sorted.
func (f *File) Names() []string {
	names := make([]string, len(f.index.entries))
	for i := range names {
		names[i] = string(f.index.name(f.index.entries[i]))
	}
	return names
}

// Tensor returns the tensor called name and whether the file has it. The data is not copied.
func (f *File) Tensor(name string) (Tensor, bool) {
	e := f.index.find(unsafe.Slice(unsafe.StringData(name), len(name)))
	if e == nil {
		return Tensor{}, false
	}
	return f.index.tensor(e), true
}

// Metadata returns a new map of the file's __metadata__, empty if it has none. Of duplicate keys the last one counts.
func (f *File) Metadata() map[string]string {
	m := map[string]string{}
	if f.index.metadata.Len == 0 {
		return m
	}
	s := &scanner{jsonscan.Scanner{Bytes: f.index.header, Pos: f.index.metadata.Off}}
	s.List('{', '}', func() error { // checked when the file was opened
		k, v, err := s.pair()
		m[string(k.Append(nil, s.Bytes))] = string(v.Append(nil, s.Bytes))
		return err
	})
	return m
}

// Close releases the file. All tensors of the file become invalid. Closing twice is harmless.
func (f *File) Close() error {
	c := f.close
	f.close = func() error { return nil }
	f.index = &index{}
	return c()
}

// checkRegular refuses directories, devices and files too large for the address space.
func checkRegular(path string, info os.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: not a regular file", filepath.Clean(path))
	}
	if info.Size() != int64(int(info.Size())) {
		return fmt.Errorf("%s: %d bytes do not fit the address space", filepath.Clean(path), info.Size())
	}
	return nil
}
