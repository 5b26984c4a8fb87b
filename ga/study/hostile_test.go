package study

import (
	"testing"

	"ecadx/internal/hostile"
)

// FuzzReadFront: any bytes are refused or give a front that can be written again.
func FuzzReadFront(f *testing.F) {
	f.Add([]byte(`{"quality":"scene","cost":"macs","front":[{"hash":"00","file":"schedules/00.json","quality":0.5,"quality_ci95":[0.4,0.6],"cost":1e12}],"seeds":[{}],"seed":18446744073709551615}`))
	f.Add([]byte(`{"front":null,"uncached":{"quality":null,"invalid":"NaN"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		front, err := decodeFront(data)
		if err != nil {
			return
		}
		again, err := front.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeFront(again); err != nil {
			t.Fatal(err)
		}
		front.SVG()
	})
}

// Every truncation and every flipped bit of a log is found or loses no more than its torn end, at no cost.
func TestDamagedLog(t *testing.T) {
	_, dir, _ := whole(t)
	log := readFile(t, firstSegment(dir))
	log = log[:min(len(log), segmentHead+600)]
	reader := freshReader()
	if _, _, err := reader.segment(log, true); err != nil {
		t.Fatal(err)
	}
	scores := reader.count()
	hostile.Damaged(log, func(what string, bad []byte) {
		hostile.Bounded(t, len(bad), func() {
			r := freshReader()
			if good, _, err := r.segment(bad, true); err == nil && (int64(good) > int64(len(bad)) || r.count() > scores) {
				t.Errorf("%s: %d bytes good, %d scores of %d", what, good, r.count(), scores)
			}
		})
	})
}
