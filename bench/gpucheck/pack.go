package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// The command and every test program hold the same kernels for five architectures. One archive with a window longer than a program stores
// them once: a tenth of the bytes.
const (
	archive       = "programs.tar.zst"
	archiveWindow = 1 << 28
)

// packed are the folders that go into the archive.
var packed = []string{"bin/ecadx", "tests", "lib"}

// pack moves the programs and libraries of a bundle into its archive.
func pack(dir string) (err error) {
	out, err := os.Create(filepath.Join(dir, archive))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	z, err := zstd.NewWriter(out, zstd.WithWindowSize(archiveWindow), zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, top := range packed {
		err := filepath.WalkDir(filepath.Join(dir, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			return add(t, dir, path)
		})
		if err != nil {
			return err
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return err
	}
	for _, top := range packed {
		if err := os.RemoveAll(filepath.Join(dir, top)); err != nil {
			return err
		}
	}
	return nil
}

func add(t *tar.Writer, dir, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := t.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Mode: int64(info.Mode().Perm()), Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}

// unpack puts back what pack took, unless that was done before.
func unpack(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "bin", "ecadx")); err == nil {
		return nil
	}
	in, err := os.Open(filepath.Join(dir, archive))
	if err != nil {
		return err
	}
	defer in.Close()
	z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(archiveWindow))
	if err != nil {
		return err
	}
	defer z.Close()
	t := tar.NewReader(z)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("%s: %q lies outside of the bundle", archive, h.Name)
		}
		if err := extract(filepath.Join(dir, h.Name), h.FileInfo().Mode().Perm(), t); err != nil {
			return err
		}
	}
}

func extract(path string, mode fs.FileMode, from io.Reader) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, from)
	return err
}
