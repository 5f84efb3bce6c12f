package badgerstore

import (
	"errors"
	"testing"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// TestNothingWaitsForABrokenDatabase shows that a database which could not write
// out a table takes no write and no trim any more, and that Close leaves it as it
// is, locked.
func TestNothingWaitsForABrokenDatabase(t *testing.T) {
	for _, what := range []string{"write", "trim"} {
		dir := t.TempDir()
		s, err := Open(dir, Options{NoSync: true, Memory: MinMemory})
		if err != nil {
			t.Fatal(err)
		}
		data := func() *store.Txn { return &store.Txn{Ops: []stream.Op{{Key: []byte("k"), Value: []byte("v")}}} }
		if err := s.Write(data()); err != nil {
			t.Fatal(err)
		}
		eio := errors.New("input/output error")
		s.broken.set(eio)
		if err := s.Room(); !errors.Is(err, store.ErrPoisoned) {
			t.Errorf("Room: %v", err)
		}
		if what == "write" {
			err = s.Write(data())
		} else {
			_, err = s.Trim(1)
		}
		if !errors.Is(err, eio) {
			t.Errorf("%s: %v, want the cause", what, err)
		}
		if err := s.Write(data()); !errors.Is(err, store.ErrPoisoned) {
			t.Errorf("the next write: %v", err)
		}
		if err := s.Close(); !errors.Is(err, eio) {
			t.Errorf("Close: %v, want the cause", err)
		}
		if again, err := Open(dir, Options{NoSync: true, Memory: MinMemory}); err == nil {
			again.Close()
			t.Error("it is open twice")
		}
		s.db.Close() // this one is not really broken, so it ends
		s.lock.release()
	}
}
