package replica

import (
	"strings"
	"unicode/utf8"
)

// clip keeps a sentence within what a frame may hold, and leaves one that is
// within it as it is. It cuts at a rune.
func clip(s string) string { return clipTo(s, maxReason) }

// clipTo returns the text that is written for s, at most limit bytes.
func clipTo(s string, limit int) string {
	// The Writer would do this too, and make it longer.
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= limit {
		return s
	}
	end := limit - len("…")
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
