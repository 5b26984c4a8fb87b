package study

import (
	"errors"
	"testing"
)

// FuzzReadSegment reads arbitrary bytes after a good header: an error or whole records, never a crash. With an odd first
// byte the input is a list of types and payloads that get correct checksums, so that the payloads are reached too.
func FuzzReadSegment(f *testing.F) {
	_, dir, _ := whole(f)
	log := readFile(f, firstSegment(dir))
	f.Add(append([]byte{0}, log[segmentHead:]...))
	f.Add(append([]byte{0}, log[segmentHead:len(log)-7]...))
	structured := []byte{1}
	for at := segmentHead; at < len(log); {
		t, payload, size, err := nextRecord(log[at:])
		if err != nil {
			f.Fatal(err)
		}
		structured = append(append(structured, byte(t), byte(len(payload))), payload...)
		at += size
	}
	f.Add(structured)
	head := append([]byte(nil), log[:segmentHead]...)
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 {
			return
		}
		data := append([]byte(nil), head...)
		if in[0]%2 == 0 {
			data = append(data, in[1:]...)
		} else {
			for in = in[1:]; len(in) > 2; {
				n := min(int(in[1]), len(in)-2)
				data = appendRecord(data, recordType(in[0]), in[2:2+n])
				in = in[2+n:]
			}
		}
		s := freshReader()
		good, ended, err := s.segment(data, true)
		if err != nil {
			var c *CorruptError
			if !errors.As(err, &c) || c.Offset > int64(len(data)) {
				t.Fatalf("an error without a place: %v", err)
			}
			return
		}
		again := freshReader()
		if g, e, err := again.segment(data[:good], true); err != nil || g != good || e != ended || again.count() != s.count() {
			t.Fatalf("what was read once reads differently: %d of %d bytes, %v", g, good, err)
		}
		for h, l := range s.scores {
			for _, image := range l.images {
				if score, ok := s.score(h, image); !ok || score != score.Checked() {
					t.Fatalf("score %+v, %v", score, ok)
				}
			}
		}
		if _, payload, _, err := nextRecord(data[segmentHead:]); err == nil {
			parseParts(payload)
		}
	})
}
