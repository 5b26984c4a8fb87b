package study

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
)

// endFile is there while nobody writes to the log: it says where the log ends, so that a log that was cut afterwards is told from one whose
// writer was killed.
const endFile = logDir + "/END"

func endText(pos position) []byte {
	text := fmt.Sprintf("segment %d size %d", pos.segment, pos.size)
	return fmt.Appendf(nil, "%s crc32c %08x\n", text, crc32.Checksum([]byte(text), castagnoli))
}

// checkEnd compares the end of a log with the mark, if there is one.
func checkEnd(d fs.FS, pos position) error {
	data, err := fs.ReadFile(d, endFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var segment uint32
	var size int64
	if _, err := fmt.Sscanf(string(data), "segment %d size %d", &segment, &size); err != nil || string(endText(position{segment: segment, size: size})) != string(data) {
		return &CorruptError{File: endFile, What: "it is not what a study writes there"}
	}
	if segment != pos.segment || size != pos.size || pos.torn != 0 {
		return &CorruptError{File: segmentName(pos.segment), Offset: pos.size,
			What: fmt.Sprintf("the good part of the log ends here, but it was closed at byte %d of %s", size, segmentName(segment))}
	}
	return nil
}

// closed reports whether the mark is there.
func closed(d fs.FS) bool {
	_, err := fs.Stat(d, endFile)
	return err == nil
}
