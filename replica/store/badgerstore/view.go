package badgerstore

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A view is a read-only Badger transaction.
type view struct {
	s     *Store
	txn   *badger.Txn
	done  bool
	depth int  // calls inside, one in the callback of another
	user  bool // a callback runs
}

// View returns a view of everything written so far. It waits for a commit that
// is under way.
func (s *Store) View() (store.View, error) {
	if err := s.gate.enter(); err != nil {
		return nil, err
	}
	defer s.gate.leave()
	v := &view{s: s, txn: s.db.NewTransaction(false)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.views[v] = struct{}{}
	return v, nil
}

// Close ends the view. It may be called again, and after Close of the store.
func (v *view) Close() {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	if _, open := v.s.views[v]; open {
		delete(v.s.views, v)
		v.discard()
	}
	v.done = true
}

// discard ends the transaction. Badger panics if an iterator could not be
// closed after damage was met; nothing is left to do then.
func (v *view) discard() {
	defer func() { _ = recover() }()
	v.txn.Discard()
}

// read calls fn, which reads from the transaction. It keeps Close of the store
// waiting meanwhile, and turns a panic of Badger's over damaged data into an
// error; a panic of a callback stays one.
func (v *view) read(fn func(txn *badger.Txn) error) (err error) {
	if v.done {
		return store.ErrClosed
	}
	if v.depth == 0 {
		if err := v.s.gate.enter(); err != nil {
			return err
		}
		defer v.s.gate.leave()
	}
	v.depth++
	outer := v.user
	v.user = false
	// A file that was cut short under its memory map would end the process.
	fault := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(fault)
		v.depth--
		callback := v.user // and then a panic is not Badger's
		v.user = outer
		if callback {
			return
		}
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: reading it: %v", store.ErrCorrupt, r)
		}
	}()
	err = fn(v.txn)
	if errors.Is(err, badger.ErrDBClosed) {
		return store.ErrClosed
	}
	return err
}

// call calls a user's callback.
func (v *view) call(fn func() bool) bool {
	outer := v.user
	v.user = true
	more := fn()
	v.user = outer
	return more
}

// An ExpiryError says that an item has a time to live, set by whoever wrote
// it to the database. Its going away would be a change that no commit tells
// of. It wraps store.ErrCorrupt.
type ExpiryError struct{ ExpiresAt uint64 } // seconds since 1970

// Error says when the item ends.
func (e *ExpiryError) Error() string {
	return fmt.Sprintf("an item has a time to live (until %d), set by another program: write it again without", e.ExpiresAt)
}

// value calls fn with the value of an item, valid during the call.
func (s *Store) value(item *badger.Item, fn func([]byte) error) error {
	if at := item.ExpiresAt(); at != 0 && !s.opt.AcceptTTL {
		return &ExpiryError{ExpiresAt: at}
	}
	return item.Value(fn)
}

// get returns a copy of the value of a key in the database.
func (s *Store) get(txn *badger.Txn, key []byte) (value []byte, err error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read the database: %w", cause(err))
	}
	err = s.value(item, func(b []byte) error {
		value = append(make([]byte, 0, len(b)), b...)
		return nil
	})
	return value, err
}

// cause strips what Badger wraps around an error of a read: it has the key in
// it.
func cause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

func (s *Store) readMeta(txn *badger.Txn) (store.Meta, error) {
	b, err := s.get(txn, s.keys.meta)
	if err != nil {
		return store.Meta{}, err
	}
	return store.ParseMeta(b)
}

func (v *view) Get(key []byte) (value []byte, err error) {
	if len(key) == 0 || store.Reserved(key) {
		return nil, store.ErrNotFound
	}
	err = v.read(func(txn *badger.Txn) error {
		full := key
		if len(v.s.keys.prefix) > 0 {
			full = append(append(make([]byte, 0, len(v.s.keys.prefix)+len(key)), v.s.keys.prefix...), key...)
		}
		value, err = v.s.get(txn, full)
		return err
	})
	return value, err
}

func (v *view) Meta() (m store.Meta, err error) {
	err = v.read(func(txn *badger.Txn) error {
		m, err = v.s.readMeta(txn)
		return err
	})
	return m, err
}

func (v *view) Record(name string) (value []byte, err error) {
	err = v.read(func(txn *badger.Txn) error {
		b, err := v.s.get(txn, v.s.keys.recordKey(name))
		if err == nil {
			value, err = parseRecord(b)
		}
		return err
	})
	return value, err
}

// scan calls fn for the items of the database whose keys begin with prefix,
// from key from on and below to unless that is nil, until it returns false.
func scan(txn *badger.Txn, prefix, from, to []byte, fn func(item *badger.Item) (more bool, err error)) error {
	opt := badger.DefaultIteratorOptions
	// Values are in the tables, next to the keys: fetching them ahead costs a
	// goroutine each and gains nothing.
	opt.PrefetchValues = false
	opt.Prefix = prefix
	it := txn.NewIterator(opt)
	defer it.Close()
	for it.Seek(from); it.Valid(); it.Next() {
		item := it.Item()
		if to != nil && bytes.Compare(item.Key(), to) >= 0 {
			return nil
		}
		if more, err := fn(item); !more || err != nil {
			return err
		}
	}
	return nil
}

func (v *view) Ascend(lo, hi []byte, fn func(key, value []byte) bool) error {
	prefix := v.s.keys.prefix
	from := append(bytes.Clone(prefix), lo...)
	to := merkle.PrefixEnd(prefix)
	if hi != nil {
		to = append(bytes.Clone(prefix), hi...)
	}
	ended := false
	each := func(item *badger.Item) (more bool, err error) {
		key := item.Key()[len(prefix):]
		err = v.s.value(item, func(value []byte) error {
			more = v.call(func() bool { return fn(key, value) })
			return nil
		})
		ended = !more
		return more, err
	}
	return v.read(func(txn *badger.Txn) error {
		if len(prefix) > 0 {
			return scan(txn, prefix, from, to, each)
		}
		// Our own keys are in the midst of the user's: go around them.
		before, after := []byte(own), merkle.PrefixEnd([]byte(own))
		if bytes.Compare(from, before) < 0 {
			end := before
			if to != nil && bytes.Compare(to, end) < 0 {
				end = to
			}
			if err := scan(txn, nil, from, end, each); err != nil || ended {
				return err
			}
		}
		if bytes.Compare(from, after) < 0 {
			from = after
		}
		if to != nil && bytes.Compare(from, to) >= 0 {
			return nil
		}
		return scan(txn, nil, from, to, each)
	})
}

func (v *view) Records(prefix string, fn func(name string, value []byte) bool) error {
	start := v.s.keys.recordKey(prefix)
	return v.read(func(txn *badger.Txn) error {
		return scan(txn, start, start, nil, func(item *badger.Item) (more bool, err error) {
			err = item.Value(func(b []byte) error {
				value, err := parseRecord(b)
				if err != nil {
					return err
				}
				name := string(item.Key()[len(v.s.keys.record):])
				more = v.call(func() bool { return fn(name, value) })
				return nil
			})
			return more, err
		})
	})
}

func (v *view) Log(from uint64, fn func(rec stream.Record) bool) error {
	k := &v.s.keys
	return v.read(func(txn *badger.Txn) error {
		start := v.startOfLog(txn, from)
		var j joiner
		err := scan(txn, k.log, k.logKey(start, 0), nil, func(item *badger.Item) (more bool, err error) {
			first, index, ok := k.parseLogKey(item.Key())
			if !ok {
				return false, fmt.Errorf("%w: a key of %d bytes in the log", store.ErrCorrupt, len(item.Key()))
			}
			var complete bool
			err = item.Value(func(b []byte) error {
				complete, err = j.add(first, index, b)
				return err
			})
			if err != nil || !complete || j.rec.Last < from {
				return err == nil, err
			}
			rec := j.rec
			return v.call(func() bool { return fn(rec) }), nil
		})
		if err != nil {
			return err
		}
		return j.end()
	})
}

// startOfLog returns the first offset of the newest record that does not begin
// after from, or from if there is none.
func (v *view) startOfLog(txn *badger.Txn, from uint64) uint64 {
	opt := badger.DefaultIteratorOptions
	opt.PrefetchValues = false
	opt.Reverse = true
	it := txn.NewIterator(opt)
	defer it.Close()
	it.Seek(v.s.keys.logKey(from, 1<<16-1))
	if !it.Valid() {
		return from
	}
	first, _, ok := v.s.keys.parseLogKey(it.Item().Key())
	if !ok {
		return from
	}
	return first
}
