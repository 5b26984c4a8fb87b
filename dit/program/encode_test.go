package program_test

import (
	"bytes"
	"testing"

	"ecadx/dit/program"
)

func TestRoundTrip(t *testing.T) {
	p := compileTiny(t, "cccc", "crcr", "rrrr", "crcr", "cccc")
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	q, err := program.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	again, err := q.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, again) {
		t.Fatal("encode(decode(x)) differs from x")
	}
	if len(p.Sections) != 4 { // prologue and three distinct rows
		t.Errorf("%d sections, want 4", len(p.Sections))
	}
}
