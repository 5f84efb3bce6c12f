package main

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestEscape(t *testing.T) {
	tests := []struct{ in, want string }{
		{"plain key/1", "plain key/1"},
		{"grün 鍵 😀", "grün 鍵 😀"},
		{"a\tb\nc\rd", `a\tb\nc\rd`},
		{"\x1b[31mred\x1b]0;title\a", `\x1b[31mred\x1b]0;title\a`},
		{"\x00\x7f", `\x00\x7f`},
		{"\u0085\u009b", `\u0085\u009b`},
		{"\u202eright to left", `\u202eright to left`},
		{"\xff\xc3(", `\xff\xc3(`},
		{`back\slash`, `back\\slash`},
	}
	for _, test := range tests {
		if got := escape([]byte(test.in)); got != test.want {
			t.Errorf("escape(%q) = %s, want %s", test.in, got, test.want)
		}
	}
	if got := visible(`C:\x` + "\n"); got != `C:\x\n` {
		t.Errorf("visible = %s", got)
	}
}

// TestEscapeIsOneToOne shows that the bytes can be had back from the text.
func TestEscapeIsOneToOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		text := escape(b)
		got, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
		if err != nil || got != string(b) {
			t.Fatalf("escape(%q) = %s, which reads %q, %v", b, text, got, err)
		}
	})
}

func TestOnTerminal(t *testing.T) {
	if got, want := onTerminal([]byte("one\ttwo\n\x1b[2Jthree\n")), "one\ttwo\n\\x1b[2Jthree\n"; got != want {
		t.Errorf("onTerminal = %q, want %q", got, want)
	}
}

func TestForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 999: "999 bytes", 1000: "1.0 kB", 999_400: "999.4 kB", 999_600: "1.0 MB", 111_600_000: "111.6 MB", 5e15: "5.0 PB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		812 * time.Microsecond: "812µs", 41400 * time.Microsecond: "41ms", 2340 * time.Millisecond: "2.3s",
		192*time.Second + 400*time.Millisecond: "3m12s",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %s, want %s", d, got, want)
		}
	}
	if got := plural(1, "key") + ", " + plural(2, "key"); got != "1 key, 2 keys" {
		t.Error(got)
	}
}

func TestProgressLine(t *testing.T) {
	got := progressLine(5000, 10_000_000, 25, 100, 2*time.Second)
	if want := "loaded 5000 items, 10.0 MB; 2500 items/s, 5.0 MB/s; 25 %, 6s left"; got != want {
		t.Errorf("with a total: %s, want %s", got, want)
	}
	got = progressLine(1, 10, 25, 0, 0)
	if want := "loaded 1 item, 10 bytes; 1000 items/s, 10.0 kB/s"; got != want {
		t.Errorf("without a total: %s, want %s", got, want)
	}
}
