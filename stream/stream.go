package stream

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sdiff/sdiff/merkle"
)

// An ID names a dataset: 128 bits drawn once, kept for as long as the dataset
// lives. The zero ID is none.
type ID [16]byte

// NewID draws a dataset id.
func NewID() ID { return ID(random()) }

// String returns the id as 32 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether the id is none.
func (id ID) IsZero() bool { return id == ID{} }

// An Epoch names one history of offsets: 128 random bits. The zero Epoch is
// none.
type Epoch [16]byte

// NewEpoch draws an epoch.
func NewEpoch() Epoch { return Epoch(random()) }

// String returns the epoch as 32 hex digits.
func (e Epoch) String() string { return hex.EncodeToString(e[:]) }

// IsZero reports whether the epoch is none.
func (e Epoch) IsZero() bool { return e == Epoch{} }

func random() (b [16]byte) {
	rand.Read(b[:]) // never fails, see crypto/rand
	return b
}

// A Position says where a copy stands: after the commit Offset of the history
// Epoch, whose dataset had Fingerprint then. Two copies with equal positions
// have seen the same history. The zero Position is before all history.
type Position struct {
	Epoch       Epoch
	Offset      uint64
	Fingerprint merkle.Summary
}

// IsZero reports whether p is before all history.
func (p Position) IsZero() bool { return p == Position{} }

// String returns epoch, offset and fingerprint with slashes between:
// "8f…2a/17/9f86d081884c7d65:4".
func (p Position) String() string {
	return fmt.Sprintf("%v/%d/%v", p.Epoch, p.Offset, p.Fingerprint)
}

// ParsePosition parses the form that String returns.
func ParsePosition(text string) (Position, error) {
	parts := strings.Split(text, "/")
	if len(parts) != 3 || len(parts[0]) != 32 {
		return Position{}, errPosition
	}
	var p Position
	if _, err := hex.Decode(p.Epoch[:], []byte(parts[0])); err != nil {
		return Position{}, errPosition
	}
	var err error
	if p.Offset, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return Position{}, errPosition
	}
	if p.Fingerprint, err = merkle.ParseSummary(parts[2]); err != nil {
		return Position{}, errPosition
	}
	return p, nil
}

var errPosition = errors.New("stream: a position is epoch/offset/fingerprint")

// An Op puts or deletes one key.
type Op struct {
	Key   []byte
	Value []byte // nothing for a delete
	// Delete is true for a delete. A put with an empty value is not a delete.
	Delete bool
}

// A Commit is one or more ops applied atomically.
type Commit struct {
	// Offset is the commit's number: 1, 2, 3 … without gaps within an epoch.
	Offset uint64
	// Time is when the master made the commit, in milliseconds since 1970 by
	// its own clock. It is for people and for retention by age; nothing
	// relies on its order.
	Time uint64
	// Fingerprint is the summary of the whole dataset after the commit.
	Fingerprint merkle.Summary
	Ops         []Op
}

// A Record is one group of commits as it is stored in the log, kept in the
// tail and sent to followers: the encoded commits First to Last, one after
// the other.
type Record struct {
	First, Last uint64
	Body        []byte
	// Shared is what those who read the record from a Tail share of it, as
	// whoever appended it left it there. It is of the whole body: From drops it
	// with what it cuts off. Nothing in this package looks at it, and it is
	// not stored.
	Shared any
}
