package badgerstore

import (
	"sync"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/replica/store"
)

// A flight is a commit under way.
type flight struct {
	donec chan struct{} // closed after err is set
	err   error

	mu sync.Mutex
	// next is for the transaction after it. Badger gives out none while one is
	// committed, so that what is read in it is all there; ours reads nothing, and
	// is to be filled meanwhile. An open one pins old versions: it goes when the
	// commit has ended, from when on there is no waiting.
	next *badger.Txn
}

// take returns the next transaction, or nil if there is none any more.
func (f *flight) take() *badger.Txn {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.next
	f.next = nil
	return next
}

// end says how the commit has ended.
func (f *flight) end(err error) {
	if next := f.take(); next != nil {
		next.Discard()
	}
	f.err = err
	close(f.donec)
}

// Start fills a Badger transaction while the one before is committed, waits for
// that, and leaves its own to Badger. A database that others write to, and the
// first transaction of a dataset, take Write.
func (s *Store) Start(tx *store.Txn, endc chan<- error) error {
	if !s.owned || s.seq == 0 {
		err := s.Write(tx)
		if err == nil {
			endc <- nil
		}
		return err
	}
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	txn, err := s.prepare(tx)
	if err2 := s.settle(); err2 != nil {
		err = err2
	}
	if err != nil {
		if txn != nil {
			txn.Discard()
		}
		return err
	}
	s.launch(txn, tx, endc)
	s.sent(tx)
	return nil
}

// prepare returns a Badger transaction that holds all of tx.
func (s *Store) prepare(tx *store.Txn) (txn *badger.Txn, err error) {
	if err := s.admit(tx); err != nil {
		return nil, err
	}
	if s.flight != nil {
		txn = s.flight.take()
	}
	if txn == nil {
		txn = s.db.NewTransaction(true)
	}
	tx.Meta.Seq = s.seq + 1
	if err := s.fill(txn, tx); err != nil {
		return txn, refuse(err)
	}
	return txn, nil
}

// launch leaves a transaction to Badger. Nothing else is on its way.
func (s *Store) launch(txn *badger.Txn, tx *store.Txn, endc chan<- error) {
	f := &flight{donec: make(chan struct{}), next: s.db.NewTransaction(true)}
	head := headOf(tx)
	donec := make(chan error, 1)
	txn.CommitWith(func(err error) { donec <- err })
	s.flight = f
	s.seq++
	go func() {
		err := s.committed(donec)
		if err == nil {
			s.stored(head)
		} else {
			err = s.lost("commit", err)
		}
		endc <- err
		f.end(err)
	}()
}

// settle waits for the transaction that was started last.
func (s *Store) settle() error {
	if s.flight == nil {
		return nil
	}
	<-s.flight.donec
	err := s.flight.err
	s.flight = nil
	if err != nil {
		s.poisoned = err
	}
	return err
}
