package badgerstore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// TestDefaultReserve shows that a small volume is not all reserve.
func TestDefaultReserve(t *testing.T) {
	for _, test := range []struct{ volume, want int64 }{
		{-1, DefaultReserve}, // cannot be told
		{1 << 40, DefaultReserve},
		{10 * DefaultReserve, DefaultReserve},
		{1 << 30, 1 << 30 / 10},
		{48 << 20, 48 << 20 / 10},
	} {
		if got := defaultReserve(test.volume); got != test.want {
			t.Errorf("defaultReserve(%d) = %d, want %d", test.volume, got, test.want)
		}
	}
}

// TestDirectoryMovedAway shows that nothing is written where nobody would find
// it: maps and open files of a directory that is gone take writes as ever.
func TestDirectoryMovedAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	s, err := Open(dir, Options{NoSync: true, Memory: MinMemory})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := func() *store.Txn { return &store.Txn{Ops: []stream.Op{{Key: []byte("k"), Value: []byte("v")}}} }
	if err := s.Write(data()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	s.space.at = time.Time{} // as if it were a moment later
	for what, err := range map[string]error{
		"data": s.Write(data()), "meta": s.Write(&store.Txn{}), "Room": s.Room(), "closing": s.space.toClose(),
	} {
		if !errors.Is(err, store.ErrNotWritable) || !errors.Is(err, store.ErrRefused) {
			t.Errorf("%s: %v, want ErrNotWritable", what, err)
		}
	}
	if _, err := s.Trim(1); !errors.Is(err, store.ErrNotWritable) {
		t.Errorf("Trim: %v, want ErrNotWritable", err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"data": s.Write(data()), "meta": s.Write(&store.Txn{}), "Room": s.Room()} {
		if err != nil {
			t.Errorf("%s, with the directory back: %v", what, err)
		}
	}
}
