package badgerstore

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

type countingFile struct{ syncs atomic.Int32 }

func (f *countingFile) Sync() error { f.syncs.Add(1); return nil }

// TestSyncer: HEAD is synced a second after it changed, not more often however
// often it changes, not at all while nothing does, and when the store ends.
func TestSyncer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f countingFile
		var s syncer
		s.start(&f, slog.New(slog.DiscardHandler))
		want := func(what string, n int32) {
			t.Helper()
			synctest.Wait()
			if got := f.syncs.Load(); got != n {
				t.Errorf("%s: %d syncs, want %d", what, got, n)
			}
		}
		time.Sleep(10 * time.Second)
		want("nothing changed", 0)
		for range 25 { // 2.5 s of changes
			s.changed()
			time.Sleep(100 * time.Millisecond)
		}
		want("many changes", 2)
		time.Sleep(time.Minute)
		want("the last of them", 3)
		s.changed()
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		want("the end", 4)
		s = syncer{}
		s.start(&f, slog.New(slog.DiscardHandler))
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		want("an end without changes", 4)
	})
}
