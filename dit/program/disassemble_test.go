package program_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"ecadx/dit/program"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with testdata/name.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; if that is meant, run go test ./dit/program -update\ngot:\n%s", name, got)
	}
}

func TestDisassemble(t *testing.T) {
	p := compileTiny(t, "cccc", "rcrr", "rrrr", "rcrr")
	var out bytes.Buffer
	err := p.Disassemble(&out, program.DisassembleOptions{Component: func(_, c int) string { return [2]string{"attn", "ff"}[c] }})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "tiny.txt", out.Bytes())
}
