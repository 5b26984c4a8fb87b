package study

import (
	"errors"
	"iter"
	"maps"
	"slices"
	"testing"
)

// clone copies a disk; the files' bytes are shared until they are replaced.
func (d *memDisk) clone() *memDisk {
	c := newMemDisk()
	for name, f := range d.names {
		c.names[name] = &inode{data: slices.Clip(f.data), stored: slices.Clip(f.data)}
	}
	c.stored, c.dirs = maps.Clone(c.names), maps.Clone(d.dirs)
	return c
}

// contents are the files by name, as text.
func (d *memDisk) contents() map[string]string {
	m := map[string]string{}
	for name, f := range d.names {
		m[name] = string(f.data)
	}
	return m
}

// judge returns whether the damage of a disk is detected. If it is not, it goes on with the study, which must end with the same files as ever,
// the log apart.
func judge(t *testing.T, what string, d *memDisk, want map[string]string) (detected bool) {
	t.Helper()
	v, err := verify(d.mapFS())
	switch {
	case errors.Is(err, ErrNotStudy) || err == nil && v.Damaged():
		return true
	case err != nil:
		var version versionError
		if !errors.As(err, &version) {
			t.Fatalf("%s: %v", what, err)
		}
		return true
	}
	o := testOptions()
	o.disk = d
	if _, err := runStudy("", o, tinySearch(t), &synthetic{}); err != nil {
		t.Fatalf("%s: it passes the check, but the study does not go on: %v", what, err)
	}
	for name, text := range want {
		if name != segmentName(1) && name != endFile && string(d.names[name].data) != text {
			t.Fatalf("%s: it passes the check, but the study ends with another %s", what, name)
		}
	}
	return false
}

// TestEveryDamage flips every bit of every file of a small study and cuts every file at every byte. In a study that was left in good order all
// of it is detected. In one whose writer was killed, when finished and halfway, it is detected or makes no difference.
func TestEveryDamage(t *testing.T) {
	done, _, _ := tinyStudy(t)
	want := done.contents()
	killed := done.clone()
	delete(killed.names, endFile)
	half := killed.clone()
	for name := range half.names {
		if name != configFile && name != segmentName(1) {
			delete(half.names, name)
		}
	}
	log := half.names[segmentName(1)]
	log.data = log.data[:len(log.data)/2]
	stride := 1
	if raceEnabled {
		stride = 41
	}
	for _, c := range []struct {
		name   string
		disk   *memDisk
		missed float64 // most of the damage that may be harmless
	}{{"closed", done, 0}, {"killed when finished", killed, 0.2}, {"killed halfway", half, 1}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			all, missed := 0, 0
			for _, name := range slices.Sorted(maps.Keys(c.disk.names)) {
				data := c.disk.names[name].data
				for bad := range damaged(data, stride) {
					d := c.disk.clone()
					d.names[name].data = bad
					all++
					if !judge(t, name, d, want) {
						missed++
						if c.missed == 0 {
							t.Fatalf("%s of %d bytes: damage is not detected", name, len(data))
						}
					}
				}
			}
			t.Logf("%d ways, %d of them harmless", all, missed)
			if float64(missed) > c.missed*float64(all) {
				t.Errorf("%d of %d ways are not detected", missed, all)
			}
		})
	}
}

// damaged yields a file with each bit flipped and cut at each byte, or some of these.
func damaged(data []byte, stride int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for bit := 0; bit < 8*len(data); bit += stride {
			bad := slices.Clone(data)
			bad[bit/8] ^= 1 << (bit % 8)
			if !yield(bad) {
				return
			}
		}
		for n := 0; n < len(data); n += stride {
			if !yield(slices.Clip(data[:n])) {
				return
			}
		}
	}
}
