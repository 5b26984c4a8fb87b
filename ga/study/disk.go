package study

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// disk is what a study asks of the file system. Names are relative to the study's directory, with slashes; "." is the directory itself. Tests
// replace it to lose syncs, to fail, to fill up and to stop at any point.
type disk interface {
	fs.FS
	// OpenAppend opens an existing file for writing at its end.
	OpenAppend(name string) (file, error)
	// Create makes a new, empty file or empties an old one.
	Create(name string) (file, error)
	Rename(from, to string) error
	Remove(name string) error
	// MakeDir makes a directory with those above it. One that exists is fine.
	MakeDir(name string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// Lock takes the study for this process until the result is closed. The error wraps ErrLocked if another one has it.
	Lock() (io.Closer, error)
}

type file interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

// osDisk is the real file system.
type osDisk struct {
	fs.FS
	dir string
}

func newOSDisk(dir string) osDisk { return osDisk{os.DirFS(dir), dir} }

func (d osDisk) path(name string) string { return filepath.Join(d.dir, filepath.FromSlash(name)) }

func (d osDisk) OpenAppend(name string) (file, error) {
	f, err := os.OpenFile(d.path(name), os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d osDisk) Create(name string) (file, error) {
	f, err := os.Create(d.path(name))
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d osDisk) Rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }
func (d osDisk) Remove(name string) error     { return os.Remove(d.path(name)) }

func (d osDisk) MakeDir(name string) error {
	dir := d.path(name)
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func (d osDisk) SyncDir(name string) error { return syncDir(d.path(name)) }
func (d osDisk) Lock() (io.Closer, error)  { return acquireLock(d.path(lockFile)) }

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// temporary is the suffix of files that are being written. Such a file left behind means nothing.
const temporary = ".tmp"

// replaceFile gives a file new contents in one step: after a crash it has the old or the new ones. It does nothing if the contents are already
// there.
func replaceFile(d disk, name string, data []byte) error {
	if old, err := fs.ReadFile(d, name); err == nil && bytes.Equal(old, data) {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temp := name + temporary
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
		err = d.Rename(temp, name)
	}
	if err != nil {
		d.Remove(temp) // one that stays does no harm
		return err
	}
	return d.SyncDir(path.Dir(name))
}
