package dit

import "fmt"

// within is a key whose value must lie in a range.
type within struct {
	key         string
	value       int
	least, most int
}

// checkWithin names the first key that is out of its range.
func checkWithin(keys []within) error {
	for _, r := range keys {
		if r.value < r.least || r.value > r.most {
			return fmt.Errorf("key %q: %d is out of range: %d to %d", r.key, r.value, r.least, r.most)
		}
	}
	return nil
}

func ptr[T any](v T) *T { return &v }
