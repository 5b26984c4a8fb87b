package study

import (
	"fmt"
	"sort"
	"strings"
)

// Difference is a setting in which a study and the present run differ. A side without the setting is empty.
type Difference struct{ Key, Study, Now string }

// DriftError says that a study was begun with something else. It wraps ErrDrift.
type DriftError struct {
	Dir         string
	Differences []Difference
}

// Error names the differing keys with both values.
func (e *DriftError) Error() string {
	var list []string
	for _, d := range e.Differences {
		list = append(list, fmt.Sprintf("%s is %s in the study, %s now", d.Key, orMissing(d.Study), orMissing(d.Now)))
	}
	return fmt.Sprintf("%s: the study was begun with another configuration: %s: undo the change or give another directory",
		e.Dir, strings.Join(list, "; "))
}

// Unwrap returns ErrDrift.
func (e *DriftError) Unwrap() error { return ErrDrift }

func orMissing(v string) string {
	if v == "" {
		return "not set"
	}
	if len(v) > 100 {
		return v[:97] + "..."
	}
	return v
}

// compareConfigs lists the keys in which two TOML texts differ. The texts are canonical: one table header or one
// "key = value" per line; the lines of a value that spans several belong to its key.
func compareConfigs(study, now []byte) []Difference {
	return differences(settings(study), settings(now))
}

// compareParts lists the parts in which two origins differ.
func compareParts(study, now []Part) []Difference {
	toMap := func(parts []Part) map[string]string {
		m := make(map[string]string, len(parts))
		for _, p := range parts {
			m[p.Name] = p.Value
		}
		return m
	}
	return differences(toMap(study), toMap(now))
}

func differences(study, now map[string]string) []Difference {
	var out []Difference
	for k, v := range study {
		if now[k] != v {
			out = append(out, Difference{k, v, now[k]})
		}
	}
	for k, v := range now {
		if _, ok := study[k]; !ok {
			out = append(out, Difference{k, "", v})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out
}

// settings splits a canonical TOML text into dotted keys and their values as written.
func settings(text []byte) map[string]string {
	m := make(map[string]string)
	table, last := "", ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") && !strings.Contains(line, ","):
			table, last = strings.Trim(line, "[]")+".", ""
		default:
			key, value, ok := strings.Cut(line, "=")
			if ok && isBareKey(strings.TrimSpace(key)) {
				last = table + strings.TrimSpace(key)
				m[last] = strings.TrimSpace(value)
			} else {
				m[last] += " " + line
			}
		}
	}
	return m
}

func isBareKey(s string) bool {
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.') {
			return false
		}
	}
	return s != ""
}

// ShapePart is the part of an origin that holds the shape of a study's schedules, as JSON of schedule.Shape.
const ShapePart = "shape"

// Compare lists in what two studies were begun differently, by configuration and origin: Study is that of a, Now that of b.
func Compare(a, b *Contents) []Difference {
	diff := compareConfigs(a.Config, b.Config)
	for _, d := range compareParts(a.Origin, b.Origin) {
		if d.Key != "config" { // whose keys are listed
			diff = append(diff, d)
		}
	}
	return diff
}
