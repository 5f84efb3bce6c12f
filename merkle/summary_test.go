package merkle_test

import (
	"testing"

	"github.com/sdiff/sdiff/merkle"
	"pgregory.net/rapid"
)

func summaries() *rapid.Generator[merkle.Summary] {
	return rapid.Custom(func(t *rapid.T) merkle.Summary {
		return merkle.Summary{Count: rapid.Uint64().Draw(t, "count"), Sum: rapid.Uint64().Draw(t, "sum")}
	})
}

// TestSummaryGroup holds the laws of a commutative group, one by one.
func TestSummaryGroup(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := summaries().Draw(t, "a"), summaries().Draw(t, "b"), summaries().Draw(t, "c")
		zero := merkle.Summary{}
		for _, law := range []struct {
			name      string
			got, want merkle.Summary
		}{
			{"(a+b)+c = a+(b+c)", a.Add(b).Add(c), a.Add(b.Add(c))},
			{"a+b = b+a", a.Add(b), b.Add(a)},
			{"a+0 = a", a.Add(zero), a},
			{"a-a = 0", a.Sub(a), zero},
			{"(a+b)-b = a", a.Add(b).Sub(b), a},
			{"a-b = a+(0-b)", a.Sub(b), a.Add(zero.Sub(b))},
		} {
			if law.got != law.want {
				t.Errorf("%s: %v != %v for a = %v, b = %v, c = %v", law.name, law.got, law.want, a, b, c)
			}
		}
	})
}

func TestSummaryText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := summaries().Draw(t, "s")
		if got, err := merkle.ParseSummary(s.String()); got != s || err != nil {
			t.Errorf("ParseSummary(%q) = %v, %v, want %v", s.String(), got, err, s)
		}
	})
	s := merkle.Summary{Count: 4, Sum: 0x9f86d081884c7d65}
	if got, want := s.String(), "9f86d081884c7d65:4"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	for _, text := range []string{
		"", ":", "9f86d081884c7d65", "9f86d081884c7d65:", "9f86d081884c7d65:x", "9f86d081884c7d65:-1",
		"9f86d081884c7d6:4", "9f86d081884c7d650:4", "9f86d081884c7d6g:4", "9f86d081884c7d65:18446744073709551616",
		"9f86d081884c7d65:4:4", " 9f86d081884c7d65:4", "9f86d081884c7d65:4 ",
	} {
		if got, err := merkle.ParseSummary(text); got != (merkle.Summary{}) || err == nil {
			t.Errorf("ParseSummary(%q) = %v, %v, want an error", text, got, err)
		}
	}
}
