package study

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing/fstest"
)

// memDisk is a file system in memory that fills up, and that a process or the power leaves at any operation.
type memDisk struct {
	names  map[string]*inode // as processes see them
	stored map[string]*inode // as they are after a power failure
	undone map[string][]link // changes of names by directory that are not synced
	dirs   map[string]bool
	locked bool

	left  int // bytes that still fit; negative: any number
	ops   int // operations that change something, so far
	dieAt int // the operation that does not return; 0: none
	dead  bool
	rand  *rand.Rand // decides how much of the last operation happens, and what survives a power failure
}

// inode is a file. What was written is never changed in place, so that stored may share memory with data.
type inode struct{ data, stored []byte }

// link is a changed name: to an inode, or to none.
type link struct {
	name, gone string // gone: removed in the same step
	to         *inode
}

var (
	errFull = errors.New("no space left on device")
	errDead = errors.New("the process is dead")
)

func newMemDisk() *memDisk {
	return &memDisk{names: map[string]*inode{}, stored: map[string]*inode{}, undone: map[string][]link{}, dirs: map[string]bool{}, left: -1,
		rand: rand.New(rand.NewPCG(1, 2))}
}

// step counts an operation. part is how much of n units of work it does; done is false if it never returns.
func (d *memDisk) step(n int) (part int, done bool) {
	if d.dead {
		return 0, false
	}
	d.ops++
	if d.dieAt != 0 && d.ops == d.dieAt {
		d.dead = true
		return d.rand.IntN(n + 1), false
	}
	return n, true
}

// restart is a new process after the old one ended, or after a power failure.
func (d *memDisk) restart(power bool) {
	d.dead, d.locked, d.dieAt, d.ops = false, false, 0, 0
	if !power {
		return
	}
	for _, dir := range slices.Sorted(maps.Keys(d.undone)) {
		for _, l := range d.undone[dir] {
			if d.rand.IntN(2) == 0 {
				l.apply(d.stored)
			}
		}
	}
	d.undone = map[string][]link{}
	d.names = maps.Clone(d.stored)
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		f := d.names[name]
		if n := len(f.data) - len(f.stored); n > 0 {
			f.data = f.data[:len(f.stored)+d.rand.IntN(n+1)]
		} else if d.rand.IntN(2) == 0 {
			f.data = f.stored
		}
		f.data = slices.Clip(f.data)
		f.stored = f.data
	}
}

func (l link) apply(names map[string]*inode) {
	if l.to != nil {
		names[l.name] = l.to
	}
	delete(names, l.gone)
}

// change changes a name now, and after the next sync of its directory for good.
func (d *memDisk) change(l link) error {
	part, done := d.step(1)
	if part == 1 {
		dir := path.Dir(max(l.name, l.gone))
		d.undone[dir] = append(d.undone[dir], l)
		l.apply(d.names)
	}
	if !done {
		return errDead
	}
	return nil
}

func (d *memDisk) OpenAppend(name string) (file, error) {
	f, ok := d.names[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memFile{d, f}, nil
}

func (d *memDisk) Create(name string) (file, error) {
	if !d.dirs[path.Dir(name)] {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrNotExist}
	}
	f := &inode{}
	return &memFile{d, f}, d.change(link{name: name, to: f})
}

func (d *memDisk) Rename(from, to string) error {
	return d.change(link{name: to, to: d.names[from], gone: from})
}

func (d *memDisk) Remove(name string) error {
	if _, ok := d.names[name]; !ok {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	return d.change(link{gone: name})
}

func (d *memDisk) MakeDir(name string) error {
	if d.dirs[name] {
		return nil
	}
	if _, done := d.step(1); !done {
		return errDead
	}
	d.dirs[name] = true
	return nil
}

func (d *memDisk) SyncDir(name string) error {
	part, done := d.step(1)
	if part == 1 {
		for _, l := range d.undone[name] {
			l.apply(d.stored)
		}
		delete(d.undone, name)
	}
	if !done {
		return errDead
	}
	return nil
}

func (d *memDisk) Lock() (io.Closer, error) {
	if d.locked {
		return nil, ErrLocked
	}
	d.locked = true
	return memLock{d}, nil
}

type memLock struct{ d *memDisk }

func (l memLock) Close() error { l.d.locked = false; return nil }

type memFile struct {
	d *memDisk
	f *inode
}

func (m *memFile) Write(b []byte) (int, error) {
	n, done := m.d.step(len(b))
	full := false
	if m.d.left >= 0 {
		full = n > m.d.left
		n = min(n, m.d.left)
		m.d.left -= n
	}
	m.f.data = append(m.f.data, b[:n]...)
	switch {
	case !done:
		return n, errDead
	case full:
		return n, errFull
	}
	return n, nil
}

func (m *memFile) Sync() error {
	part, done := m.d.step(1)
	if part == 1 {
		m.f.stored = m.f.data
	}
	if !done {
		return errDead
	}
	return nil
}

func (m *memFile) Truncate(size int64) error {
	part, done := m.d.step(1)
	if part == 1 {
		m.f.data = slices.Clip(m.f.data[:size])
	}
	if !done {
		return errDead
	}
	return nil
}

func (m *memFile) Close() error {
	if m.d.dead {
		return errDead
	}
	return nil
}

// mapFS shows the files to functions that want a whole file system.
func (d *memDisk) mapFS() fstest.MapFS {
	m := fstest.MapFS{}
	for name, f := range d.names {
		m[name] = &fstest.MapFile{Data: f.data, Mode: 0o666}
	}
	for name := range d.dirs {
		if _, ok := m[name]; !ok {
			m[name] = &fstest.MapFile{Mode: fs.ModeDir | 0o777}
		}
	}
	return m
}

func (d *memDisk) Open(name string) (fs.File, error) { return d.mapFS().Open(name) }

func (d *memDisk) ReadFile(name string) ([]byte, error) {
	f, ok := d.names[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return slices.Clip(f.data), nil
}

func (d *memDisk) Stat(name string) (fs.FileInfo, error) {
	if _, ok := d.names[name]; !ok {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return d.mapFS().Stat(name)
}

func (d *memDisk) ReadDir(name string) ([]fs.DirEntry, error) {
	if !d.dirs[name] {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	var list []fs.DirEntry
	for full := range d.names {
		if path.Dir(full) == name {
			list = append(list, memEntry(path.Base(full)))
		}
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

// memEntry is a file in a directory. Directories are not listed: nobody asks for them.
type memEntry string

func (e memEntry) Name() string               { return string(e) }
func (e memEntry) IsDir() bool                { return false }
func (e memEntry) Type() fs.FileMode          { return 0 }
func (e memEntry) Info() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }
