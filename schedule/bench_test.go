package schedule_test

import (
	"testing"

	"ecadx/schedule"
)

func BenchmarkDecode(b *testing.B) {
	g := resolve(b, "random:0.5", flux20)
	f, err := g.File(schedule.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(f.Bytes())))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := schedule.DecodeSchedule(f.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	s := resolve(b, "random:0.5", flux20).Schedule
	for b.Loop() {
		s.Hash()
	}
}
