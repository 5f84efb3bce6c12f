package badgerstore_test

import (
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/replica/store/storetest"
)

func TestOpen(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() store.Store {
		dir := t.TempDir()
		return func() store.Store {
			st, err := badgerstore.Open(dir, badgerstore.Options{NoSync: true})
			if err != nil {
				t.Fatalf("Open: %v", err)
			}
			return st
		}
	})
}

func TestNewInMemoryWithPrefix(t *testing.T) {
	for _, prefix := range []string{"", "\xff/"} {
		t.Run(prefix, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) func() store.Store {
				db, err := badger.Open(badger.DefaultOptions("").WithInMemory(true).WithLogger(nil))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { db.Close() })
				return func() store.Store {
					st, err := badgerstore.New(db, prefix, badgerstore.Options{})
					if err != nil {
						t.Fatalf("New: %v", err)
					}
					return st
				}
			})
		})
	}
}
