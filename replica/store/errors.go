package store

import "fmt"

// ErrNoSpace is wrapped by the errors of writes that are refused because the
// disk is nearly full. It wraps ErrRefused. Reads go on, and writes are taken
// again once there is space.
var ErrNoSpace = fmt.Errorf("%w: the disk is nearly full", ErrRefused)

// ErrNotWritable is wrapped by the errors of writes that are refused because
// there is nothing to write to any more: the file system has become read-only,
// or the database was removed. It wraps ErrRefused. Reads go on as far as they
// can.
var ErrNotWritable = fmt.Errorf("%w: the disk takes no writes", ErrRefused)

// A Roomer is a Store that can tell whether it takes writes of data before it
// is given one. Room returns nil, or an error that wraps ErrNoSpace or
// ErrNotWritable. Like Write it is for the goroutine that writes.
type Roomer interface {
	Room() error
}

// Room asks a store whether it takes writes of data, as far as it can tell.
func Room(st Store) error {
	if r, ok := st.(Roomer); ok {
		return r.Room()
	}
	return nil
}

// A Starter is a Store that can store one transaction while the next is prepared.
type Starter interface {
	// Start is a Write that does not wait for its own end, but for that of the
	// one started before. If it returns nil, endc, which has room, gets what
	// Write would have returned; until then the transaction's slices are not to
	// be changed. No such error wraps ErrRefused: what can be refused Start has
	// refused. One that was started before and fails fails this one, too.
	// A View that is asked for later has what was started.
	Start(tx *Txn, endc chan<- error) error
}

// Start starts a transaction, or writes it where the store knows no better.
func Start(st Store, tx *Txn, endc chan<- error) error {
	if s, ok := st.(Starter); ok {
		return s.Start(tx, endc)
	}
	err := st.Write(tx)
	if err == nil {
		endc <- nil
	}
	return err
}

// A LimitError says that something is larger than the store takes. It never
// holds the thing itself. It wraps ErrRefused.
type LimitError struct {
	What string // "key", "value", "commit bytes", "commit ops", "log record", "record", "records", "history" …
	Got  int
	Max  int
}

// Error returns what was too large, and the limit.
func (e *LimitError) Error() string {
	if e.Max == 0 {
		return e.What + " is over the store's limit"
	}
	return fmt.Sprintf("%s of %d is over the store's limit of %d", e.What, e.Got, e.Max)
}

// Unwrap returns ErrRefused.
func (e *LimitError) Unwrap() error { return ErrRefused }

// A KeyError says that a key, or the name of a record, is one that no store
// takes. It never holds the key itself. It wraps ErrRefused.
type KeyError struct {
	Why string // "the key is empty", …
}

// Error returns why the key was refused.
func (e *KeyError) Error() string { return e.Why }

// Unwrap returns ErrRefused.
func (e *KeyError) Unwrap() error { return ErrRefused }
