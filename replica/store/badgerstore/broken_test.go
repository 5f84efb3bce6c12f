package badgerstore

import (
	"errors"
	"log/slog"
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

// TestOnlyErrorsOfMANIFESTBreakADatabase shows which of Badger's words end a
// store: the goroutine that says others goes on.
func TestOnlyErrorsOfMANIFESTBreakADatabase(t *testing.T) {
	const flush, merge = "error flushing memtable to disk: %v, retrying", "While running doCompact: %v\n"
	for _, c := range []struct {
		format, err string
		ends        bool
	}{
		{flush, "sync MANIFEST: input/output error", true},
		{flush, "error while creating table: too many open files", false},
		{merge, "sync MANIFEST: input/output error", true},
		{merge, "there is a non-empty level 2 above base level 3", false},
		{merge, "Filesizes cannot be zero", false},
		{"Block cache might be too small: %v", "input/output error", false},
	} {
		l := logger{slog.New(slog.DiscardHandler), newBreakage()}
		wentOn := make(chan struct{})
		go func() { // one that ends the store stays here
			l.Warningf(c.format, c.err)
			close(wentOn)
		}()
		ended := false
		select {
		case <-l.broken.broken():
			ended = true
		case <-wentOn:
		}
		if ended != c.ends || ended != (l.broken.failed() != nil) {
			t.Errorf("%q: it ended the store: %v", c.err, ended)
		}
	}
}
