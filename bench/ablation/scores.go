package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"

	"ecadx/ga"
	"ecadx/schedule"
)

// scores is a file of scores, one record after the other: the schedule's hash, the image, the score (float64) and the CRC-32C of these, little-endian.
// It is appended to and read whole; a record that was not written to its end is dropped.
type scores struct {
	file  *os.File
	known map[scoreKey]float64
}

type scoreKey struct {
	hash  schedule.Hash
	image ga.ImageID
}

// recordSize is the length of a record in bytes.
const recordSize = 32 + 4 + 8 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openScores opens a file or makes an empty one.
func openScores(path string) (*scores, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	s := &scores{file: f, known: map[scoreKey]float64{}}
	data, err := io.ReadAll(f)
	for at := 0; err == nil && at+recordSize <= len(data); at += recordSize {
		b := data[at : at+recordSize]
		if crc32.Checksum(b[:recordSize-4], castagnoli) != binary.LittleEndian.Uint32(b[recordSize-4:]) {
			err = fmt.Errorf("%s: record at byte %d is damaged: remove the file", path, at)
			break
		}
		s.known[scoreKey{schedule.Hash(b[:32]), ga.ImageID(binary.LittleEndian.Uint32(b[32:]))}] = math.Float64frombits(binary.LittleEndian.Uint64(b[36:]))
	}
	if err == nil {
		err = f.Truncate(int64(len(data) / recordSize * recordSize))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// score is what is known of a schedule on an image.
func (s *scores) score(h schedule.Hash, image ga.ImageID) (float64, bool) {
	v, ok := s.known[scoreKey{h, image}]
	return v, ok
}

// add keeps valid scores; an invalid one is an error, since the miniature has none.
func (s *scores) add(records []ga.Record) error {
	var b []byte
	for _, r := range records {
		if r.Score.Invalid != "" {
			return fmt.Errorf("schedule %v, image %d: %s", r.Hash, r.Image, r.Score.Invalid)
		}
		key := scoreKey{r.Hash, r.Image}
		if _, known := s.known[key]; known {
			continue
		}
		s.known[key] = r.Score.Value
		from := len(b)
		b = append(b, r.Hash[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(r.Image))
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(r.Score.Value))
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[from:], castagnoli))
	}
	_, err := s.file.Write(b)
	return err
}

func (s *scores) close() error { return s.file.Close() }
