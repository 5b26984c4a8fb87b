package study

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// disk is what a study asks of the file system. Tests replace it to lose syncs, to fail and to fill up.
type disk interface {
	// OpenAppend opens an existing file for writing at its end.
	OpenAppend(path string) (file, error)
	// Create makes a new, empty file or empties an old one.
	Create(path string) (file, error)
	Rename(from, to string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(path string) error
}

type file interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

// osDisk is the real file system.
type osDisk struct{}

func (osDisk) OpenAppend(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osDisk) Create(path string) (file, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osDisk) Rename(from, to string) error { return os.Rename(from, to) }

func (osDisk) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// temporary is the suffix of files that are being written. Such a file left behind means nothing.
const temporary = ".tmp"

// replaceFile gives a file new contents in one step: after a crash it has the old or the new ones. It does nothing if
// the contents are already there.
func replaceFile(d disk, path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temp := path + temporary
	f, err := d.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = d.Rename(temp, path)
	}
	if err != nil {
		os.Remove(temp)
		return err
	}
	return d.SyncDir(filepath.Dir(path))
}
