package badgerstore_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/stream"
)

// A log record that is damaged is trimmed like any other, or the log would
// grow for ever behind it.
func TestTrimOverDamage(t *testing.T) {
	db := memoryDB(t)
	st, err := badgerstore.New(db, "")
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 5; i++ {
		if err := st.Write(&store.Txn{Log: &stream.Record{First: i, Last: i, Body: []byte("body")}}); err != nil {
			t.Fatal(err)
		}
	}
	damaged := 0
	err = db.Update(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if key := it.Item().KeyCopy(nil); bytes.Contains(key, []byte("/l/\x00\x00\x00\x00\x00\x00\x00\x02")) {
				damaged++
				return txn.Set(key, []byte("damage"))
			}
		}
		return nil
	})
	if err != nil || damaged != 1 {
		t.Fatalf("damaged %d records, %v", damaged, err)
	}
	if more, err := st.Trim(4); more || err != nil {
		t.Fatalf("Trim = %v, %v", more, err)
	}
	v, err := st.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var left []uint64
	if err := v.Log(0, func(rec stream.Record) bool {
		left = append(left, rec.First)
		return true
	}); err != nil || len(left) != 2 || left[0] != 4 {
		t.Errorf("the log begins %v, %v, want it to begin with 4", left, err)
	}
}

// A log whose table cannot be read by Badger, which panics over it, ended the
// process when it was trimmed. What can be read is trimmed all the same.
func TestTrimOverDamageThatPanics(t *testing.T) {
	dir := t.TempDir()
	opt := badgerstore.Options{NoSync: true}
	st := mustOpen(t, dir, opt)
	write := func(from, to uint64) {
		t.Helper()
		for i := from; i <= to; i++ {
			if err := st.Write(&store.Txn{Log: &stream.Record{First: i, Last: i, Body: bytes.Repeat([]byte{byte(i)}, 300)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(1, 100)
	closeStore(t, st) // in a table now
	st = mustOpen(t, dir, opt)
	defer st.Close()
	write(101, 200)
	tables := files(t, dir, ".sst")
	for _, path := range tables {
		noise := func(f *os.File, _ int64) error {
			_, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 1000), 20)
			return err
		}
		if err := damageFile(path, noise); err != nil {
			t.Fatal(err)
		}
	}
	more, err := true, error(nil)
	told := false
	for n := 0; more; n++ {
		if more, err = st.Trim(151); err != nil && !errors.Is(err, store.ErrCorrupt) || n > 10 {
			t.Fatalf("Trim = %v, %v", more, err)
		}
		told = told || err != nil
	}
	if len(tables) == 0 || !told {
		t.Fatalf("%d tables were damaged, and Trim said %v: this test tells nothing", len(tables), err)
	}
	if more, err := st.Trim(151); more || err != nil {
		t.Errorf("and again: %v, %v", more, err)
	}
	v, err := st.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	first := uint64(0)
	err = v.Log(151, func(rec stream.Record) bool {
		if first == 0 {
			first = rec.First
		}
		return true
	})
	if first != 151 {
		t.Errorf("the log begins with %d, %v, want it to begin with 151", first, err)
	}
}
