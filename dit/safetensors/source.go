package safetensors

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// Source is a folder that holds a model or a part of it: a directory on disk or a folder of an fs.FS. The zero value is not
// usable. A Source holds no open files and may be copied.
type Source struct {
	disk string // directory, when fsys is nil
	fsys fs.FS
	dir  string // folder inside fsys
}

// Dir is the directory at path. Weights opened from it are mapped.
func Dir(path string) Source { return Source{disk: path} }

// FS is the root of fsys, for example an embed.FS. Weights opened from it are read into memory.
func FS(fsys fs.FS) Source { return Source{fsys: fsys, dir: "."} }

// Sub is the folder name below s. It need not exist. Name is slash-separated and local: it does not leave s.
func (s Source) Sub(name string) Source {
	if s.fsys != nil {
		s.dir = path.Join(s.dir, name)
	} else {
		s.disk = filepath.Join(s.disk, filepath.FromSlash(name))
	}
	return s
}

// Path is what errors call the file name below s; "" is s itself.
func (s Source) Path(name string) string {
	sub := s.Sub(name)
	if s.fsys != nil {
		return sub.dir
	}
	return sub.disk
}

// Exists tells whether s holds a regular file called name, symbolic links followed.
func (s Source) Exists(name string) bool {
	var info fs.FileInfo
	var err error
	if s.fsys != nil {
		info, err = fs.Stat(s.fsys, s.Path(name))
	} else {
		info, err = os.Stat(s.Path(name))
	}
	return err == nil && info.Mode().IsRegular()
}

// ReadFile returns the content of a small file such as a configuration. A file larger than limit bytes is an error. Missing
// files satisfy errors.Is(err, fs.ErrNotExist).
func (s Source) ReadFile(name string, limit int64) ([]byte, error) {
	var f fs.File
	var err error
	if s.fsys != nil {
		f, err = s.fsys.Open(s.Path(name))
	} else {
		f, err = os.Open(s.Path(name))
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkRegular(s.Path(name), info); err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are read", s.Path(name), info.Size(), limit)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			err = errors.New("the file shrank while it was read")
		}
		return nil, fmt.Errorf("%s: %w", s.Path(name), err)
	}
	return data, nil
}

// Open opens the safetensors file name: mapped from disk, read from an fs.FS.
func (s Source) Open(name string) (*File, error) {
	if s.fsys != nil {
		return OpenFS(s.fsys, s.Path(name))
	}
	return Open(s.Path(name))
}
