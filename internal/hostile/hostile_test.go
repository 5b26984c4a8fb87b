package hostile

import "testing"

func TestDamaged(t *testing.T) {
	seen := map[string]bool{}
	Damaged([]byte("ab"), func(_ string, bad []byte) { seen[string(bad)] = true })
	for _, want := range []string{"", "a", "`b", "cb", "\xe1b", "ac", "a\xe2"} {
		if !seen[want] {
			t.Errorf("%q was not tried", want)
		}
	}
	if len(seen) != 2+16 || seen["ab"] {
		t.Errorf("%d damaged files", len(seen))
	}
}

var sink []byte

func TestBounded(t *testing.T) {
	Bounded(t, 0, func() { sink = make([]byte, Slack/2) })
	inner := new(recorder)
	Bounded(inner, 0, func() { sink = make([]byte, 2*Slack) })
	if !inner.failed {
		t.Error("twice the slack was let through")
	}
}

type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }
