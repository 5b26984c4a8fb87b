package bench

import (
	"testing"

	"ecadx/internal/hostile"
)

// FuzzDecodeLatencyTable: any bytes are refused or give a table that prices schedules.
func FuzzDecodeLatencyTable(f *testing.F) {
	f.Add([]byte(`{"family":"pixart","blocks":[1],"steps":2,"once":1,"step":0.5,"cells":[{"compute":1,"reuse":0.1},{"compute":1,"reuse":0.1},{"compute":1,"reuse":0.1}]}`))
	if t, err := NewLatencyTable(madeUpReport()); err == nil {
		if data, err := t.Encode(); err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := DecodeLatencyTable(data)
		if err != nil {
			return
		}
		if again, err := table.Encode(); err != nil {
			t.Fatal(err)
		} else if _, err := DecodeLatencyTable(again); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDamagedReport(t *testing.T) {
	good, err := madeUpReport().Encode()
	if err != nil {
		t.Fatal(err)
	}
	good = good[:min(len(good), 3000)]
	hostile.Damaged(good, func(_ string, bad []byte) {
		if r, err := DecodeReport(bad); err == nil {
			CompareReports("", r, madeUpReport())
		}
	})
}
