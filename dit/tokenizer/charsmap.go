package tokenizer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// maxReplacement bounds one replacement text of a normalisation table; NFKC's longest has 33 bytes. It keeps a hostile
	// table from inflating text.
	maxReplacement = 1024
	// maxRule bounds the text that one rule covers, so that a trie that leads back into itself costs linear time.
	maxRule = 1024
)

// charsmap is a precompiled normalisation table: a double-array trie from byte strings to offsets in a list of
// NUL-terminated replacements. Both parts are used where they stand in the model.
type charsmap struct {
	units []byte // little-endian uint32 each
	text  []byte
}

func newCharsmap(b []byte) (charsmap, error) {
	if len(b) == 0 {
		return charsmap{}, nil
	}
	if len(b) <= 4 {
		return charsmap{}, errors.New("precompiled_charsmap is cut short")
	}
	n := uint64(binary.LittleEndian.Uint32(b))
	b = b[4:]
	if n >= uint64(len(b)) || n%4 != 0 || n == 0 {
		return charsmap{}, fmt.Errorf("precompiled_charsmap: a trie of %d bytes does not fit its %d bytes", n, len(b))
	}
	c := charsmap{units: b[:n], text: b[n:]}
	if c.text[len(c.text)-1] != 0 {
		return charsmap{}, errors.New("precompiled_charsmap: the last replacement does not end")
	}
	for rest := c.text; len(rest) > 0; {
		end := bytes.IndexByte(rest, 0)
		if end > maxReplacement {
			return charsmap{}, fmt.Errorf("precompiled_charsmap: a replacement has %d bytes, at most %d are allowed", end, maxReplacement)
		}
		rest = rest[end+1:]
	}
	return c, nil
}

// unit returns double-array element i; outside the array it matches nothing.
func (c charsmap) unit(i uint32) uint32 {
	if uint64(i)*4 >= uint64(len(c.units)) {
		return 1 << 31
	}
	return binary.LittleEndian.Uint32(c.units[4*i:])
}

// lookup finds the longest rule that starts text. n is the length it covers, 0 if there is none.
func (c charsmap) lookup(text string) (replacement []byte, n int) {
	if len(c.units) == 0 {
		return nil, 0
	}
	offset := func(u uint32) uint32 { return u >> 10 << (u & (1 << 9) >> 6) }
	at := offset(c.unit(0))
	value := uint32(0)
	for i := 0; i < min(len(text), maxRule); i++ {
		at ^= uint32(text[i])
		u := c.unit(at)
		if u&(1<<31|0xff) != uint32(text[i]) {
			break
		}
		at ^= offset(u)
		if u>>8&1 != 0 {
			if v := c.unit(at) &^ (1 << 31); uint64(v) < uint64(len(c.text)) {
				value, n = v, i+1
			}
		}
	}
	if n == 0 {
		return nil, 0
	}
	r := c.text[value:]
	return r[:bytes.IndexByte(r, 0)], n
}
