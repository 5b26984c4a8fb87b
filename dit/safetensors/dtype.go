package safetensors

import "fmt"

// DType is the element type of a tensor. The zero value is no type.
type DType uint8

// The element types of the format, in the order of their names in the reference implementation.
const (
	BOOL DType = iota + 1
	U8
	I8
	F8E5M2
	F8E4M3
	I16
	U16
	F16
	BF16
	I32
	U32
	F32
	F64
	I64
	U64
	numDTypes
)

var dtypes = [...]struct {
	name string
	size int64 // bytes of one element
}{
	BOOL: {"BOOL", 1}, U8: {"U8", 1}, I8: {"I8", 1}, F8E5M2: {"F8_E5M2", 1}, F8E4M3: {"F8_E4M3", 1},
	U16: {"U16", 2}, I16: {"I16", 2}, F16: {"F16", 2}, BF16: {"BF16", 2},
	U32: {"U32", 4}, I32: {"I32", 4}, F32: {"F32", 4}, F64: {"F64", 8}, I64: {"I64", 8}, U64: {"U64", 8},
}

// A static count: a type added without a row in the table does not compile.
var _ = [1]struct{}{}[len(dtypes)-int(numDTypes)]

// String returns the name the format uses, such as "F32" or "F8_E4M3".
func (d DType) String() string {
	if d == 0 || d >= numDTypes {
		return fmt.Sprintf("DType(%d)", uint8(d))
	}
	return dtypes[d].name
}

// Size returns the bytes of one element, 0 for an invalid type.
func (d DType) Size() int64 {
	if d >= numDTypes {
		return 0
	}
	return dtypes[d].size
}

// ParseDType returns the type that the format calls name.
func ParseDType(name string) (DType, error) {
	for d := DType(1); d < numDTypes; d++ {
		if dtypes[d].name == name {
			return d, nil
		}
	}
	return 0, fmt.Errorf("unknown dtype %q (known: BOOL U8 I8 F8_E5M2 F8_E4M3 U16 I16 F16 BF16 U32 I32 F32 F64 I64 U64)", clip(name))
}

// clip shortens text that comes from a file before it goes into an error message.
func clip(s string) string {
	const most = 120
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
