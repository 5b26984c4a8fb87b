// Package hfconfig decodes the JSON configurations of Hugging Face snapshots (config.json, scheduler_config.json,
// model_index.json). Python writes the tokens Infinity, -Infinity and NaN into them, which are not JSON: diffusers' own
// scheduler files hold "lambda_min_clipped": -Infinity. Decode accepts the three tokens where a value may stand and leaves
// everything else to encoding/json. Unknown keys are ignored, as the Python libraries ignore them.
package hfconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
)

// MaxSize is a limit for reading configuration files that no real one comes near, in bytes. It bounds memory, too: a list of many
// short texts takes up to 28 times its length.
const MaxSize = 32 << 10

// Float is a float64 that also decodes from the tokens Infinity, -Infinity and NaN.
type Float float64

var tokens = []struct {
	text  string
	value float64
}{{"-Infinity", math.Inf(-1)}, {"Infinity", math.Inf(1)}, {"NaN", math.NaN()}}

// UnmarshalJSON decodes a number, or one of the three tokens in the quotes that Decode puts around it. null changes nothing.
func (f *Float) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	for _, t := range tokens {
		if string(b) == `"`+t.text+`"` {
			*f = Float(t.value)
			return nil
		}
	}
	var v float64
	if err := json.Unmarshal(b, &v); err != nil {
		var te *json.UnmarshalTypeError
		if errors.As(err, &te) {
			return fmt.Errorf("found a %s, want a number, Infinity, -Infinity or NaN", te.Value)
		}
		return err
	}
	*f = Float(v)
	return nil
}

// MarshalJSON writes the value as Python's json module does, tokens included; the tokens are in quotes, because
// encoding/json accepts nothing else from a marshaler. Decode reads both.
func (f Float) MarshalJSON() ([]byte, error) {
	v := float64(f)
	switch {
	case v != v:
		return []byte(`"NaN"`), nil
	case math.IsInf(v, 1):
		return []byte(`"Infinity"`), nil
	case math.IsInf(v, -1):
		return []byte(`"-Infinity"`), nil
	}
	return json.Marshal(v)
}

// Decode decodes one JSON document into v as json.Unmarshal does. Fields that may hold one of the three tokens are of type
// Float; a token decodes into an interface value as its text. Fields whose key is missing or null keep their value, so
// defaults are set before the call. Errors name the key, the value found and the type wanted.
func Decode(data []byte, v any) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("the configuration is empty")
	}
	d := json.NewDecoder(bytes.NewReader(quoteTokens(data)))
	if err := d.Decode(v); err != nil {
		return describe(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("text after the end of the configuration")
	}
	return nil
}

func describe(err error) error {
	var te *json.UnmarshalTypeError
	var se *json.SyntaxError
	switch {
	case errors.As(err, &te):
		want := te.Type.String()
		if te.Type.Kind() == reflect.Struct {
			want = "an object"
		}
		found := te.Value // "number" and its digits, however many
		if len(found) > 40 {
			found = found[:37] + "..."
		}
		article := "a"
		if found == "array" || found == "object" {
			article = "an"
		}
		if te.Field != "" {
			return fmt.Errorf("key %q: found %s %s, want %s", te.Field, article, found, want)
		}
		return fmt.Errorf("found %s %s, want %s", article, found, want)
	case errors.As(err, &se):
		return fmt.Errorf("not JSON: %v", err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("not JSON: the text ends early")
	}
	return err
}

// quoteTokens puts quotes around the three tokens where they stand outside strings. Without one, data itself comes back.
func quoteTokens(data []byte) []byte {
	var out []byte
	done := 0 // data[:done] is in out
	inString := false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case !inString && (c == 'I' || c == 'N' || c == '-'):
			for _, t := range tokens {
				if bytes.HasPrefix(data[i:], []byte(t.text)) && !wordByte(data, i-1) && !wordByte(data, i+len(t.text)) {
					out = append(append(append(append(out, data[done:i]...), '"'), t.text...), '"')
					done = i + len(t.text)
					i = done - 1
					break
				}
			}
		}
	}
	if out == nil {
		return data
	}
	return append(out, data[done:]...)
}

// wordByte tells whether data[i] could continue a number or word.
func wordByte(data []byte, i int) bool {
	if i < 0 || i >= len(data) {
		return false
	}
	c := data[i]
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-' || c == '+' || c == '.'
}
