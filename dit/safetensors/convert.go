package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"
)

// Float32s converts the elements to float32 and writes them to dst, which must have exactly Elements() elements. F16 and
// BF16 convert exactly; F64 and the integer types round to nearest even; BOOL gives 0 or 1. Other types are an error.
func (t Tensor) Float32s(dst []float32) error {
	size := t.DType.Size()
	if size == 0 || int64(len(dst)) != int64(len(t.Data))/size {
		return fmt.Errorf("tensor %q has %d bytes of %v, not %d elements", t.Name, len(t.Data), t.DType, len(dst))
	}
	d, le := t.Data, binary.LittleEndian
	switch t.DType {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(d[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = Float16ToFloat32(le.Uint16(d[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(le.Uint16(d[2*i:])) << 16)
		}
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(le.Uint64(d[8*i:])))
		}
	case I64:
		for i := range dst {
			dst[i] = float32(int64(le.Uint64(d[8*i:])))
		}
	case U64:
		for i := range dst {
			dst[i] = float32(le.Uint64(d[8*i:]))
		}
	case I32:
		for i := range dst {
			dst[i] = float32(int32(le.Uint32(d[4*i:])))
		}
	case U32:
		for i := range dst {
			dst[i] = float32(le.Uint32(d[4*i:]))
		}
	case I16:
		for i := range dst {
			dst[i] = float32(int16(le.Uint16(d[2*i:])))
		}
	case U16:
		for i := range dst {
			dst[i] = float32(le.Uint16(d[2*i:]))
		}
	case I8:
		for i := range dst {
			dst[i] = float32(int8(d[i]))
		}
	case U8:
		for i := range dst {
			dst[i] = float32(d[i])
		}
	case BOOL:
		for i := range dst {
			dst[i] = 0
			if d[i] != 0 {
				dst[i] = 1
			}
		}
	default:
		return fmt.Errorf("tensor %q: %v cannot be converted to float32", t.Name, t.DType)
	}
	return nil
}

// ToFloat32 returns the elements as a new slice; see Float32s.
func (t Tensor) ToFloat32() ([]float32, error) {
	size := t.DType.Size()
	if size == 0 {
		return nil, fmt.Errorf("tensor %q: %v cannot be converted to float32", t.Name, t.DType)
	}
	dst := make([]float32, int64(len(t.Data))/size)
	return dst, t.Float32s(dst)
}

// ViewFloat32 returns the data of an F32 tensor as a slice that shares its memory, read-only. It is not possible, and ok is
// false, for other types, for data that does not start at a multiple of 4 bytes, and on big-endian machines.
func (t Tensor) ViewFloat32() (v []float32, ok bool) {
	one := [2]byte{1, 0}
	if t.DType != F32 || *(*byte)(unsafe.Pointer(&one)) != 1 || binary.NativeEndian.Uint16(one[:]) != 1 {
		return nil, false
	}
	if len(t.Data) == 0 {
		return []float32{}, true
	}
	p := unsafe.Pointer(unsafe.SliceData(t.Data))
	if uintptr(p)%4 != 0 {
		return nil, false
	}
	return unsafe.Slice((*float32)(p), len(t.Data)/4), true
}

// FromFloat32 builds a tensor with its own data from float32 values. dtype is F32, F16 or BF16; the last two round to
// nearest even. The product of shape must be len(v).
func FromFloat32(name string, dtype DType, shape []int64, v []float32) (Tensor, error) {
	t := Tensor{Name: name, DType: dtype, Shape: shape}
	if n, ok := elements(shape); !ok || n != int64(len(v)) {
		return t, fmt.Errorf("tensor %q: shape %v does not hold %d elements", name, shape, len(v))
	}
	le := binary.LittleEndian
	switch dtype {
	case F32:
		t.Data = make([]byte, 4*len(v))
		for i, x := range v {
			le.PutUint32(t.Data[4*i:], math.Float32bits(x))
		}
	case F16:
		t.Data = make([]byte, 2*len(v))
		for i, x := range v {
			le.PutUint16(t.Data[2*i:], Float32ToFloat16(x))
		}
	case BF16:
		t.Data = make([]byte, 2*len(v))
		for i, x := range v {
			le.PutUint16(t.Data[2*i:], Float32ToBFloat16(x))
		}
	default:
		return t, fmt.Errorf("tensor %q: float32 values can be stored as F32, F16 or BF16, not %v", name, dtype)
	}
	return t, nil
}

// Float16ToFloat32 converts IEEE binary16 bits exactly; NaN payloads are kept.
func Float16ToFloat32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp, frac := uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exp {
	case 0: // zero and subnormals: frac * 2^-24 is exact
		v := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(sign | math.Float32bits(v))
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// Float32ToFloat16 rounds to nearest even; values that round above 65504 become infinite, NaN stays NaN.
func Float32ToFloat16(f float32) uint16 {
	b := math.Float32bits(f)
	sign, a := uint16(b>>16&0x8000), b&0x7fffffff
	switch {
	case a > 0x7f800000:
		return sign | 0x7e00
	case a >= 0x477ff000: // 65520, half way above the largest finite value
		return sign | 0x7c00
	case a < 0x38800000: // below 2^-14: a subnormal, a multiple of 2^-24
		// Adding 0.5 leaves the value's multiple of 2^-24 in the low mantissa bits, rounded to nearest even.
		r := math.Float32frombits(a) + 0.5
		return sign | uint16(math.Float32bits(r)-0x3f000000)
	}
	a += 0xfff + a>>13&1
	return sign | uint16(a>>13-112<<10)
}

// Float32ToBFloat16 rounds to nearest even; NaN stays NaN.
func Float32ToBFloat16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
