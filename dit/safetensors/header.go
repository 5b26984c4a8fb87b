package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"unicode/utf8"

	"ecadx/dit/jsonscan"
)

const (
	// MaxHeader is the largest header length the format allows, in bytes.
	MaxHeader = 100_000_000
	// maxRank bounds the dimensions of a tensor, as torch does.
	maxRank     = 64
	metadataKey = "__metadata__"
)

// entry is the index record of one tensor: 32 bytes, against at least 49 bytes of header, and no pointers. The shape is read
// again from the header when it is asked for.
type entry struct {
	begin, end int64  // bytes of the data section
	name       uint32 // offset of the name in the header, or in index.names when inNames
	nameLen    uint32
	shape      uint32 // offset of the shape's '[' in the header
	dtype      DType
	rank       uint8
	inNames    bool // the name had escapes and stands decoded in index.names
}

// index is the checked header of one file.
type index struct {
	header   []byte        // the JSON text, part of the file
	data     []byte        // the data section, part of the file
	entries  []entry       // sorted by name
	names    []byte        // decoded names
	metadata jsonscan.Text // the __metadata__ object in header: off and len; len 0 if there is none
}

func (x *index) name(e entry) []byte {
	from := x.header
	if e.inNames {
		from = x.names
	}
	return from[e.name : e.name+e.nameLen]
}

// parse checks all of file and builds its index.
func parse(file []byte) (*index, error) {
	if len(file) < 8 {
		return nil, fmt.Errorf("not a safetensors file: %d bytes, the header length alone takes 8", len(file))
	}
	n := binary.LittleEndian.Uint64(file)
	if n > MaxHeader {
		return nil, fmt.Errorf("not a safetensors file: header length %d, at most %d is allowed", n, MaxHeader)
	}
	if n > uint64(len(file)-8) {
		return nil, fmt.Errorf("header length %d, but only %d bytes follow: the file is cut short", n, len(file)-8)
	}
	x := &index{header: file[8 : 8+n : 8+n], data: file[8+n:]}
	if len(x.header) == 0 || x.header[0] != '{' {
		return nil, errors.New("not a safetensors file: the header does not start with '{'")
	}
	if !utf8.Valid(x.header) {
		return nil, errors.New("the header is not valid UTF-8")
	}
	// The first pass checks and counts, so that the second can fill slices of the exact size.
	count, decoded := 0, 0
	err := x.scan(func(t jsonscan.Text, e entry) {
		count++
		if t.Escaped {
			decoded += t.Len
		}
	})
	if err != nil {
		return nil, err
	}
	x.entries = make([]entry, 0, count)
	x.names = make([]byte, 0, decoded)
	err = x.scan(func(t jsonscan.Text, e entry) {
		e.name, e.nameLen = uint32(t.Off), uint32(t.Len)
		if t.Escaped {
			at := len(x.names)
			x.names = t.Append(x.names, x.header)
			e.name, e.nameLen, e.inNames = uint32(at), uint32(len(x.names)-at), true
		}
		x.entries = append(x.entries, e)
	})
	if err != nil {
		return nil, err
	}
	if err := x.checkOffsets(); err != nil {
		return nil, err
	}
	return x, x.sortNames()
}

// scanner reads the parts of a header.
type scanner struct{ jsonscan.Scanner }

// scan reads the whole header and calls add for each tensor with its name.
func (x *index) scan(add func(jsonscan.Text, entry)) error {
	s := &scanner{jsonscan.Scanner{Bytes: x.header}}
	x.metadata = jsonscan.Text{}
	err := s.List('{', '}', func() error {
		name, err := s.Key()
		if err != nil {
			return err
		}
		if x.isMetadata(name) {
			return x.scanMetadata(s)
		}
		e, err := s.tensor()
		if err != nil {
			return fmt.Errorf("tensor %q: %w", clip(string(name.Raw(x.header))), err)
		}
		add(name, e)
		return nil
	})
	if err != nil {
		return err
	}
	return s.End()
}

func (x *index) isMetadata(name jsonscan.Text) bool {
	if !name.Escaped {
		return string(name.Raw(x.header)) == metadataKey
	}
	if name.Len > 6*len(metadataKey) {
		return false
	}
	var buf [6 * len(metadataKey)]byte // the decoded name is no longer than the raw one, so append stays in it
	return bytes.Equal(name.Append(buf[:0], x.header), []byte(metadataKey))
}

// scanMetadata checks the __metadata__ object, a map from string to string.
func (x *index) scanMetadata(s *scanner) error {
	if x.metadata.Len > 0 {
		return s.Errorf("%s appears twice", metadataKey)
	}
	s.Space()
	start := s.Pos
	err := s.List('{', '}', func() error {
		_, _, err := s.pair()
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", metadataKey, err)
	}
	x.metadata = jsonscan.Text{Off: start, Len: s.Pos - start}
	return nil
}

// pair reads one "key": "value" member.
func (s *scanner) pair() (key, value jsonscan.Text, err error) {
	if key, err = s.Key(); err == nil {
		value, err = s.Str()
	}
	return
}

// tensor reads {"dtype":...,"shape":[...],"data_offsets":[begin,end]} and checks that shape and offsets agree. Members with
// other names are skipped, as the reference reader does.
func (s *scanner) tensor() (entry, error) {
	var e entry
	var hasShape, hasOffsets bool
	elements := int64(1)
	err := s.List('{', '}', func() error {
		key, err := s.Key()
		if err != nil {
			return err
		}
		switch name := key.Raw(s.Bytes); {
		case string(name) == "dtype":
			if e.dtype != 0 {
				return s.Errorf("dtype appears twice")
			}
			v, err := s.Str()
			if err != nil {
				return err
			}
			e.dtype, err = ParseDType(string(s.Bytes[v.Off : v.Off+min(v.Len, 64)]))
			return err
		case string(name) == "shape":
			if hasShape {
				return s.Errorf("shape appears twice")
			}
			hasShape = true
			s.Space()
			e.shape = uint32(s.Pos)
			elements, e.rank, err = s.shape(nil)
			return err
		case string(name) == "data_offsets":
			if hasOffsets {
				return s.Errorf("data_offsets appears twice")
			}
			hasOffsets = true
			e.begin, e.end, err = s.offsets()
			return err
		}
		return s.Skip()
	})
	switch {
	case err != nil:
		return e, err
	case e.dtype == 0:
		return e, s.Errorf("dtype is missing")
	case !hasShape:
		return e, s.Errorf("shape is missing")
	case !hasOffsets:
		return e, s.Errorf("data_offsets is missing")
	}
	hi, want := bits.Mul64(uint64(elements), uint64(e.dtype.Size()))
	if hi != 0 || want > 1<<63-1 {
		return e, fmt.Errorf("shape needs more than 2^63-1 bytes")
	}
	if got := e.end - e.begin; uint64(got) != want {
		return e, fmt.Errorf("data_offsets span %d bytes, but %s and its shape need %d", got, e.dtype, want)
	}
	return e, nil
}

// shape reads an array of dimensions and returns their product and number; dims, when given, receives them.
func (s *scanner) shape(dims *[]int64) (elements int64, rank uint8, err error) {
	elements = 1
	overflow, zero := false, false
	err = s.List('[', ']', func() error {
		d, err := s.Uint()
		if err != nil {
			return fmt.Errorf("shape: %w", err)
		}
		if rank++; rank > maxRank {
			return s.Errorf("shape has more than %d dimensions", maxRank)
		}
		if dims != nil {
			*dims = append(*dims, d)
		}
		hi, lo := bits.Mul64(uint64(elements), uint64(d))
		overflow = overflow || hi != 0 || lo > 1<<63-1
		zero = zero || d == 0
		if !overflow {
			elements = int64(lo)
		}
		return nil
	})
	if err == nil && overflow {
		// The reference multiplies in order and refuses an overflow even when a later dimension is 0.
		err = s.Errorf("the product of the shape overflows")
	}
	if zero {
		elements = 0
	}
	return elements, rank, err
}

func (s *scanner) offsets() (begin, end int64, err error) {
	var v [2]int64
	n := 0
	err = s.List('[', ']', func() error {
		x, err := s.Uint()
		if err != nil {
			return fmt.Errorf("data_offsets: %w", err)
		}
		if n < 2 {
			v[n] = x
		}
		n++
		return nil
	})
	if err == nil && n != 2 {
		err = s.Errorf("data_offsets has %d numbers, want [begin, end]", n)
	}
	if err == nil && v[1] < v[0] {
		err = s.Errorf("data_offsets [%d, %d] end before they begin", v[0], v[1])
	}
	return v[0], v[1], err
}

// checkOffsets demands that the tensors tile the data section: no hole, no overlap, nothing left.
func (x *index) checkOffsets() error {
	slices.SortFunc(x.entries, func(a, b entry) int {
		if a.begin != b.begin {
			if a.begin < b.begin {
				return -1
			}
			return 1
		}
		return int(min(1, max(-1, a.end-b.end)))
	})
	var at int64
	for i := range x.entries {
		e := &x.entries[i]
		switch {
		case e.begin < at:
			return fmt.Errorf("tensor %q: begins at byte %d of the data and overlaps the tensor before it, which ends at %d", clip(string(x.name(*e))), e.begin, at)
		case e.begin > at:
			return fmt.Errorf("tensor %q: begins at byte %d of the data, leaving a hole from %d", clip(string(x.name(*e))), e.begin, at)
		case e.end > int64(len(x.data)):
			return fmt.Errorf("tensor %q: ends at byte %d of the data, but the file has only %d: it is cut short", clip(string(x.name(*e))), e.end, len(x.data))
		}
		at = e.end
	}
	if at != int64(len(x.data)) {
		return fmt.Errorf("the tensors take %d bytes, but %d bytes follow the header", at, len(x.data))
	}
	return nil
}

// sortNames orders the entries by name and refuses duplicates.
func (x *index) sortNames() error {
	slices.SortFunc(x.entries, func(a, b entry) int { return bytes.Compare(x.name(a), x.name(b)) })
	for i := 1; i < len(x.entries); i++ {
		if name := x.name(x.entries[i]); bytes.Equal(name, x.name(x.entries[i-1])) {
			return fmt.Errorf("tensor %q appears twice", clip(string(name)))
		}
	}
	return nil
}

// find returns the entry called name, nil if there is none.
func (x *index) find(name []byte) *entry {
	i, ok := slices.BinarySearchFunc(x.entries, name, func(e entry, name []byte) int { return bytes.Compare(x.name(e), name) })
	if !ok {
		return nil
	}
	return &x.entries[i]
}

// tensor builds the public view of an entry.
func (x *index) tensor(e *entry) Tensor {
	s := &scanner{jsonscan.Scanner{Bytes: x.header, Pos: int(e.shape)}}
	dims := make([]int64, 0, e.rank)
	s.shape(&dims) // checked when the file was opened
	return Tensor{Name: string(x.name(*e)), DType: e.dtype, Shape: dims, Data: x.data[e.begin:e.end:e.end]}
}
