package main

import "testing"

func TestShorterRun(t *testing.T) {
	for _, c := range []struct {
		value string
		want  int
	}{{"10", 10}, {"0.5", 10}, {"0.35", 7}, {"0.001", 1}, {"0.999", 19}, {"1", 1}, {"19", 19}, {"20", 0}, {"0", 0}, {"1.5", 0}, {"-1", 0}, {"NaN", 0}, {"", 0}, {"x", 0}} {
		if n, err := shorterRun(c.value, 20); n != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("steps:%s of 20 is %d, %v, want %d", c.value, n, err, c.want)
		}
	}
}
