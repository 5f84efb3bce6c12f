package stream_test

import (
	"strings"
	"testing"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/stream"
)

func TestIDs(t *testing.T) {
	a, b := stream.NewID(), stream.NewID()
	if a == b || a.IsZero() || !(stream.ID{}).IsZero() || len(a.String()) != 32 {
		t.Errorf("drew dataset ids %v and %v", a, b)
	}
	x, y := stream.NewEpoch(), stream.NewEpoch()
	if x == y || x.IsZero() || !(stream.Epoch{}).IsZero() || len(x.String()) != 32 {
		t.Errorf("drew epochs %v and %v", x, y)
	}
}

func TestPositionText(t *testing.T) {
	p := stream.Position{Epoch: stream.Epoch{0: 0x8f, 15: 0x2a}, Offset: 17, Fingerprint: merkle.Summary{Count: 4, Sum: 0x9f86d081884c7d65}}
	const text = "8f00000000000000000000000000002a/17/9f86d081884c7d65:4"
	if got := p.String(); got != text {
		t.Errorf("String = %s, want %s", got, text)
	}
	for _, p := range []stream.Position{p, {}, {Epoch: stream.NewEpoch(), Offset: 1<<64 - 1}} {
		if got, err := stream.ParsePosition(p.String()); err != nil || got != p {
			t.Errorf("ParsePosition(%s) = %v, %v", p, got, err)
		}
	}
	if p.IsZero() || !(stream.Position{}).IsZero() {
		t.Error("IsZero is wrong")
	}
	for _, bad := range []string{
		"", "//", "17", text + "/", strings.TrimSuffix(text, ":4"), strings.Replace(text, "17", "-1", 1),
		strings.Replace(text, "17", "18446744073709551616", 1), text[1:], "g" + text[1:],
	} {
		if got, err := stream.ParsePosition(bad); err == nil || got != (stream.Position{}) {
			t.Errorf("ParsePosition(%q) = %v, want an error", bad, got)
		}
	}
}
