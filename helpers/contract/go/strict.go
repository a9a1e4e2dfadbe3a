package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// encoding/json is kinder than our schemas: it takes `Port` for `port`, the last of two equal keys, null for anything,
// and an absent field for a zero. checkShape finds those before the values are decoded.
//
// A field is required unless it is a pointer or its tag says omitempty.
func checkShape(raw json.RawMessage, t reflect.Type, where string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	trimmed := bytes.TrimLeft(raw, " \t\r\n")
	if bytes.Equal(trimmed, []byte("null")) && t.Kind() != reflect.Interface {
		return fmt.Errorf("%s is null", name(where))
	}
	switch {
	case t == reflect.TypeFor[json.RawMessage]():
		return nil
	case t.Kind() == reflect.Struct && len(trimmed) > 0 && trimmed[0] == '{':
		return checkObject(trimmed, t, where)
	case t.Kind() == reflect.Map && len(trimmed) > 0 && trimmed[0] == '{':
		return eachMember(trimmed, where, func(key string, value json.RawMessage) error {
			return checkShape(value, t.Elem(), where+"."+key)
		})
	case t.Kind() == reflect.Slice && len(trimmed) > 0 && trimmed[0] == '[':
		var items []json.RawMessage
		if err := json.Unmarshal(trimmed, &items); err != nil {
			return err
		}
		for i, item := range items {
			if err := checkShape(item, t.Elem(), fmt.Sprintf("%s[%d]", where, i)); err != nil {
				return err
			}
		}
	}
	return nil // a wrong type is found by the decoder
}

func checkObject(raw json.RawMessage, t reflect.Type, where string) error {
	fields := map[string]reflect.StructField{}
	missing := map[string]bool{}
	for i := range t.NumField() {
		field := t.Field(i)
		tag, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if tag == "-" || !field.IsExported() {
			continue
		}
		if tag == "" {
			tag = field.Name
		}
		fields[tag] = field
		if field.Type.Kind() != reflect.Pointer && !strings.Contains(options, "omitempty") {
			missing[tag] = true
		}
	}
	err := eachMember(raw, where, func(key string, value json.RawMessage) error {
		field, known := fields[key]
		if !known {
			return fmt.Errorf("%s is not a field", name(join(where, key)))
		}
		delete(missing, key)
		return checkShape(value, field.Type, join(where, key))
	})
	if err != nil {
		return err
	}
	for i := range t.NumField() { // in the order of the fields, so that the message is always the same
		tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if missing[tag] {
			return fmt.Errorf("%s is missing", name(join(where, tag)))
		}
	}
	return nil
}

// eachMember walks an object's members and refuses a key that comes twice.
func eachMember(raw json.RawMessage, where string, visit func(key string, value json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return err
	}
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		if seen[key] {
			return fmt.Errorf("%s is there twice", name(join(where, key)))
		}
		seen[key] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		if err := visit(key, value); err != nil {
			return err
		}
	}
	return nil
}

func join(where, key string) string {
	if where == "" {
		return key
	}
	return where + "." + key
}

func name(where string) string {
	if where == "" {
		return "the value"
	}
	return Tail(where, 128)
}
