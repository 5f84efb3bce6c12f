package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestParseItem(t *testing.T) {
	tests := []struct{ line, key, value, err string }{
		{`{"key":"a","value":"b"}`, "a", "b", ""},
		{` { "value" : "" , "key" : "a" } `, "a", "", ""},
		{`{"key64":"AP8=","value64":""}`, "\x00\xff", "", ""},
		{`{"key":"\"\\\/\b\f\n\r\tA\u00fc\ud83d\ude00","value":"ü"}`, "\"\\/\b\f\n\r\tAü😀", "ü", ""},
		{`{"key":"\u0000","value":"\u2028"}`, "\x00", "\u2028", ""},

		{``, "", "", "byte 1: an object"},
		{`null`, "", "", "byte 1: an object"},
		{`[]`, "", "", "byte 1: an object"},
		{`{}`, "", "", "byte 2: a field name"},
		{`{"key":"a"}`, "", "", "there is no value"},
		{`{"value":"a"}`, "", "", "there is no key"},
		{`{"key":"a","key64":"YQ==","value":""}`, "", "", "both key and key64"},
		{`{"key":"a","key":"b","value":""}`, "", "", "byte 12: the field key occurs twice"},
		{`{"Key":"a","value":""}`, "", "", "byte 2: only key"},
		{`{"key":"a","value":"","ttl":"3"}`, "", "", "byte 23: only key"},
		{`{"key":1,"value":""}`, "", "", "byte 8: a string"},
		{`{"key":"a","value":null}`, "", "", "byte 20: a string"},
		{`{"key":"a","value":"b"`, "", "", "byte 23: a comma or"},
		{`{"key":"a","value":"b"} x`, "", "", "byte 25: the line goes on"},
		{`{"key":"a","value":"b"},`, "", "", "byte 24: the line goes on"},
		{`{"key":"a" "value":"b"}`, "", "", "byte 12: a comma or"},
		{`{"key":"a`, "", "", "byte 10: the line ends within a string"},
		{`{"key":"a\`, "", "", "byte 10: the line ends within an escape"},
		{"{\"key\":\"a\x01\",\"value\":\"\"}", "", "", "byte 10: a control byte"},
		{"{\"key\":\"a\xff\",\"value\":\"\"}", "", "", "byte 10: is no UTF-8"},
		{`{"key":"\ud83d","value":""}`, "", "", "byte 9: is no escape"},
		{`{"key":"\ud83dA","value":""}`, "", "", "byte 9: is no escape"},
		{`{"key":"\ude00\ud83d","value":""}`, "", "", "byte 9: is no escape"},
		{`{"key":"\x41","value":""}`, "", "", "byte 9: is no escape"},
		{`{"key":"\u00g0","value":""}`, "", "", "byte 9: is no escape"},
		{`{"key":"\u+123","value":""}`, "", "", "byte 9: is no escape"},
		{`{"key64":"A","value":""}`, "", "", "key64 is not in base64"},
		{`{"key64":"AP9=","value":""}`, "", "", "key64 is not in base64"},
		{`{"key64":"AP\n8=","value":""}`, "", "", "key64 is not in base64"},
		{`{"key64":"AP8","value":""}`, "", "", "key64 is not in base64"},
	}
	for _, test := range tests {
		key, value, err := parseItem([]byte(test.line))
		switch {
		case test.err == "" && (err != nil || string(key) != test.key || string(value) != test.value):
			t.Errorf("parseItem(%s) = %q, %q, %v; want %q, %q", test.line, key, value, err, test.key, test.value)
		case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
			t.Errorf("parseItem(%s) = %q, %q, %v; want error %q", test.line, key, value, err, test.err)
		}
	}
}

// TestItemRoundTrip shows that any bytes come back, through our parser and
// through encoding/json, and that no line holds a byte that a terminal obeys.
func TestItemRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bytesOf := rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) }))
		key, value := bytesOf.Draw(t, "key"), bytesOf.Draw(t, "value")
		line := appendItem(nil, key, value, true)
		checkItem(t, line, key, value)
		if i := bytes.IndexFunc(line[:len(line)-1], func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }); i >= 0 {
			t.Fatalf("%q has a control byte at %d", line, i)
		}
	})
}

type fatalf interface {
	Helper()
	Fatalf(format string, args ...any)
}

func checkItem(t fatalf, line, key, value []byte) {
	t.Helper()
	k, v, err := parseItem(line)
	if err != nil || !bytes.Equal(k, key) || !bytes.Equal(v, value) {
		t.Fatalf("parseItem(%s) = %q, %q, %v; want %q, %q", line, k, v, err, key, value)
	}
	var std struct{ Key, Key64, Value, Value64 string }
	if err := json.Unmarshal(line, &std); err != nil {
		t.Fatalf("encoding/json refuses %s: %v", line, err)
	}
	for _, f := range []struct {
		plain, coded string
		want         []byte
	}{{std.Key, std.Key64, key}, {std.Value, std.Value64, value}} {
		got := []byte(f.plain)
		if f.coded != "" {
			if got, err = base64.StdEncoding.DecodeString(f.coded); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
		if !bytes.Equal(got, f.want) {
			t.Fatalf("encoding/json reads %q from %s, want %q", got, line, f.want)
		}
	}
}

// FuzzParseItem shows that what is accepted means the same to encoding/json,
// and is the same when it is written and read again.
func FuzzParseItem(f *testing.F) {
	f.Add([]byte(`{"key":"a","value":"b"}`))
	f.Add([]byte(`{"key64":"AP8=","value":"\ud83d\ude00\n"}`))
	f.Add([]byte(` {"value64" : "" ,"key":"\u0041\/"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		key, value, err := parseItem(line)
		if err != nil {
			if key != nil || value != nil {
				t.Errorf("parseItem(%q) = %q, %q beside the error %v", line, key, value, err)
			}
			return
		}
		if !utf8.Valid(line) {
			t.Errorf("parseItem(%q) accepts what is no UTF-8", line)
		}
		checkItem(t, line, key, value)
		checkItem(t, appendItem(nil, key, value, true), key, value)
	})
}

func BenchmarkParseItem(b *testing.B) {
	line := appendItem(nil, []byte("0123456789abcdef"), bytes.Repeat([]byte("v"), 100), true)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := parseItem(line); err != nil {
			b.Fatal(err)
		}
	}
}
