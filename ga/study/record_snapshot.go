package study

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"ecadx/ga"
)

// firstBit marks the first occurrence of a schedule in the status of a candidate record.
const firstBit = 1 << 7

// appendSnapshot appends the records of a snapshot: its candidates, then the commit.
func appendSnapshot(b []byte, s *ga.Snapshot) ([]byte, error) {
	for _, e := range s.Candidates {
		p, err := appendCandidate(make([]byte, 0, 512), s.Generation, e)
		if err != nil {
			return nil, err
		}
		b = appendRecord(b, typeCandidate, p)
	}
	p := binary.LittleEndian.AppendUint32(make([]byte, 0, 80), uint32(s.Generation))
	p = binary.LittleEndian.AppendUint32(p, uint32(len(s.Candidates)))
	for _, n := range [3]int64{s.Evaluations, s.Images, s.Dropped} {
		p = binary.LittleEndian.AppendUint64(p, uint64(n))
	}
	p = appendFloats(p, s.Reference.Quality, s.Reference.Cost)
	return appendRecord(b, typeCommit, append(p, s.Digest[:]...)), nil
}

func appendFloats(p []byte, values ...float64) []byte {
	for _, v := range values {
		p = binary.LittleEndian.AppendUint64(p, math.Float64bits(v))
	}
	return p
}

func appendCandidate(p []byte, generation int, e ga.Evaluation) ([]byte, error) {
	status := byte(e.Status)
	if e.First {
		status |= firstBit
	}
	p = append(binary.LittleEndian.AppendUint32(p, uint32(generation)), status)
	p = binary.LittleEndian.AppendUint32(append(p, e.Hash[:]...), uint32(e.Images))
	p = appendFloats(p, e.Quality, e.StdErr, e.Cost, e.MACs)
	p = append(binary.LittleEndian.AppendUint32(p, uint32(e.Genome.Len())), e.Genome.Bytes()...)
	if len(e.Name) > maxPart || len(e.Reason) > maxPart {
		return nil, fmt.Errorf("ecadx/study: candidate %.40q: a name or reason of more than %d bytes", e.Name, maxPart)
	}
	p = appendText(appendText(p, e.Name), e.Reason)
	birth, err := json.Marshal(e.Birth)
	if err != nil {
		return nil, fmt.Errorf("ecadx/study: candidate %.40q: %w", e.Name, err)
	}
	if !bytes.Equal(birth, []byte("{}")) {
		p = append(p, birth...)
	}
	if len(p) > maxPayload {
		return nil, fmt.Errorf("ecadx/study: candidate %.40q needs a record of %d bytes; the format allows %d", e.Name, len(p), maxPayload)
	}
	return p, nil
}

// candidateHead is the length of the fixed part of a candidate record.
const candidateHead = 4 + 1 + 32 + 4 + 4*8 + 4

func parseCandidate(p []byte) (generation int, e ga.Evaluation, err error) {
	bad := errors.New("a candidate record that no search leaves behind")
	if len(p) < candidateHead {
		return 0, e, bad
	}
	generation = int(binary.LittleEndian.Uint32(p))
	e.Status, e.First = ga.Status(p[4]&^firstBit), p[4]&firstBit != 0
	copy(e.Hash[:], p[5:])
	e.Images = int(binary.LittleEndian.Uint32(p[37:]))
	for i, v := range [4]*float64{&e.Quality, &e.StdErr, &e.Cost, &e.MACs} {
		if *v = math.Float64frombits(binary.LittleEndian.Uint64(p[41+8*i:])); math.IsNaN(*v) || math.IsInf(*v, 0) {
			return 0, e, bad
		}
	}
	genes := int64(binary.LittleEndian.Uint32(p[candidateHead-4:]))
	size := (genes + 7) / 8
	if p = p[candidateHead:]; size > int64(len(p)) {
		return 0, e, bad
	}
	if e.Genome, err = ga.GenomeFromBytes(int(genes), p[:size]); err != nil {
		return 0, e, err
	}
	var ok bool
	if e.Name, p, ok = takeText(p[size:]); ok {
		e.Reason, p, ok = takeText(p)
	}
	if !ok || e.Status < ga.StatusScored || e.Status > ga.StatusInfeasible || (e.Reason != "") != (e.Status == ga.StatusInvalid) {
		return 0, e, bad
	}
	if len(p) > 0 {
		if err := json.Unmarshal(p, &e.Birth); err != nil {
			return 0, e, fmt.Errorf("a candidate record: %w", err)
		}
	}
	return generation, e, nil
}

// parseCommit returns the snapshot without its candidates, and their number.
func parseCommit(p []byte) (s *ga.Snapshot, candidates int, err error) {
	if len(p) != 80 {
		return nil, 0, fmt.Errorf("a generation record of %d bytes", len(p))
	}
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(p[at:]) }
	s = &ga.Snapshot{Generation: int(binary.LittleEndian.Uint32(p)), Evaluations: int64(u64(8)), Images: int64(u64(16)), Dropped: int64(u64(24)),
		Reference: ga.Point{Quality: math.Float64frombits(u64(32)), Cost: math.Float64frombits(u64(40))}}
	copy(s.Digest[:], p[48:])
	return s, int(binary.LittleEndian.Uint32(p[4:])), nil
}

func appendFile(b []byte, name string, sum [32]byte) []byte {
	return appendRecord(b, typeFile, append(sum[:], name...))
}

func parseFile(p []byte) (name string, sum [32]byte, err error) {
	if len(p) < len(sum)+1 {
		return "", sum, errors.New("a file record without a name")
	}
	copy(sum[:], p)
	return string(p[len(sum):]), sum, nil
}
