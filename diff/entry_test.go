package diff

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sdiff/sdiff/merkle"
)

// levelOf returns a whole level with the entries that write writes.
func levelOf(level int, write func(w *entryWriter)) Message {
	var w entryWriter
	write(&w)
	return Message{kind: kindLevel, level: level, entries: w.out}
}

// TestVectors pins the encoding of one message of each kind.
func TestVectors(t *testing.T) {
	for _, c := range []struct {
		name string
		m    Message
		want string
	}{
		{"ack", Message{kind: kindAck, level: 3}, "92 02 03"},
		{"empty level", Message{kind: kindLevel, level: 4}, "95 01 04 c2 00 c4 00"},
		{"limit hit", Message{kind: kindLevel, level: 4, left: 300}, "95 01 04 c2 cd 01 2c c4 00"},
		{"summaries", levelOf(1, func(w *entryWriter) {
			w.summary(0, []byte("k01"), merkle.Summary{Count: 10, Sum: 0x37})
			w.summary(0, []byte("k02"), merkle.Summary{Count: 300, Sum: 1<<64 - 1})
			w.summary(0, nil, merkle.Summary{Count: 1, Sum: 5})
		}), "95 01 01 c2 00 c4 27" +
			"04 00 03 6b 30 31 0a 00 00 00 00 00 00 00 37" +
			"04 02 01 32 ac 02 ff ff ff ff ff ff ff ff" +
			"00 01 00 00 00 00 00 00 00 05"},
		{"list, request, verdict, nothing", levelOf(2, func(w *entryWriter) {
			w.list(1, 2)
			w.out = append(w.out, bytes.Repeat([]byte{0xab}, 16)...)
			w.ask(20)
			w.verdict(0, []byte{0x05})
			w.list(0, 0)
		}), "95 01 02 c2 00 c4 19" +
			"09 02 ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab ab" +
			"a2 01" +
			"03 01 05" +
			"01 00"},
	} {
		got := hex.EncodeToString(c.m.Append(nil))
		if want := strings.ReplaceAll(c.want, " ", ""); got != want {
			t.Errorf("%s: encoded as\n%s, want\n%s", c.name, got, want)
		}
		if n := len(got) / 2; n != c.m.size() {
			t.Errorf("%s: size() = %d, want %d", c.name, c.m.size(), n)
		}
	}
}

// TestTruncations cuts a message at every byte: none of the pieces is one.
func TestTruncations(t *testing.T) {
	m := levelOf(2, func(w *entryWriter) {
		w.summary(3, []byte("some key"), merkle.Summary{Count: 1000, Sum: 1 << 60})
		w.summary(0, nil, merkle.Summary{Count: 7, Sum: 9})
		w.verdict(0, []byte{1})
	})
	whole := m.Append([]byte("before"))[len("before"):]
	if _, err := Parse(whole); err != nil {
		t.Fatalf("Parse: %v", err)
	}
	for i := range whole {
		if got, err := Parse(whole[:i]); err == nil || got.kind != 0 {
			t.Errorf("Parse of the first %d of %d bytes = %v, %v, want an error", i, len(whole), got, err)
		}
	}
	// The same for the entries, inside a message that is otherwise right.
	for i := 1; i < len(m.entries); i++ {
		cut := Message{kind: kindLevel, level: 2, entries: m.entries[:i]}
		if _, err := Parse(cut.Append(nil)); err == nil && i != len(m.entries)-3 {
			t.Errorf("Parse of the first %d of %d bytes of entries succeeds", i, len(m.entries))
		}
	}
}

// TestParseRefuses gives Parse entries that no entryWriter writes.
func TestParseRefuses(t *testing.T) {
	const sum = "00 00 00 00 00 00 00 01"
	long := "04 00 ea fb 03" + strings.Repeat("61", 65_002) + "01" + sum + "00 01" + sum
	for _, c := range []struct{ name, entries, want string }{
		{"number in long form", "82 00", "number"},
		{"number over 64 bits", "ff ff ff ff ff ff ff ff ff ff 01", "number"},
		{"bound on a list", "05 00 01 61 00", "a bound where none belongs"},
		{"bound on a request", "06 00 01 61", "a bound where none belongs"},
		{"bound on a verdict", "07 00 01 61 01 01", "a bound where none belongs"},
		{"list inside a range", "04 00 01 61 01" + sum + "01 00", "without its last part"},
		{"skip inside a range", "04 00 01 61 01" + sum + "08 01" + sum, "without its last part"},
		{"end inside a range", "04 00 01 61 01" + sum, "ends within a range"},
		{"range of one part", "01 00" + "00 01" + sum, "a range of one part"},
		{"empty bound", "04 00 00 01" + sum + "00 01" + sum, "length of a bound"},
		{"bound shares more than there is", "04 01 01 61 01" + sum + "00 01" + sum, "length of a bound"},
		{"bound over 65,001 bytes", long, "length of a bound"},
		{"equal bounds", "04 00 01 61 01" + sum + "04 00 01 61 01" + sum + "00 01" + sum, "ascend"},
		{"falling bounds", "04 00 01 62 01" + sum + "04 00 01 61 01" + sum + "00 01" + sum, "ascend"},
		{"falling bounds, new range", "04 00 01 62 01" + sum + "00 01" + sum + "04 00 01 61 01" + sum + "00 01" + sum, "ascend"},
		{"bound shares less than it could", "04 00 01 61 01" + sum + "04 00 02 61 62 01" + sum + "00 01" + sum, "ascend"},
		{"summary of nothing", "04 00 01 61 00" + sum + "00 01" + sum, "a summary of nothing"},
		{"list of 4,097", "01 81 20" + strings.Repeat(sum, 4097), "too many items"},
		{"list cut off", "01 02" + sum, "cut off"},
		{"list of 2^61 items", "01 80 80 80 80 80 80 80 80 20", "too many items"},
		{"verdict of nothing", "03 00", "length of a verdict"},
		{"verdict on 4,104", "03 81 04" + strings.Repeat("ff", 513), "length of a verdict"},
		{"verdict with a zero at its end", "03 02 01 00", "a verdict is not in its shortest form"},
	} {
		entries, err := hex.DecodeString(strings.ReplaceAll(c.entries, " ", ""))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		m, err := Parse(Message{kind: kindLevel, level: 2, entries: entries}.Append(nil))
		if _, ok := errors.AsType[*ParseError](err); !ok || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want a *ParseError about %q", c.name, err, c.want)
		}
		if m.kind != 0 {
			t.Errorf("%s: a message came with the error", c.name)
		}
	}
}

// TestSeparator checks that a separator separates and that no shorter one does.
func TestSeparator(t *testing.T) {
	key := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 0xff}), 0, 6)
	rapid.Check(t, func(t *rapid.T) {
		low, high := key.Draw(t, "low"), key.Draw(t, "high")
		if bytes.Compare(low, high) >= 0 {
			t.Skip("not ascending")
		}
		s := separator(low, high)
		if bytes.Compare(low, s) >= 0 || bytes.Compare(s, high) > 0 {
			t.Fatalf("separator(%x, %x) = %x", low, high, s)
		}
		if !bytes.HasPrefix(high, s) {
			t.Fatalf("separator(%x, %x) = %x is no prefix of the higher key", low, high, s)
		}
		if shorter := s[:len(s)-1]; bytes.Compare(low, shorter) < 0 {
			t.Fatalf("separator(%x, %x) = %x, but %x would do", low, high, s, shorter)
		}
	})
}

// TestParts checks that the parts of a split are not empty, join, and cover it.
func TestParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(2, 1<<40).Draw(t, "items")
		lo := rapid.Uint64Range(0, 1<<40).Draw(t, "lo")
		x := task{lo: lo, hi: lo + n}
		x.split(rapid.Uint64Range(0, n-1).Draw(t, "size"), rapid.IntRange(2, maxParts).Draw(t, "parts"))
		if x.parts < 2 || uint64(x.parts) > n {
			t.Fatalf("%d items in %d parts", n, x.parts)
		}
		at := lo
		for i := range int(x.parts) {
			from, to := x.part(i)
			if from != at || to <= from {
				t.Fatalf("part %d is [%d,%d), want it to begin at %d", i, from, to, at)
			}
			at = to
		}
		if at != x.hi {
			t.Fatalf("the last part ends at %d, want %d", at, x.hi)
		}
	})
}

// TestConfig checks that every field ends up in its range.
func TestConfig(t *testing.T) {
	for _, c := range []struct{ in, want Config }{
		{Config{}, Config{DefaultFrameBytes, DefaultWindow, DefaultParts, DefaultItems, DefaultMaxPending, DefaultMaxMade, nil}},
		{Config{-1, -1, -1, -1, -1, -1, nil}, Config{1, 1, 2, 1, 1, 0, nil}},
		{Config{1 << 30, 5, 1 << 30, 1 << 30, 7, 9, nil}, Config{maxFrameBytes, 5, maxParts, maxItems, 7, 9, nil}},
	} {
		if got := c.in.withDefaults(); got != c.want {
			t.Errorf("%+v becomes %+v, want %+v", c.in, got, c.want)
		}
	}
}
