package jsonscan

import (
	"encoding/json"
	"strings"
	"testing"
)

// Strings are what encoding/json makes of them; what it refuses is refused, and halves of surrogate pairs too, which it replaces.
func TestStrings(t *testing.T) {
	for _, text := range []string{`""`, `"a"`, `"\"\\\/\b\f\n\r\t"`, `"\u00e9\u0000é"`, `"\ud83d\ude00x"`, `"\uD83D\uDE00"`, `"\u003c|a|\u003E"`,
		`"a`, `"\x"`, `"\u12"`, `"\u12g4"`, `"\`, "\"\n\"", `a`, ``} {
		var want string
		bad := json.Unmarshal([]byte(text), &want) != nil
		s := &Scanner{Bytes: []byte(text)}
		got, err := s.Str()
		if bad != (err != nil) {
			t.Errorf("%s: error %v", text, err)
		}
		if !bad && (string(got.Append(nil, s.Bytes)) != want || s.End() != nil || string(got.Raw(s.Bytes)) != text[1:len(text)-1]) {
			t.Errorf("%s: %q, want %q", text, got.Append(nil, s.Bytes), want)
		}
	}
	for _, text := range []string{`"\ud83d"`, `"\ude00"`, `"\ud83d\ud83d"`, `"\ud83dx"`} {
		if _, err := (&Scanner{Bytes: []byte(text)}).Str(); err == nil || !strings.Contains(err.Error(), "surrogate") {
			t.Errorf("%s: error %v", text, err)
		}
	}
}

// Values of every kind are skipped whole, damaged and deep ones refused with the byte.
func TestSkip(t *testing.T) {
	for text, want := range map[string]string{
		` {"a": [1, -2.5e3, true, false, null, "]}"], "b": {}} `: "", `[]`: "", `0`: "", `"x"`: "",
		`{"a"}`: "want ':'", `{"a":1,}`: "want '\"'", `[1 2]`: "want ','", `[`: "byte 1", `nul`: "want a JSON value", `[1]]`: "after the closing", ``: "want a JSON value",
		strings.Repeat("[", 60) + strings.Repeat("]", 60): "", strings.Repeat("[", 1<<16): "nested deeper",
	} {
		s := &Scanner{Bytes: []byte(text)}
		err := s.Skip()
		if err == nil {
			err = s.End()
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.40s: error %v, want %q", text, err, want)
		}
	}
}

func TestUint(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "7 ": 7, " 9223372036854775807": 1<<63 - 1, "9223372036854775808": -1, "-1": -1, "1.5": -1, "1e3": -1, "01": -1, "": -1, `"1"`: -1} {
		if got, err := (&Scanner{Bytes: []byte(text)}).Uint(); want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
}
