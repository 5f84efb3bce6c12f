package badgerstore

import (
	"errors"
	"testing"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// TestStartAfterOneThatFailed shows that nothing goes on over a transaction whose
// outcome is unknown: the next one ends with its error, and is not stored.
func TestStartAfterOneThatFailed(t *testing.T) {
	s, err := Open(t.TempDir(), Options{NoSync: true, Memory: MinMemory})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := func(key string) *store.Txn {
		return &store.Txn{Ops: []stream.Op{{Key: []byte(key), Value: []byte("v")}}}
	}
	if err := s.Write(data("a")); err != nil {
		t.Fatal(err)
	}
	s.flight = &flight{donec: make(chan struct{}), next: s.db.NewTransaction(true)}
	eio := errors.New("input/output error")
	go s.flight.end(eio)
	endc := make(chan error, 1)
	if err := s.Start(data("b"), endc); !errors.Is(err, eio) {
		t.Errorf("Start: %v, want the error of the one before", err)
	}
	if err := s.Start(data("c"), endc); !errors.Is(err, store.ErrPoisoned) {
		t.Errorf("the next Start: %v", err)
	}
	if err := s.Write(data("d")); !errors.Is(err, store.ErrPoisoned) {
		t.Errorf("Write: %v", err)
	}
	if len(endc) > 0 {
		t.Errorf("a transaction that did not start has ended: %v", <-endc)
	}
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := v.Ascend([]byte("b"), nil, func(key, _ []byte) bool { t.Errorf("the store holds %q", key); return true }); err != nil {
		t.Error(err)
	}
}

// TestCloseAfterOneThatFailed shows that Close knows that the last transaction that
// was started failed, and so does not wait for ever for the database.
func TestCloseAfterOneThatFailed(t *testing.T) {
	s, err := Open(t.TempDir(), Options{NoSync: true, Memory: MinMemory})
	if err != nil {
		t.Fatal(err)
	}
	s.flight = &flight{donec: make(chan struct{}), next: s.db.NewTransaction(true)}
	eio := errors.New("input/output error")
	s.flight.end(eio)
	s.Close()
	if !errors.Is(s.poisoned, eio) {
		t.Errorf("closed over %v, want the error of the transaction", s.poisoned)
	}
}

// TestStartPinsNothing shows that no transaction of Badger's, which would keep
// old versions, stays open when nothing is written any more.
func TestStartPinsNothing(t *testing.T) {
	s, err := Open(t.TempDir(), Options{NoSync: true, Memory: MinMemory})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 3 {
		endc := make(chan error, 1)
		if err := s.Start(&store.Txn{Ops: []stream.Op{{Key: []byte("k")}}}, endc); err != nil {
			t.Fatal(err)
		}
		if err := <-endc; err != nil {
			t.Fatal(err)
		}
	}
	<-s.flight.donec
	if s.flight.next != nil {
		t.Error("the transaction for the next write is open")
	}
}
