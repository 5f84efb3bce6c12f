package store

import (
	"errors"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/stream"
)

// A Store is what a replica needs from a database. Package storetest tests
// that an implementation keeps every promise made here.
//
// One goroutine calls Write, Start and Trim, never two at once; everything else is
// safe for concurrent use. After Close every method returns ErrClosed.
type Store interface {
	// Limits returns the largest things the store takes. They never change.
	Limits() Limits

	// Write applies the whole of a transaction atomically: data, log record,
	// records and meta are all there or none. With sync=always it is durable
	// when Write returns. The store sets tx.Meta.Seq to one more than the last
	// stored one. It keeps none of the slices.
	//
	// An error that wraps ErrRefused means that nothing was written and the
	// store is as it was. After any other error nobody knows, and the store is
	// not to be written again: every later Write returns ErrPoisoned.
	Write(tx *Txn) error

	// View returns a consistent view of everything written so far. The caller
	// closes it, within seconds: an open view pins old versions.
	View() (View, error)

	// Trim removes log records all of whose commits come before the offset,
	// oldest first and at most about a thousand a call. It reports whether
	// there are more. An error that wraps ErrCorrupt says that some cannot be
	// removed, and that the others were.
	Trim(before uint64) (more bool, err error)

	// Info describes the store for people.
	Info() Info

	// Close ends everything; a later Open finds all that was written.
	Close() error
}

// A View is a consistent, read-only state of a store. It is not safe for
// concurrent use.
type View interface {
	// Get returns the value of a key, or ErrNotFound. The slice is valid until
	// Close and must not be changed.
	Get(key []byte) ([]byte, error)

	// Ascend calls fn for every key from lo on, in byte order, up to but
	// without hi (nil: to the end), until fn returns false. The slices are
	// valid during the call only. An error means that keys may be missing.
	Ascend(lo, hi []byte, fn func(key, value []byte) bool) error

	// Meta returns what the last Write stored, or ErrNotFound before the first.
	Meta() (Meta, error)

	// Record returns a named record, or ErrNotFound. The slice is the caller's.
	Record(name string) ([]byte, error)

	// Records calls fn for every named record whose name starts with prefix,
	// in order, until fn returns false. The value is valid during the call.
	Records(prefix string, fn func(name string, value []byte) bool) error

	// Log calls fn for every log record in order, beginning with the one that
	// holds commit from or, where that is gone, with the oldest there is,
	// until fn returns false. The body is the callee's to keep. A log record
	// whose parts do not add up is an error that wraps ErrCorrupt.
	Log(from uint64, fn func(rec stream.Record) bool) error

	// Close ends the view.
	Close()
}

// Limits are the largest things a store takes. A commit's bytes are counted
// as stream.Size does.
type Limits struct {
	Key         int // bytes of a key
	Value       int // bytes of a value
	CommitBytes int // bytes of all ops of one Txn
	CommitOps   int // ops of one Txn
	// LoggedBytes is the same as CommitBytes for a Txn that has a log record. If
	// zero, it is CommitBytes.
	LoggedBytes int
}

// Logged returns the limits of a Txn that has a log record.
func (l Limits) Logged() Limits {
	if l.LoggedBytes > 0 {
		l.CommitBytes = min(l.CommitBytes, l.LoggedBytes)
	}
	return l
}

// A Txn is what one Write stores.
type Txn struct {
	Ops     []stream.Op    // data; where a key occurs twice the later op wins
	Log     *stream.Record // appended to the log, or nil
	Records []Record       // named records to put or remove
	Meta    Meta           // replaces the stored meta; Seq is set by Write
}

// A Record is a small named value of the replica's own, beside the data. Names
// are printable ASCII of at most 255 bytes; values at most 512 KiB.
type Record struct {
	Name  string
	Value []byte // nil removes the record
}

// A Role says what a store is the store of.
type Role uint8

// The roles. The numbers are stored; only append.
const (
	Master   Role = 1
	Follower Role = 2
)

// String returns "master" or "follower".
func (r Role) String() string {
	switch r {
	case Master:
		return "master"
	case Follower:
		return "follower"
	}
	return "unknown role"
}

// Meta is what a replica knows of itself, stored in the same transaction as
// the data it describes. AppendMeta and ParseMeta are its encoding.
type Meta struct {
	// Seq counts the store's transactions, repair chunks included.
	Seq uint64

	Dataset stream.ID
	Role    Role
	Hash    string // the item hash's merkle.Hasher.ID

	// Position is the newest commit applied, with the fingerprint it carried.
	Position stream.Position
	// Summary is that of the data in the store. It differs from the position's
	// fingerprint while the copy drifts.
	Summary merkle.Summary

	// LogStart is the position just before the oldest commit that the log must
	// hold; the log may still hold older ones, which are not to be used.
	LogStart stream.Position
	// LogBytes is about how many bytes of log records there are from LogStart on.
	LogBytes uint64
	// History holds the last position of every earlier epoch, oldest first.
	History []stream.Position

	// Complete says that the base is complete: a repair has been verified
	// since the copy began, and nothing has put it in doubt since.
	Complete bool
	// Verified is the count at the last verified state, Deleted what repairs
	// have deleted since.
	Verified, Deleted uint64

	// Sync is true if every transaction so far was durable when acknowledged.
	Sync bool
	// Clean is true in the last transaction of a clean shutdown only.
	Clean bool
}

// A Head is what a store remembers of its newest transaction outside of the
// database, so that a database that lost its end does not pass for an older,
// healthy one.
type Head struct {
	Seq      uint64
	Position stream.Position
	Summary  merkle.Summary
}

// Info describes a store for people and for the checks at open.
type Info struct {
	// Path is the directory, or a word such as "memory".
	Path string
	// Size is about how many bytes it takes, Free how many the file system
	// still has; -1 if that means nothing.
	Size, Free int64
	// Sync says that a Write is durable when it returns.
	Sync bool
	// Head is the head found at open, before the first Write; nil if there was
	// none, as in a new store or one in memory.
	Head *Head
	// Notes are sentences about what was found and mended at open.
	Notes []string
}

var (
	// ErrNotFound is returned for a key or record that is not there.
	ErrNotFound = errors.New("not found")
	// ErrClosed is returned by everything after Close.
	ErrClosed = errors.New("store is closed")
	// ErrRefused is wrapped by errors of a Write that changed nothing.
	ErrRefused = errors.New("refused")
	// ErrPoisoned is returned by a Write after one whose outcome is unknown.
	ErrPoisoned = errors.New("an earlier write failed and its outcome is unknown; restart to find out")
	// ErrCorrupt is wrapped by errors that mean damaged data. It is never used
	// for data that is merely absent.
	ErrCorrupt = errors.New("store is damaged")
)
