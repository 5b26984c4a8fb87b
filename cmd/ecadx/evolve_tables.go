package main

import "reflect"

// table is a section of a configuration.
type table struct {
	name, doc string
	settings  []setting
}

// tables takes a configuration apart by its struct tags, so that keys, texts and order are written down once.
func (c evolveConfig) tables() []table {
	var list []table
	all := reflect.ValueOf(c)
	for i := range all.NumField() {
		section, tag := all.Field(i), all.Type().Field(i).Tag
		if section.Kind() == reflect.Pointer {
			if section.IsNil() {
				continue
			}
			section = section.Elem()
		}
		t := table{name: tomlName(tag), doc: tag.Get("doc")}
		for k := range section.NumField() {
			tag := section.Type().Field(k).Tag
			t.settings = append(t.settings, setting{tomlName(tag), tomlValue(section.Field(k).Interface()), tag.Get("doc")})
		}
		list = append(list, t)
	}
	return list
}

// tomlName is the key of a field, without what follows the comma.
func tomlName(tag reflect.StructTag) string {
	name := tag.Get("toml")
	for i, r := range name {
		if r == ',' {
			return name[:i]
		}
	}
	return name
}
