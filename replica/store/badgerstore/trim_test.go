package badgerstore_test

import (
	"bytes"
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
