package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// prompt is a caption with the id by which its file calls it; empty ids are numbered.
type prompt struct {
	ID   string `json:"id,omitempty"`
	Text string `json:"prompt"`
}

// Limits of what is read as prompts.
const (
	maxPromptFile = 64 << 20
	maxPromptText = 64 << 10
)

// readPrompts reads a file of prompts: one per line, or ECAD's JSON, a list of {"id", "prompt"} or an object of such by id. Empty lines are
// left out. Errors name file and line or entry.
func readPrompts(path string) ([]prompt, error) {
	data, err := readLimited(path, maxPromptFile)
	if err != nil {
		return nil, err
	}
	return parsePrompts(path, data)
}

func parsePrompts(path string, data []byte) (list []prompt, err error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if !utf8.Valid(data) {
		return nil, inputError("%s: it is not UTF-8: save it as UTF-8 text, one prompt per line", path)
	}
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && (trimmed[0] == '[' || trimmed[0] == '{') && json.Valid(trimmed) {
		if list, err = promptsJSON(trimmed); err != nil {
			return nil, inputError("%s: %w: write a list of {\"id\": ..., \"prompt\": ...}", path, err)
		}
	} else {
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line != "" {
				list = append(list, prompt{Text: line})
			}
		}
	}
	if len(list) == 0 {
		return nil, inputError("%s: no prompts: write one per line", path)
	}
	for i, p := range list {
		if len(p.Text) > maxPromptText {
			return nil, inputError("%s: prompt %d has %d bytes: shorten it to %d", path, i+1, len(p.Text), maxPromptText)
		}
	}
	return list, nil
}

// promptsJSON reads a list of prompts (objects or strings) or an object of prompts by id, in the order of the file.
func promptsJSON(data []byte) ([]prompt, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	open, err := d.Token()
	if err != nil {
		return nil, err
	}
	var list []prompt
	for d.More() {
		id := ""
		if open == json.Delim('{') {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			id, _ = key.(string)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		p, err := promptEntry(raw)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(list)+1, err)
		}
		if id != "" {
			p.ID = id
		}
		list = append(list, p)
	}
	return list, nil
}

func promptEntry(raw json.RawMessage) (prompt, error) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return prompt{Text: text}, nil
	}
	var entry struct {
		ID     any     `json:"id"`
		Prompt *string `json:"prompt"`
	}
	if err := json.Unmarshal(raw, &entry); err != nil {
		return prompt{}, fmt.Errorf("it is neither a text nor an object with a text \"prompt\"")
	}
	if entry.Prompt == nil {
		return prompt{}, fmt.Errorf("member \"prompt\" is missing")
	}
	p := prompt{Text: *entry.Prompt}
	switch id := entry.ID.(type) {
	case string:
		p.ID = id
	case float64:
		p.ID = fmt.Sprint(id)
	}
	return p, nil
}

// slug turns a text into a part of a file name: lower-case letters, digits and dashes.
func slug(text string, most int) string {
	var b strings.Builder
	for _, r := range strings.ToLower(text) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= most {
			break
		}
	}
	if s := strings.Trim(b.String(), "-"); s != "" {
		return s
	}
	return "picture"
}
