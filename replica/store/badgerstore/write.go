package badgerstore

import (
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/replica/store"
)

// Write stores a transaction in one Badger transaction.
func (s *Store) Write(tx *store.Txn) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	if err := s.settle(); err != nil {
		return err
	}
	if err := s.admit(tx); err != nil {
		return err
	}
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	if err := s.begin(txn); err != nil {
		return err
	}
	tx.Meta.Seq = s.seq + 1
	if err := s.fill(txn, tx); err != nil {
		return refuse(err)
	}
	if err := s.commit(txn); err != nil {
		return s.poison("commit", err)
	}
	if s.seq == 0 && !s.sync {
		// Who does not sync may lose what was written, but not which dataset it
		// is: or an empty one under a new name is taken for the master of old.
		// Nothing has been rotated yet, so this syncs all there is.
		if err := s.db.Sync(); err != nil {
			return s.poison("sync the first transaction", err)
		}
	}
	s.seq++
	s.stored(headOf(tx))
	s.sent(tx)
	return nil
}

// admit returns an error if a transaction is not to be written.
func (s *Store) admit(tx *store.Txn) error {
	if s.poisoned != nil {
		return s.closedToWrites()
	}
	if err := s.broken.failed(); err != nil {
		return s.poison("write", err)
	}
	if err := s.limits.Check(tx); err != nil {
		return err
	}
	// What carries no data is small and goes through as long as anything may:
	// trimming, which makes room, begins with it.
	if len(tx.Ops) == 0 && tx.Log == nil {
		return s.space.floor()
	}
	return s.space.check(cost(tx))
}

// sent does what is to be done once a transaction cannot be refused any more.
func (s *Store) sent(tx *store.Txn) {
	if tx.Log != nil {
		s.trimmed = min(s.trimmed, tx.Log.First)
	}
	s.space.lookAhead()
}

// commit commits a transaction.
func (s *Store) commit(txn *badger.Txn) error {
	if s.broken == nil {
		return txn.Commit()
	}
	donec := make(chan error, 1)
	txn.CommitWith(func(err error) { donec <- err })
	return s.committed(donec)
}

// committed waits for a commit. It does not wait for ever for a database that is
// broken, in which nothing may go on. What still can has the time for it: until
// then Badger reads the caller's slices.
func (s *Store) committed(donec <-chan error) error {
	select {
	case err := <-donec:
		return err
	case <-s.broken.broken():
	}
	select {
	case err := <-donec:
		return err
	case <-time.After(poisonedClose):
		return s.broken.err
	}
}

// Room tells whether a write of data would be taken now.
func (s *Store) Room() error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	if err := s.settle(); err != nil {
		return err
	}
	if s.poisoned != nil {
		return s.closedToWrites()
	}
	if s.broken.failed() != nil {
		return store.ErrPoisoned
	}
	return s.space.check(0)
}

// closedToWrites says why nothing may be written.
func (s *Store) closedToWrites() error {
	if s.readOnly {
		return s.poisoned
	}
	return store.ErrPoisoned
}

// poison ends writing: what is stored cannot be known any more.
func (s *Store) poison(doing string, err error) error {
	s.poisoned = err
	return s.lost(doing, err)
}

// lost logs a write whose outcome is unknown.
func (s *Store) lost(doing string, err error) error {
	s.log.Error("a write failed, its outcome is unknown", "doing", doing, "error", err)
	return fmt.Errorf("%s: %w", doing, err)
}

// cost is about how many bytes a transaction adds to the disk, before they are
// written again by compaction.
func cost(tx *store.Txn) int64 {
	n := 0
	for i := range tx.Ops {
		n += len(tx.Ops[i].Key) + len(tx.Ops[i].Value) + 32
	}
	if tx.Log != nil {
		n += len(tx.Log.Body)
	}
	return int64(n)
}

// begin checks what only a transaction can tell. The first one of a dataset
// looks again for overlapping ones, which may have come since. Where others
// have the handle too, the sequence must be as we left it, or there are two
// writers.
func (s *Store) begin(txn *badger.Txn) error {
	if s.owned && s.seq > 0 {
		return nil
	}
	if s.seq == 0 {
		if err := s.keys.checkOverlap(txn); err != nil {
			return err
		}
	}
	m, err := s.readMeta(txn)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return s.poison("read the meta", err)
	}
	if m.Seq != s.seq {
		return s.poison("check the sequence", fmt.Errorf("the last transaction has sequence %d, not %d: someone else writes to this dataset", m.Seq, s.seq))
	}
	return nil
}

// fill puts all that tx holds into a Badger transaction.
func (s *Store) fill(txn *badger.Txn, tx *store.Txn) error {
	if err := s.fillOps(txn, tx); err != nil {
		return err
	}
	if tx.Log != nil {
		for i := range partsOf(len(tx.Log.Body)) {
			p := split(tx.Log, i)
			value := appendPart(make([]byte, 0, partHeader+len(p.data)), p)
			if err := txn.Set(s.keys.logKey(p.first, i), value); err != nil {
				return err
			}
		}
	}
	for i := range tx.Records {
		r := &tx.Records[i]
		key := s.keys.recordKey(r.Name)
		var err error
		if r.Value == nil {
			err = txn.Delete(key)
		} else {
			err = txn.Set(key, appendRecord(nil, r.Value))
		}
		if err != nil {
			return err
		}
	}
	return txn.Set(s.keys.meta, store.AppendMeta(nil, tx.Meta))
}

// fillOps puts the data into a Badger transaction, which until it ends holds on
// to keys and values: a caller's may do, as Write returns after that.
func (s *Store) fillOps(txn *badger.Txn, tx *store.Txn) error {
	entries := make([]badger.Entry, len(tx.Ops))
	var keys []byte // of all ops, with their prefixes
	if p := len(s.keys.prefix); p > 0 {
		n := 0
		for i := range tx.Ops {
			n += p + len(tx.Ops[i].Key)
		}
		keys = make([]byte, 0, n)
	}
	for i := range tx.Ops {
		op := &tx.Ops[i]
		key := op.Key
		if len(s.keys.prefix) > 0 {
			at := len(keys)
			keys = append(append(keys, s.keys.prefix...), key...)
			key = keys[at:len(keys):len(keys)]
		}
		var err error
		if op.Delete {
			err = txn.Delete(key)
		} else {
			entries[i].Key, entries[i].Value = key, op.Value
			err = txn.SetEntry(&entries[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refuse turns an error of a Badger transaction that has not been committed
// into one that wraps ErrRefused. Badger's own text is not passed on: for some
// errors it holds a dump of the key or value.
func refuse(err error) error {
	switch {
	case errors.Is(err, badger.ErrTxnTooBig):
		return &store.LimitError{What: "transaction"}
	case errors.Is(err, badger.ErrBannedKey):
		return fmt.Errorf("%w: %w", store.ErrRefused, badger.ErrBannedKey)
	case errors.Is(err, badger.ErrDBClosed):
		return store.ErrClosed
	}
	return fmt.Errorf("%w by the database", store.ErrRefused)
}

// headOf returns what HEAD is to say of a transaction.
func headOf(tx *store.Txn) store.Head {
	return store.Head{Seq: tx.Meta.Seq, Position: tx.Meta.Position, Summary: tx.Meta.Summary}
}

// stored writes HEAD after a transaction. That it fails is logged and no more:
// HEAD then tells of an older state, which is normal.
func (s *Store) stored(h store.Head) {
	if s.head == nil {
		return
	}
	if err := s.head.write(h); err != nil {
		s.log.Error("writing HEAD", "error", err)
		return
	}
	s.syncer.changed()
}

// appendRecord appends a named record as it is stored: its CRC-32C, four bytes,
// big-endian, and the value.
func appendRecord(b, value []byte) []byte {
	sum := crc32.Checksum(value, castagnoli)
	b = append(b, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
	return append(b, value...)
}

// parseRecord returns the value of a named record, a part of b.
func parseRecord(b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: a named record of %d bytes", store.ErrCorrupt, len(b))
	}
	sum := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	if crc32.Checksum(b[4:], castagnoli) != sum {
		return nil, fmt.Errorf("%w: the checksum of a named record does not match", store.ErrCorrupt)
	}
	return b[4:], nil
}
