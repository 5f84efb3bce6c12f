package badgerstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/stream"
)

func openDB(t testing.TB, opt badger.Options) *badger.DB {
	t.Helper()
	db, err := badger.Open(opt.WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func memoryDB(t testing.TB) *badger.DB {
	return openDB(t, badger.DefaultOptions("").WithInMemory(true))
}

func setItems(t testing.TB, db *badger.DB, items ...string) {
	t.Helper()
	err := db.Update(func(txn *badger.Txn) error {
		for _, it := range items {
			key, value, _ := strings.Cut(it, "=")
			if err := txn.Set([]byte(key), []byte(value)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func items(t testing.TB, st store.Store) (got []string) {
	t.Helper()
	v, err := st.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := v.Ascend(nil, nil, func(key, value []byte) bool {
		got = append(got, string(key)+"="+string(value))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

func put(key, value string) *store.Txn {
	return &store.Txn{Ops: []stream.Op{{Key: []byte(key), Value: []byte(value)}}}
}

// TestNewRefusesHandles offers databases that cannot keep a store's promises.
func TestNewRefusesHandles(t *testing.T) {
	for _, c := range []struct {
		name   string
		opt    func(badger.Options) badger.Options
		accept badgerstore.Options // with which it is taken
		word   string
	}{
		{"no sync", func(o badger.Options) badger.Options { return o.WithSyncWrites(false) }, badgerstore.Options{AcceptNoSync: true}, "SyncWrites"},
		{"value log", func(o badger.Options) badger.Options { return o.WithValueThreshold(1 << 10) }, badgerstore.Options{AcceptValueLog: true}, "ValueThreshold"},
		{"moving threshold", func(o badger.Options) badger.Options { return o.WithVLogPercentile(0.9) }, badgerstore.Options{AcceptValueLog: true}, "VLogPercentile"},
		{"block checks", func(o badger.Options) badger.Options { return o.WithChecksumVerificationMode(options.OnBlockRead) }, badgerstore.Options{AcceptBlockRead: true}, "OnTableRead"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			db := openDB(t, c.opt(badger.DefaultOptions(dir).WithSyncWrites(true)))
			_, err := badgerstore.New(db, "", badgerstore.Options{})
			if e, ok := errors.AsType[*badgerstore.HandleError](err); !ok || !strings.Contains(e.Error(), c.word) || !errors.Is(err, store.ErrRefused) {
				t.Fatalf("New: %v, want a HandleError about %s", err, c.word)
			}
			st, err := badgerstore.New(db, "", c.accept)
			if err != nil {
				t.Fatalf("New with the option that accepts it: %v", err)
			}
			if err := st.Write(put("a", "1")); err != nil {
				t.Fatal(err)
			}
			if got := st.Info().Sync; got != (c.name != "no sync") {
				t.Errorf("Info().Sync = %v", got)
			}
			closeStore(t, st)
		})
	}
	t.Run("small transactions", func(t *testing.T) {
		db := openDB(t, badger.DefaultOptions("").WithInMemory(true).WithMemTableSize(8<<20))
		_, err := badgerstore.New(db, "", badgerstore.Options{})
		if _, ok := errors.AsType[*badgerstore.HandleError](err); !ok || !strings.Contains(err.Error(), "MemTableSize") {
			t.Errorf("New: %v, want a HandleError", err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		db := memoryDB(t)
		db.Close()
		if _, err := badgerstore.New(db, "", badgerstore.Options{}); !errors.Is(err, store.ErrClosed) {
			t.Errorf("New: %v, want ErrClosed", err)
		}
	})
	t.Run("managed", func(t *testing.T) {
		db, err := badger.OpenManaged(badger.DefaultOptions("").WithInMemory(true).WithLogger(nil))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		_, err = badgerstore.New(db, "", badgerstore.Options{})
		if _, ok := errors.AsType[*badgerstore.HandleError](err); !ok {
			t.Errorf("New: %v, want a HandleError", err)
		}
	})
}

// TestSmallerLimits takes a database in which a full commit does not fit, and
// sees that what the limits say does fit.
func TestSmallerLimits(t *testing.T) {
	db := openDB(t, badger.DefaultOptions("").WithInMemory(true).WithMemTableSize(30<<20))
	prefix := strings.Repeat("p", 20)
	st, err := badgerstore.New(db, prefix, badgerstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, st)
	l := st.Limits().Logged()
	if l.CommitBytes >= stream.MaxCommitBytes || l.CommitOps >= stream.MaxOps || l.Key != 65000-20 {
		t.Fatalf("Limits() = %+v, want smaller ones", l)
	}
	tx := &store.Txn{Log: &stream.Record{First: 1, Last: 1, Body: make([]byte, l.CommitBytes)}}
	for i := range l.CommitOps {
		tx.Ops = append(tx.Ops, stream.Op{Key: fmt.Appendf(nil, "%08d", i), Value: make([]byte, l.CommitBytes/l.CommitOps-24)})
	}
	if err := st.Write(tx); err != nil {
		t.Errorf("a commit at the limits: %v", err)
	}
}

// TestPrefixes keeps datasets side by side in one database, next to what is in
// there anyway.
func TestPrefixes(t *testing.T) {
	db := memoryDB(t)
	setItems(t, db, "a/1=x", "a=between", "b/1=y", "c=z")
	open := func(prefix string) (store.Store, error) { return badgerstore.New(db, prefix, badgerstore.Options{}) }
	a, err := open("a/")
	if err != nil {
		t.Fatal(err)
	}
	b, err := open("b/")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(items(t, a), items(t, b)); got != "[1=x] [1=y]" {
		t.Errorf("items found: %s", got)
	}
	// Until something is written nothing is taken.
	all, err := open("")
	if err != nil {
		t.Fatalf("New over datasets that do not exist yet: %v", err)
	}
	for _, st := range []store.Store{a, b} {
		if err := st.Write(put("2", "new")); err != nil {
			t.Fatal(err)
		}
	}
	if err := all.Write(put("q", "")); !isOverlap(err) {
		t.Errorf("first write to a prefix that others lie under: %v", err)
	}
	for _, prefix := range []string{"", "a", "a/1", "b", "b/x"} {
		if _, err := open(prefix); !isOverlap(err) {
			t.Errorf("New with prefix %q: %v, want an OverlapError", prefix, err)
		}
	}
	for _, prefix := range []string{"aa", "a0", "c", "a-/", "a%2F"} {
		if _, err := open(prefix); err != nil {
			t.Errorf("New with prefix %q: %v", prefix, err)
		}
	}
	for _, prefix := range []string{"!", "!sdi", "!sdiff!", "!sdiff!/x", "!badger!", strings.Repeat("x", 257)} {
		if _, err := open(prefix); err == nil || isOverlap(err) {
			t.Errorf("New with prefix %.20q: %v, want an error", prefix, err)
		}
	}
	if got := fmt.Sprint(items(t, a), items(t, b)); got != "[1=x 2=new] [1=y 2=new]" {
		t.Errorf("items after writing: %s", got)
	}
	err = db.View(func(txn *badger.Txn) error {
		_, err := txn.Get([]byte("a/2")) // readable by any Badger program
		return err
	})
	if err != nil {
		t.Errorf("item a/2 of the database: %v", err)
	}
}

func isOverlap(err error) bool {
	_, ok := errors.AsType[*badgerstore.OverlapError](err)
	return ok && errors.Is(err, store.ErrRefused)
}

// TestSecondWriter opens one dataset twice on one handle: the second writer is
// noticed before it does harm.
func TestSecondWriter(t *testing.T) {
	db := memoryDB(t)
	a, _ := badgerstore.New(db, "", badgerstore.Options{})
	b, err := badgerstore.New(db, "", badgerstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Write(put("a", "1")); err != nil {
		t.Fatal(err)
	}
	err = b.Write(put("b", "1"))
	if err == nil || !strings.Contains(err.Error(), "someone else") {
		t.Errorf("Write of the second writer: %v", err)
	}
	if err := b.Write(put("b", "1")); !errors.Is(err, store.ErrPoisoned) {
		t.Errorf("its next Write: %v, want ErrPoisoned", err)
	}
	if err := a.Write(put("c", "1")); err != nil {
		t.Errorf("Write of the first writer: %v", err)
	}
	if got := fmt.Sprint(items(t, a)); got != "[a=1 c=1]" {
		t.Errorf("items: %s", got)
	}
}

// TestTimeToLive meets an item that will go away by itself.
func TestTimeToLive(t *testing.T) {
	db := memoryDB(t)
	err := db.Update(func(txn *badger.Txn) error {
		return txn.SetEntry(badger.NewEntry([]byte("a"), []byte("1")).WithTTL(time.Hour))
	})
	if err != nil {
		t.Fatal(err)
	}
	st, err := badgerstore.New(db, "", badgerstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	v, _ := st.View()
	defer v.Close()
	_, gerr := v.Get([]byte("a"))
	aerr := v.Ascend(nil, nil, func(_, _ []byte) bool { t.Error("the item was handed out"); return true })
	for _, err := range []error{gerr, aerr} {
		if _, ok := errors.AsType[*badgerstore.ExpiryError](err); !ok {
			t.Errorf("reading it: %v, want an ExpiryError", err)
		}
	}
	lax, err := badgerstore.New(db, "", badgerstore.Options{AcceptTTL: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(items(t, lax)); got != "[a=1]" {
		t.Errorf("with AcceptTTL: %s", got)
	}
}

// TestInUse opens a directory twice.
func TestInUse(t *testing.T) {
	dir := t.TempDir()
	st := mustOpen(t, dir, badgerstore.Options{NoSync: true})
	_, err := badgerstore.Open(dir, badgerstore.Options{})
	if e, ok := errors.AsType[*badgerstore.InUseError](err); !ok || e.PID != fmt.Sprint(os.Getpid()) {
		t.Errorf("second Open: %v, want an InUseError with our process id", err)
	}
	// Any other program finds the lock too.
	if db, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil)); err == nil {
		db.Close()
		t.Error("Badger opened a directory that is in use")
	}
	closeStore(t, st)
	db := openDB(t, badger.DefaultOptions(dir))
	_, err = badgerstore.Open(dir, badgerstore.Options{})
	if _, ok := errors.AsType[*badgerstore.InUseError](err); !ok {
		t.Errorf("Open while another program has it: %v, want an InUseError", err)
	}
	db.Close()
	closeStore(t, mustOpen(t, dir, badgerstore.Options{NoSync: true}))
}

// TestAdopt opens a database that another program made with Badger's defaults:
// compressed tables.
func TestAdopt(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, badger.DefaultOptions(dir))
	for i := range 2000 {
		setItems(t, db, fmt.Sprintf("%05d=%s", i, strings.Repeat("value ", 30)))
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	st := mustOpen(t, dir, badgerstore.Options{NoSync: true})
	if got := len(items(t, st)); got != 2000 {
		t.Errorf("%d items, want 2000", got)
	}
	if info := st.Info(); info.Head != nil || len(info.Notes) != 0 {
		t.Errorf("Info() = %+v", info)
	}
	closeStore(t, st)
	// A flip in a compressed block is found as well.
	edit(t, files(t, dir, ".sst")[0], flip(500))
	if _, err := badgerstore.Open(dir, badgerstore.Options{}); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Open of a damaged compressed table: %v, want ErrCorrupt", err)
	}
}

// TestEncrypted opens a database that cannot be read without a key.
func TestEncrypted(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, badger.DefaultOptions(dir).WithEncryptionKey(bytes.Repeat([]byte{7}, 32)).WithIndexCacheSize(1<<20))
	setItems(t, db, "a=1")
	db.Close()
	_, err := badgerstore.Open(dir, badgerstore.Options{})
	if err == nil || errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "encrypt") {
		t.Errorf("Open of an encrypted database: %v, want an error that says so", err)
	}
}

// TestNoSpace asks for a reserve that no disk has.
func TestNoSpace(t *testing.T) {
	dir := t.TempDir()
	st := mustOpen(t, dir, badgerstore.Options{NoSync: true, Reserve: 1 << 60})
	for range 2 {
		err := st.Write(put("a", "1"))
		if !errors.Is(err, store.ErrNoSpace) || !errors.Is(err, store.ErrRefused) {
			t.Errorf("Write: %v, want ErrNoSpace", err)
		}
	}
	if got := items(t, st); len(got) != 0 {
		t.Errorf("items: %v", got)
	}
	closeStore(t, st)
	st = mustOpen(t, dir, badgerstore.Options{NoSync: true, Reserve: -1})
	if err := st.Write(put("a", "1")); err != nil {
		t.Errorf("Write without a reserve: %v", err)
	}
	info := st.Info()
	if info.Free <= 0 || info.Size <= 0 || info.Size > 100<<20 || info.Path != dir {
		t.Errorf("Info() = %+v", info)
	}
	closeStore(t, st)
}
