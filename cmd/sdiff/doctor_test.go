package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/replica/store"
)

// TestDoctorsSpaceLine shows that doctor said that space is ok where the next
// start would be refused: more than the reserve was free, but tables that were
// in memory take more than that.
func TestDoctorsSpaceLine(t *testing.T) {
	for _, c := range []struct {
		free, reserve int64
		refused       error
		level         level
		text          string
	}{
		{2e9, 1e9, nil, levelOK, "2.0 GB free, 1.0 GB are kept free"},
		{1e9, 1e9, nil, levelOK, "1.0 GB free"},
		{9e8, 1e9, nil, levelWarn, "900.0 MB free"},
		{-1, 1e9, nil, levelWarn, "cannot be told"},
		{2e9, 1e9, fmt.Errorf("%w: opening takes more", store.ErrNoSpace), levelWarn, "opening takes more"},
	} {
		f := checkSpace(c.free, c.reserve, c.refused)
		if f.Level != c.level || !strings.Contains(f.Text, c.text) || f.Level == levelWarn && c.free >= 0 && f.Advice == "" {
			t.Errorf("%d free of %d, %v: %+v, want %s: %s", c.free, c.reserve, c.refused, f, c.level, c.text)
		}
	}
}
