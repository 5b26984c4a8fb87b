package study

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"unicode/utf8"

	"ecadx/ga"
)

// Version is the format version of the log that this package writes and reads.
const Version = 2

// recordType says what a record's payload holds. The numbers are part of the format.
type recordType uint8

const (
	// typeOrigin opens the first segment: what the scores depend on. Pairs of name and value, each a u16 length and
	// UTF-8.
	typeOrigin recordType = 1
	// typeScore: schedule hash [32]byte, image u32, float64.
	typeScore recordType = 2
	// typeInvalid: schedule hash [32]byte, image u32, the reason in UTF-8.
	typeInvalid recordType = 3
	// typeCommit ends the snapshot of a generation: generation u32, number of its candidates u32, evaluations u64, images u64, dropped u64, quality
	// and cost of the reference point float64, population digest [32]byte.
	typeCommit recordType = 4
	// typeSynced: segment number u32, offset u64 of this record; all before it has reached the disk.
	typeSynced recordType = 5
	// typeEnd closes a segment: number u32 of the next.
	typeEnd recordType = 6
	// typeCandidate, before its commit: generation u32, status u8 with bit 7 set on the first occurrence, schedule hash [32]byte, images u32,
	// quality, standard error, cost, MACs float64, number of genes u32, genes (8 a byte), name and reason (each a u16 length and UTF-8), birth as
	// JSON.
	typeCandidate recordType = 7
	// typeFile is written before the file it speaks of: its SHA-256 [32]byte, and its name in UTF-8.
	typeFile recordType = 8
	// typeSession says who writes from here on: pairs as in typeOrigin.
	typeSession recordType = 9
	// typeConfig follows the origin: the bytes of config.toml, in as many records as they need.
	typeConfig recordType = 10
)

const (
	magic        = "ECADLOG\n"
	segmentHead  = len(magic) + 4 + 4 + 32 + 4
	recordHead   = 4 + 1 + 4
	maxPayload   = 64 << 10
	syncedLength = 4 + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errTorn means that a record goes past the end of the file.
var errTorn = errors.New("the record goes past the end of the file")

// appendRecord appends a record to b.
func appendRecord(b []byte, t recordType, payload []byte) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, byte(t))
	sum := crc32.Update(crc32.Checksum(b[at:], castagnoli), castagnoli, payload)
	b = binary.LittleEndian.AppendUint32(b, sum)
	return append(b, payload...)
}

// nextRecord reads the record at the start of data and returns its size in bytes. payload is part of data. The error is
// errTorn if data ends too soon.
func nextRecord(data []byte) (t recordType, payload []byte, size int, err error) {
	if len(data) < recordHead {
		return 0, nil, 0, errTorn
	}
	n := binary.LittleEndian.Uint32(data)
	if n > maxPayload {
		return 0, nil, 0, fmt.Errorf("a record of %d bytes; the format allows %d", n, maxPayload)
	}
	size = recordHead + int(n)
	if len(data) < size {
		return 0, nil, 0, errTorn
	}
	payload = data[recordHead:size]
	sum := crc32.Update(crc32.Checksum(data[:5], castagnoli), castagnoli, payload)
	if sum != binary.LittleEndian.Uint32(data[5:]) {
		return 0, nil, 0, errors.New("the checksum of a record does not match")
	}
	return recordType(data[4]), payload, size, nil
}

// appendHeader appends the header of a segment.
func appendHeader(b []byte, segment uint32, fingerprint [32]byte) []byte {
	at := len(b)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, Version)
	b = binary.LittleEndian.AppendUint32(b, segment)
	b = append(b, fingerprint[:]...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
}

// versionError means that the log has another format version.
type versionError uint32

func (v versionError) Error() string {
	return fmt.Sprintf("the log has format version %d, this program reads version %d: use the program that wrote it",
		uint32(v), Version)
}

// parseHeader reads the header of a segment.
func parseHeader(data []byte) (segment uint32, fingerprint [32]byte, err error) {
	if len(data) < segmentHead {
		return 0, fingerprint, errors.New("the file is too short for a log segment")
	}
	if string(data[:len(magic)]) != magic {
		return 0, fingerprint, errors.New("the file does not start like a log segment")
	}
	rest := data[len(magic):]
	if crc32.Checksum(data[:segmentHead-4], castagnoli) != binary.LittleEndian.Uint32(data[segmentHead-4:]) {
		return 0, fingerprint, errors.New("the checksum of the header does not match")
	}
	if v := binary.LittleEndian.Uint32(rest); v != Version {
		return 0, fingerprint, versionError(v)
	}
	copy(fingerprint[:], rest[8:])
	return binary.LittleEndian.Uint32(rest[4:]), fingerprint, nil
}

func appendScore(b []byte, r ga.Record) []byte {
	payload := make([]byte, 0, 64)
	payload = append(payload, r.Hash[:]...)
	payload = binary.LittleEndian.AppendUint32(payload, uint32(r.Image))
	if r.Score.Invalid != "" {
		return appendRecord(b, typeInvalid, append(payload, r.Score.Invalid...))
	}
	payload = binary.LittleEndian.AppendUint64(payload, math.Float64bits(r.Score.Value))
	return appendRecord(b, typeScore, payload)
}

// parseScore reads the payload of typeScore or typeInvalid.
func parseScore(t recordType, p []byte) (r ga.Record, err error) {
	if len(p) < 36 || t == typeScore && len(p) != 44 || t == typeInvalid && len(p) == 36 {
		return r, fmt.Errorf("a score record of %d bytes", len(p))
	}
	copy(r.Hash[:], p)
	r.Image = ga.ImageID(binary.LittleEndian.Uint32(p[32:]))
	if t == typeInvalid {
		r.Score.Invalid = string(p[36:])
	} else {
		r.Score.Value = math.Float64frombits(binary.LittleEndian.Uint64(p[36:]))
	}
	if r.Score.Checked() != r.Score {
		return r, errors.New("a score record that no evaluation leaves behind")
	}
	return r, nil
}

func appendSynced(b []byte, segment uint32, offset int64) []byte {
	p := binary.LittleEndian.AppendUint32(make([]byte, 0, syncedLength), segment)
	return appendRecord(b, typeSynced, binary.LittleEndian.AppendUint64(p, uint64(offset)))
}

// findSynced returns the offset of the first synced record of the segment at or after offset from, or -1.
func findSynced(data []byte, segment uint32, from int) int {
	for at := from; at+recordHead+syncedLength <= len(data); at++ {
		if data[at] != syncedLength || recordType(data[at+4]) != typeSynced {
			continue
		}
		if _, p, _, err := nextRecord(data[at:]); err == nil && isSynced(p, segment, at) {
			return at
		}
	}
	return -1
}

func isSynced(p []byte, segment uint32, at int) bool {
	return len(p) == syncedLength && binary.LittleEndian.Uint32(p) == segment &&
		binary.LittleEndian.Uint64(p[4:]) == uint64(at)
}

func appendEnd(b []byte, next uint32) []byte {
	return appendRecord(b, typeEnd, binary.LittleEndian.AppendUint32(nil, next))
}

// Part names one thing that scores depend on: "weights", "prompts", "sampler", ... and its hash or value.
type Part struct{ Name, Value string }

// maxPart bounds the length of a name or value of a Part in bytes.
const maxPart = 4 << 10

// appendParts appends an origin or a session.
func appendParts(b []byte, t recordType, parts []Part) ([]byte, error) {
	var p []byte
	for _, part := range parts {
		for _, s := range [2]string{part.Name, part.Value} {
			if len(s) > maxPart || !utf8.ValidString(s) {
				return nil, fmt.Errorf("ecadx/study: origin %.40q: a value of %d bytes; at most %d of UTF-8", part.Name, len(s), maxPart)
			}
			p = appendText(p, s)
		}
	}
	if len(p) > maxPayload {
		return nil, fmt.Errorf("ecadx/study: the origin has %d bytes; at most %d", len(p), maxPayload)
	}
	return appendRecord(b, t, p), nil
}

func appendText(p []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint16(p, uint16(len(s))), s...)
}

// takeText reads what appendText wrote and returns what follows it.
func takeText(p []byte) (s string, rest []byte, ok bool) {
	if len(p) < 2 || len(p) < 2+int(binary.LittleEndian.Uint16(p)) {
		return "", nil, false
	}
	n := 2 + int(binary.LittleEndian.Uint16(p))
	return string(p[2:n]), p[n:], true
}

func parseParts(p []byte) (parts []Part, err error) {
	for len(p) > 0 {
		var part Part
		var ok bool
		if part.Name, p, ok = takeText(p); ok {
			part.Value, p, ok = takeText(p)
		}
		if !ok {
			return nil, errors.New("a list of names and values that ends too soon")
		}
		parts = append(parts, part)
	}
	return parts, nil
}
