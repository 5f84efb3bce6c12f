package badgerstore

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/replica/store"
)

// trimKeys is the most keys that one Trim removes.
const trimKeys = 1000

// Trim removes old log records. It passes over keys that cannot be read, and
// says so once it has removed the others.
func (s *Store) Trim(before uint64) (more bool, err error) {
	if err := s.gate.enter(); err != nil {
		return false, err
	}
	defer s.gate.leave()
	if err := s.settle(); err != nil {
		return false, err
	}
	if s.poisoned != nil {
		return false, s.closedToWrites()
	}
	if err := s.broken.failed(); err != nil {
		return false, s.poison("trim the log", err)
	}
	if err := s.space.floor(); err != nil {
		return false, err
	}
	old, damage, err := s.oldLog(before)
	if err != nil {
		return false, err
	}
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	for _, key := range old.keys {
		if err := txn.Delete(key); err != nil {
			return false, refuse(err)
		}
	}
	if err := s.commit(txn); err != nil {
		return false, s.poison("trim the log", err)
	}
	s.trimmed = old.end
	return old.more, damage
}

// oldLog is what a Trim removes.
type oldLog struct {
	keys [][]byte // of the parts
	end  uint64   // the offset before which no record is left that can be read
	more bool     // there are more than one Trim removes
	at   uint64   // offset of the key that was looked at last
}

// oldLog looks for what ends before an offset. Over damage that Badger cannot
// read past, it tries ever further on: damage is what it met last of that, nil
// if all could be read.
func (s *Store) oldLog(before uint64) (old oldLog, damage, err error) {
	old = oldLog{end: s.trimmed, at: s.trimmed}
	for step := uint64(1); ; step *= 2 {
		from := old.at
		err := s.walkOldLog(&old, before)
		if err == nil || !errors.Is(err, store.ErrCorrupt) {
			return old, damage, err
		}
		damage = fmt.Errorf("some of the old log cannot be removed: %w", err)
		if old.at > from {
			step = 1
		}
		if old.at >= before || before-old.at <= step {
			old.end = before
			return old, damage, nil
		}
		old.at += step
	}
}

// walkOldLog goes on from where old is. Deleted keys stay in the way of an
// iterator for a while, so it begins after them.
func (s *Store) walkOldLog(old *oldLog, before uint64) error {
	v, err := s.View()
	if err != nil {
		return err
	}
	defer v.Close()
	opt := badger.DefaultIteratorOptions
	opt.PrefetchValues = false
	opt.Prefix = s.keys.log
	return v.(*view).read(func(txn *badger.Txn) error {
		it := txn.NewIterator(opt)
		defer it.Close()
		for it.Seek(s.keys.logKey(old.at, 0)); it.Valid(); it.Next() {
			item := it.Item()
			first, index, ok := s.keys.parseLogKey(item.Key())
			if !ok {
				continue
			}
			old.at = max(old.at, first)
			if index == 0 {
				last := lastOf(item, first)
				if last >= before {
					return nil
				}
				if len(old.keys) >= trimKeys {
					old.more = true
					return nil
				}
				old.end = max(old.end, last+1)
			} else if first >= before {
				// Parts without their first: damage, but not ours to judge here.
				return nil
			}
			old.keys = append(old.keys, item.KeyCopy(nil))
		}
		return nil
	})
}

// lastOf returns the last offset of the record whose first part an item is. Of a
// damaged one, which is of no use, no more is known than the first.
func lastOf(item *badger.Item, first uint64) uint64 {
	last := first
	_ = item.Value(func(b []byte) error {
		if p, err := parsePart(b); err == nil {
			last = p.last
		}
		return nil
	})
	return last
}
