package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestPackAndUnpack(t *testing.T) {
	dir := t.TempDir()
	program := make([]byte, 3<<20)
	state := uint64(88172645463325252)
	for i := range program {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		program[i] = byte(state)
	}
	files := map[string][]byte{"bin/ecadx": program, "tests/a": append([]byte("a"), program...), "tests/b": append([]byte("bb"), program...), "lib/x.so": []byte("x")}
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := pack(dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, archive)); err != nil || info.Size() > 4<<20 {
		t.Errorf("the archive of three alike programs of 3 MiB: %v, %v", info, err)
	}
	for range 2 { // the second time there is nothing to do
		if err := unpack(dir); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range files {
		got, err := os.ReadFile(filepath.Join(dir, name))
		info, _ := os.Stat(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(got, data) || info.Mode().Perm()&0o100 == 0 {
			t.Errorf("%s does not come back as it was: %v", name, err)
		}
	}
	if err := unpack(t.TempDir()); err == nil {
		t.Error("a folder without an archive is unpacked")
	}
}
