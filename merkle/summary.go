package merkle

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A Summary is what is known of a set of items without listing them: how many
// there are, and the sum of their item hashes modulo 2^64. The zero Summary is
// that of the empty set.
//
// Summaries form a commutative group: the summary of two disjoint sets is the
// sum of theirs, in any order, and what was added can be subtracted again. So
// equal sets have equal summaries, whatever their history. Unequal sets have
// unequal summaries up to a collision of the item hash.
//
// A Summary is a plain value, comparable with ==.
type Summary struct {
	Count uint64
	Sum   uint64
}

// Add returns the summary of the union of two disjoint sets.
func (s Summary) Add(o Summary) Summary {
	return Summary{Count: s.Count + o.Count, Sum: s.Sum + o.Sum}
}

// Sub returns the summary of a set without its subset o.
func (s Summary) Sub(o Summary) Summary {
	return Summary{Count: s.Count - o.Count, Sum: s.Sum - o.Sum}
}

// String returns the sum as sixteen hex digits, a colon and the count:
// "9f86d081884c7d65:4".
func (s Summary) String() string {
	return fmt.Sprintf("%016x:%d", s.Sum, s.Count)
}

// ParseSummary parses the form that String returns.
func ParseSummary(text string) (Summary, error) {
	sum, count, ok := strings.Cut(text, ":")
	if !ok || len(sum) != 16 {
		return Summary{}, errSummary
	}
	s, err := strconv.ParseUint(sum, 16, 64)
	if err != nil {
		return Summary{}, errSummary
	}
	n, err := strconv.ParseUint(count, 10, 64)
	if err != nil {
		return Summary{}, errSummary
	}
	return Summary{Count: n, Sum: s}, nil
}

var errSummary = errors.New("merkle: a summary is sixteen hex digits, a colon and a count")
