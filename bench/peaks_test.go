package bench

import (
	"testing"

	ecad "ecadx/cgo"
	"ecadx/dit"
)

func TestPeaks(t *testing.T) {
	dev, err := ecad.OpenDevice(ecad.DeviceConfig{Backend: ecad.Reference})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	p, err := MeasurePeaks(t.Context(), dev, dit.BFloat16)
	if err != nil {
		t.Fatal(err)
	}
	if !(p.Matmul > 0 && p.MatmulFloat32 > 0 && p.Copy > 0) || p.DType != "bfloat16" || p.Method == "" {
		t.Errorf("%+v", p)
	}
	if info, err := dev.Info(); err != nil || info.MemoryUsed > 1<<20 {
		t.Errorf("%d bytes stay in use, %v", info.MemoryUsed, err)
	}
}
