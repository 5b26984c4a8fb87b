package tokenizer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// pieceType is the type of a vocabulary entry in sentencepiece_model.proto.
type pieceType uint8

const (
	normal      pieceType = 1
	unknown     pieceType = 2
	control     pieceType = 3
	userDefined pieceType = 4
	unused      pieceType = 5
	bytePiece   pieceType = 6
)

// maxPiece is one more than the longest piece the library loads, in bytes.
const maxPiece = 8000

// piece is one vocabulary entry: 12 bytes, its text stays in the model's bytes.
type piece struct {
	off   uint32
	len   uint16
	typ   pieceType
	score float32
}

// spec is what we need of a ModelProto. Byte fields point into the model.
type spec struct {
	pieces       int // entries seen
	modelType    uint64
	byteFallback bool
	suffix       bool // treat_whitespace_as_suffix
	unkSurface   []byte
	eosPiece     []byte
	norm         normSpec
	denorm       normSpec
}

// normSpec is a NormalizerSpec.
type normSpec struct {
	charsmap                                 []byte
	dummyPrefix, removeExtraSpaces, escapeWS bool
}

// field is one protobuf field: a number for wire types 0 and 5, bytes for type 2.
type field struct {
	num, wire int
	v         uint64
	b         []byte
	at        int // offset of b in the message
}

const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// fields calls f for each field of message b. Errors of f and malformed input end it.
func fields(b []byte, f func(field) error) error {
	varint := func(i int) (uint64, int, error) {
		v, n := binary.Uvarint(b[i:])
		if n <= 0 {
			return 0, 0, fmt.Errorf("byte %d: bad number", i)
		}
		return v, i + n, nil
	}
	for i := 0; i < len(b); {
		start := i
		key, i2, err := varint(i)
		if err != nil {
			return err
		}
		i = i2
		x := field{wire: int(key & 7)}
		if key>>3 == 0 || key>>3 > 1<<29-1 {
			return fmt.Errorf("byte %d: bad field number", start)
		}
		x.num = int(key >> 3)
		size := uint64(0)
		switch x.wire {
		case wireVarint:
			if x.v, i, err = varint(i); err != nil {
				return err
			}
		case wireFixed64:
			size = 8
		case wireFixed32:
			size = 4
		case wireBytes:
			if size, i, err = varint(i); err != nil {
				return err
			}
		default:
			return fmt.Errorf("byte %d: wire type %d", start, x.wire)
		}
		if size > uint64(len(b)-i) {
			return fmt.Errorf("byte %d: field %d needs %d bytes, %d are left", start, x.num, size, len(b)-i)
		}
		x.b, x.at = b[i:i+int(size)], i
		if x.wire == wireFixed32 {
			x.v = uint64(binary.LittleEndian.Uint32(x.b))
		}
		i += int(size)
		if err := f(x); err != nil {
			return err
		}
	}
	return nil
}

// parseSpec reads everything but the pieces, which it counts.
func parseSpec(model []byte) (spec, error) {
	on := normSpec{dummyPrefix: true, removeExtraSpaces: true, escapeWS: true}
	s := spec{modelType: 1, norm: on, denorm: on}
	err := fields(model, func(f field) error {
		var err error
		switch {
		case f.wire != wireBytes:
		case f.num == 1:
			s.pieces++
		case f.num == 2:
			err = s.parseTrainer(f.b)
		case f.num == 3:
			err = s.norm.parse(f.b)
		case f.num == 5:
			err = s.denorm.parse(f.b)
		}
		if err != nil {
			return fmt.Errorf("field %d: %w", f.num, err)
		}
		return nil
	})
	return s, err
}

func (s *spec) parseTrainer(b []byte) error {
	return fields(b, func(f field) error {
		switch {
		case f.num == 3 && f.wire == wireVarint:
			s.modelType = f.v
		case f.num == 24 && f.wire == wireVarint:
			s.suffix = f.v != 0
		case f.num == 35 && f.wire == wireVarint:
			s.byteFallback = f.v != 0
		case f.num == 44 && f.wire == wireBytes:
			s.unkSurface = f.b
		case f.num == 47 && f.wire == wireBytes:
			s.eosPiece = f.b
		}
		return nil
	})
}

func (n *normSpec) parse(b []byte) error {
	return fields(b, func(f field) error {
		switch {
		case f.num == 2 && f.wire == wireBytes:
			n.charsmap = f.b
		case f.num == 3 && f.wire == wireVarint:
			n.dummyPrefix = f.v != 0
		case f.num == 4 && f.wire == wireVarint:
			n.removeExtraSpaces = f.v != 0
		case f.num == 5 && f.wire == wireVarint:
			n.escapeWS = f.v != 0
		}
		return nil
	})
}

// parsePieces fills dst, whose capacity is the number of pieces.
func parsePieces(model []byte, dst []piece) ([]piece, error) {
	err := fields(model, func(f field) error {
		if f.num != 1 || f.wire != wireBytes {
			return nil
		}
		p := piece{typ: normal}
		base := f.at
		err := fields(f.b, func(g field) error {
			switch {
			case g.num == 1 && g.wire == wireBytes:
				if len(g.b) >= maxPiece {
					return fmt.Errorf("its text has %d bytes, fewer than %d are allowed", len(g.b), maxPiece)
				}
				p.off, p.len = uint32(base+g.at), uint16(len(g.b))
			case g.num == 2 && g.wire == wireFixed32:
				p.score = math.Float32frombits(uint32(g.v))
				if p.score-p.score != 0 {
					return errors.New("its score is not finite")
				}
			case g.num == 3 && g.wire == wireVarint:
				if g.v < uint64(normal) || g.v > uint64(bytePiece) {
					return fmt.Errorf("unknown type %d", g.v)
				}
				p.typ = pieceType(g.v)
			}
			return nil
		})
		if err == nil && p.len == 0 {
			err = errors.New("its text is empty")
		}
		if err != nil {
			return fmt.Errorf("piece %d: %w", len(dst), err)
		}
		dst = append(dst, p)
		return nil
	})
	return dst, err
}
