package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/term"
)

// writeJSON prints one JSON document.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// checkAbsent refuses paths that exist, unless --force was given.
func (o *options) checkAbsent(paths ...string) error {
	if o.force {
		return nil
	}
	for _, p := range paths {
		switch _, err := os.Lstat(p); {
		case err == nil:
			return inputError("%s: exists already: give another --out, or --force to overwrite it", p)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return nil
}

// writeFile writes a file in one step, its directory made if missing: nobody ever sees half of it.
func writeFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}

// isTerminal tells whether a writer shows what it gets to a person.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// terminalColumns is the width of a terminal, 0 if it is none or does not say.
func terminalColumns(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return columns
}

// remark prints a line for people on standard error.
func (o *options) remark(env *environment, format string, args ...any) {
	if !o.quiet {
		fmt.Fprintf(env.stderr, format+"\n", args...)
	}
}
