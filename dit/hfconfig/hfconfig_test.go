package hfconfig_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"ecadx/dit/hfconfig"
)

type config struct {
	Class string         `json:"_class_name"`
	Min   hfconfig.Float `json:"lambda_min_clipped"`
	Max   hfconfig.Float `json:"max"`
	Steps int            `json:"steps"`
	List  []hfconfig.Float
	Any   any
}

func TestDecode(t *testing.T) {
	c := config{Steps: 7, Max: 3}
	err := hfconfig.Decode([]byte(`{"_class_name": "-Infinity \" NaN", "lambda_min_clipped": -Infinity, "max": null,
		"list": [Infinity,NaN,-1.5e3], "any": -Infinity, "unknown": {"x": NaN}}`), &c)
	if err != nil {
		t.Fatal(err)
	}
	if c.Class != `-Infinity " NaN` || !math.IsInf(float64(c.Min), -1) || c.Max != 3 || c.Steps != 7 || c.Any != "-Infinity" {
		t.Errorf("decoded %+v", c)
	}
	if len(c.List) != 3 || !math.IsInf(float64(c.List[0]), 1) || !math.IsNaN(float64(c.List[1])) || c.List[2] != -1500 {
		t.Errorf("list %v", c.List)
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var again config
	if err := hfconfig.Decode(b, &again); err != nil || !math.IsInf(float64(again.Min), -1) {
		t.Errorf("%s: %v %v", b, again, err)
	}
}

func TestErrors(t *testing.T) {
	for in, want := range map[string]string{
		``:                          "empty",
		"  \n":                      "empty",
		`{"steps": "x"}`:            `key "steps": found a string, want int`,
		`{"steps": NaN}`:            `key "steps": found a string, want int`,
		`{"lambda_min_clipped":[]}`: "want a number",
		`[1]`:                       "want an object",
		`{"steps": 1`:               "ends early",
		`{"steps": 1}}`:             "text after the end",
		`{"max": -Infinity3}`:       "not JSON",
		`{"max": Infinityx}`:        "not JSON",
		`{"max": --Infinity}`:       "not JSON",
		`{"a": "`:                   "ends early",
		`{"a": "\`:                  "ends early",
	} {
		var c config
		if err := hfconfig.Decode([]byte(in), &c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", in, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"lambda_min_clipped": -Infinity, "list": [NaN, Infinity], "any": "NaN\\\""}`))
	f.Add([]byte(`{"a":"\`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var v any
		ours := hfconfig.Decode(data, &v)
		if json.Valid(data) && ours != nil && !strings.Contains(ours.Error(), "float64") {
			t.Fatalf("refused valid JSON %q: %v", data, ours)
		}
	})
}
