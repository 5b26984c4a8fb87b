package main

import (
	"strings"
	"testing"
)

const report = `ptxas info    : Compiling entry function '_Z4goodv' for 'sm_90a'
ptxas info    : Function properties for _Z4goodv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers
ptxas info    : Compiling entry function '_Z3badv' for 'sm_90a'
    40 bytes stack frame, 72 bytes spill stores, 68 bytes spill loads
ptxas info    : Used 128 registers`

const sass = `	code for sm_90a
		Function : _Z4goodv
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 UTMALDG.2D [UR8], [UR4] ;
        /*0020*/                   HGMMA.64x128x16.F32.BF16 R24, gdesc[UR8], R24 ;
		Function : _Z3badv
        /*0000*/                   STL [R1], R2 ;
        /*0010*/               @P1 LDL.64 R2, [R1] ;`

// The kernels on wgmma, products and attention, are held to its instructions and to no local memory.
func TestRules(t *testing.T) {
	for _, object := range []string{"linear_sm90", "linear_sm90_gated", "attention_sm90"} {
		t.Run(object, func(t *testing.T) { checkRules(t, object) })
	}
}

func checkRules(t *testing.T, object string) {
	kernels := parseReport(report)
	if len(kernels) != 2 {
		t.Fatalf("%d kernels, want 2", len(kernels))
	}
	code := parseSASS(sass)
	for _, k := range kernels {
		k.object, k.instructions = object, code[site{k.symbol, k.arch}]
	}
	if p := kernels[0].problems(); len(p) != 0 {
		t.Errorf("a good kernel: %q", p)
	}
	if got := strings.Join(kernels[1].problems(), "; "); got != "1 LDL: local memory; 1 STL: local memory; 40 bytes of stack, 140 bytes of spills; "+
		"no HGMMA: it should be wgmma on operands that the tensor memory accelerator brings; no UTMALDG: it should be wgmma on operands that the tensor memory accelerator brings" {
		t.Errorf("a bad kernel: %q", got)
	}
}

// What fits an sm_80 need not fit an sm_86.
func TestSharedMemoryOfABlock(t *testing.T) {
	for arch, fits := range map[string]bool{"sm_80": true, "sm_86": false, "sm_89": false, "sm_90a": true} {
		k := kernel{arch: arch, launch: &launch{shared: 99<<10 + 16}}
		if got := len(k.problems()) == 0; got != fits {
			t.Errorf("99 KiB and 16 bytes on %s: fits %v", arch, got)
		}
	}
}

func TestOccupancyAndRoofline(t *testing.T) {
	k := kernel{arch: "sm_90a", registers: 168, launch: &launch{threads: 384, shared: 200 << 10, bytes: 1e6, macs: 1e8}}
	if got := k.warps(); got != 12 {
		t.Errorf("one block of 12 warps fits by shared memory, got %d", got)
	}
	k.launch.shared = 0
	if got := k.warps(); got != 12 { // 168 registers: 5376 a warp, 12 warps, one block of 12
		t.Errorf("one block fits by registers, got %d warps", got)
	}
	if got := k.launch.roof(); got != "products, at most 790 TFLOP/s" {
		t.Errorf("200 FLOP/byte: %s", got)
	}
	k.launch.macs = 1e7
	if got := k.launch.roof(); got != "memory, at most 86 TFLOP/s" {
		t.Errorf("20 FLOP/byte: %s", got)
	}
}

func TestNamesOfBothCompilers(t *testing.T) {
	a := canonical("void ecad::cuda::chain_kernel<ecad::cuda::ChainConfig<8ul, float> >(ecad::cuda::ChainParams)")
	b := canonical("ecad::cuda::chain_kernel<ecad::cuda::ChainConfig<8, float>>")
	if a != b {
		t.Errorf("%q is not %q", a, b)
	}
	a = canonical("void ecad::cuda::map_kernel<ecad::cuda::MapConfig<(ecad::cuda::MapOp)4, 8> >(ecad::cuda::MapParams)")
	b = canonical("ecad::cuda::map_kernel<ecad::cuda::MapConfig<ecad::cuda::MapOp::kUnary, 8> >")
	if a != b {
		t.Errorf("%q is not %q", a, b)
	}
}

// A kernel that is never launched is a problem once launches are known.
func TestEveryKernelIsLaunched(t *testing.T) {
	kernels := parseReport(report)[:1]
	kernels[0].instructions = parseSASS(sass)[site{kernels[0].symbol, kernels[0].arch}]
	for launched, want := range map[bool]bool{true: true, false: false} {
		var out strings.Builder
		_ = judge(kernels, launched, &out)
		if got := strings.Contains(out.String(), "never launches it"); got != want {
			t.Errorf("launches known %v: %s", launched, out.String())
		}
	}
}
