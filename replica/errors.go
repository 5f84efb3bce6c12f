package replica

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

var (
	// ErrNotFound is returned by Get for a key that is not there. It never
	// stands for data that cannot be read: that is store.ErrCorrupt.
	ErrNotFound = store.ErrNotFound
	// ErrClosed is returned by everything after Run has ended.
	ErrClosed = errors.New("replica has ended")
	// ErrOutcomeUnknown is returned by a write whose store transaction failed:
	// nobody knows whether it is there. The replica ends; a restart decides.
	ErrOutcomeUnknown = errors.New("the outcome of the write is unknown")
	// ErrNotEmpty is returned by Run over a store that holds keys but was
	// never sdiff's, unless the config says Adopt.
	ErrNotEmpty = errors.New("the store holds keys that sdiff did not write")
	// ErrUnknownEpoch is returned by WaitFor for a position of a history that
	// this copy does not follow.
	ErrUnknownEpoch = errors.New("the position belongs to a history that this copy does not follow")
	// ErrTrimmed is returned by Watch for an offset that is no longer in the log.
	ErrTrimmed = errors.New("the offset is no longer in the log")
	// ErrAhead is returned by Watch for an offset that lies beyond the next commit.
	ErrAhead = errors.New("the offset lies in the future")
	// ErrNotConnected is returned by Repair while there is no session.
	ErrNotConnected = errors.New("not connected to the master")
	// ErrRepairing is returned by Repair while another repair is under way.
	ErrRepairing = errors.New("a repair is under way already")
	// ErrConnected is returned by Forget for a follower that is connected.
	ErrConnected = errors.New("the follower is connected")
	// ErrKey is returned for an empty key and for one that lies in a range
	// that is not the user's.
	ErrKey = errors.New("bad key")
	// ErrDamaged is wrapped by the error of a master that refuses to start
	// because its store does not hold what it should, and by that of a read that
	// meets such a key. See also store.ErrCorrupt.
	ErrDamaged = errors.New("the store does not hold what it should")
)

// A LimitError says that something is larger than the store takes. It never
// contains the thing itself.
type LimitError struct {
	What     string // "key", "value", "commit bytes" or "commit ops"
	Got, Max int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s too large: %d, the limit is %d", e.What, e.Got, e.Max)
}

// A DamageError is why a master refuses to start: its store does not hold what
// it should. It wraps ErrDamaged. Followers may still hold it all: see Restore.
type DamageError struct {
	Found string // what does not agree
	Where string // which of the stored range summaries no longer hold
	// Lost says that something is missing, which MasterConfig.AcceptDataLoss
	// accepts; otherwise keys are foreign or changed, which AcceptStore does.
	Lost bool
}

func (e *DamageError) Error() string {
	s := ErrDamaged.Error() + ": " + e.Found
	if e.Where != "" {
		s += "; " + e.Where
	}
	return s
}

// Unwrap returns ErrDamaged.
func (e *DamageError) Unwrap() error { return ErrDamaged }

// A DamagedKeyError is returned by reads that meet a key which the store does
// not hold as it was written. It wraps ErrDamaged and store.ErrCorrupt. On a
// follower the next repair mends it; on a master the key is sent to nobody until
// it is written again. Its text does not hold the key.
type DamagedKeyError struct {
	Key  []byte
	What string // as in BadKey
}

func (e *DamagedKeyError) Error() string {
	return "the store does not hold a key as it was written: " + e.What
}

// Unwrap returns ErrDamaged and store.ErrCorrupt.
func (e *DamagedKeyError) Unwrap() []error { return []error{ErrDamaged, store.ErrCorrupt} }

// errManyDamaged says that a key is absent in a copy that has lost more keys
// than it can name.
var errManyDamaged = fmt.Errorf("%w: more keys are damaged than are remembered, this may be one", ErrDamaged)

// An IdentityError says that a store or a peer is not the one it should be.
type IdentityError struct {
	What string // "role", "dataset" or "item hash"
	Have string
	Want string
}

func (e *IdentityError) Error() string {
	return fmt.Sprintf("the %s is %s, not %s", e.What, e.Have, e.Want)
}

// A Code names why a peer was refused or dropped. Codes travel on the wire;
// the numbers are never reused.
type Code uint8

// The codes. ONLY APPEND TO THIS LIST.
const (
	CodeVersion   Code = 1  // no common protocol version
	CodeDataset   Code = 2  // the follower holds another dataset
	CodeHash      Code = 3  // another item hash
	CodeDuplicate Code = 4  // a follower of this id is connected
	CodeHistory   Code = 5  // the position cannot be confirmed: the follower parks
	CodeFull      Code = 6  // too many followers
	CodeProtocol  Code = 7  // the peer broke the protocol
	CodeEnding    Code = 8  // the peer is going down
	CodeSilent    Code = 9  // nothing was heard for too long
	CodeStore     Code = 10 // the master's store failed
	CodeLimit     Code = 11 // a limit was hit
)

var codeNames = []string{"unknown", "version", "dataset", "hash", "duplicate", "history", "full", "protocol", "ending", "silent", "store", "limit"}

func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// A PeerError is what the other side said before it closed the connection.
type PeerError struct {
	Code   Code
	Reason string
}

func (e *PeerError) Error() string { return e.Reason }

// protocolError says that the peer broke the protocol; it is told so before
// the connection is closed.
type protocolError struct {
	code   Code
	reason string
}

func (e *protocolError) Error() string { return e.reason }

func protocolErrorf(format string, args ...any) error {
	return &protocolError{CodeProtocol, fmt.Sprintf(format, args...)}
}

// checkOps holds a commit against the store's limits and the key rules, before
// anything is touched. No error contains a key or a value.
func checkOps(ops []stream.Op, lim store.Limits) error {
	if len(ops) == 0 {
		return errors.New("a commit needs at least one op")
	}
	if len(ops) > lim.CommitOps {
		return &LimitError{"commit ops", len(ops), lim.CommitOps}
	}
	for i := range ops {
		if err := checkItem(ops[i].Key, ops[i].Value, lim); err != nil {
			return err
		}
	}
	if n := stream.Size(ops); n > lim.CommitBytes {
		return &LimitError{"commit bytes", n, lim.CommitBytes}
	}
	return nil
}

func checkItem(key, value []byte, lim store.Limits) error {
	if err := checkKey(key, lim); err != nil {
		return err
	}
	if len(value) > lim.Value {
		return &LimitError{"value", len(value), lim.Value}
	}
	return nil
}

// limitsOf returns what a master's store takes, or what a commit and a frame can
// carry if that is less.
func limitsOf(st store.Store) store.Limits {
	l := st.Limits().Logged()
	return store.Limits{
		Key:         min(l.Key, maxKey),
		Value:       min(l.Value, maxValue),
		CommitBytes: min(l.CommitBytes, stream.MaxCommitBytes),
		CommitOps:   min(l.CommitOps, stream.MaxOps),
	}
}

// What a replica takes of any store: a chunk of a repair and one item more are
// to fit a frame.
const (
	maxKey   = 65_000
	maxValue = 1 << 20
)

// reserved are the key prefixes that belong to sdiff and to Badger.
var reserved = [][]byte{[]byte("!sdiff!"), []byte("!badger!")}

func checkKey(key []byte, lim store.Limits) error {
	switch {
	case len(key) == 0:
		return fmt.Errorf("%w: it is empty", ErrKey)
	case len(key) > lim.Key:
		return &LimitError{"key", len(key), lim.Key}
	case slices.ContainsFunc(reserved, func(p []byte) bool { return len(key) >= len(p) && string(key[:len(p)]) == string(p) }):
		return fmt.Errorf("%w: keys that begin with !sdiff! or !badger! are reserved", ErrKey)
	}
	return nil
}
