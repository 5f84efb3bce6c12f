package badgerstore_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/stream"
)

// runningDamage is what TestDamageWhileRunning does to the tables of an open
// database.
var runningDamage = map[string]func(f *os.File, size int64) error{
	"zeroes": func(f *os.File, size int64) error {
		_, err := f.WriteAt(make([]byte, size), 0)
		return err
	},
	"noise": func(f *os.File, size int64) error {
		_, err := f.WriteAt([]byte(strings.Repeat("\xff\x81", int(size/2))), 0)
		return err
	},
	"zeroed blocks": func(f *os.File, size int64) error {
		_, err := f.WriteAt(make([]byte, size/2), 0)
		return err
	},
	"cut to nothing":    func(f *os.File, size int64) error { return f.Truncate(0) },
	"cut in the middle": func(f *os.File, size int64) error { return f.Truncate(size / 2) },
}

// TestDamageWhileRunning hurts the tables of an open database, in a process of
// its own. That may end the process, as Badger asserts much; what it must not do
// is serve a hole: either an error comes that says damage, or the items that are
// read do not have the summary that is stored.
func TestDamageWhileRunning(t *testing.T) {
	closed, _, want := sources(t)
	for name := range runningDamage {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			copyDir(t, closed, dir)
			cmd := exec.Command(os.Args[0], "-test.run=^$")
			cmd.Env = append(os.Environ(), childDir+"="+dir, childDamage+"="+name, "BADGERSTORE_TEST_WANT="+want.String())
			out, err := cmd.CombinedOutput()
			text := string(out)
			switch {
			case strings.Contains(text, "SILENT"):
				t.Errorf("%s", text)
			case err != nil:
				t.Logf("ended the process: %v: %.200s", err, text)
			default:
				t.Logf("%.200s", text)
			}
		})
	}
}

// childReadsDamage opens a database, hurts it and reads it.
func childReadsDamage(dir, name, want string) error {
	st, err := badgerstore.Open(dir, badgerstore.Options{NoSync: true})
	if err != nil {
		return err
	}
	tables, err := filepath.Glob(dir + "/*.sst")
	if err != nil || len(tables) == 0 {
		return fmt.Errorf("no tables: %w", err)
	}
	for _, path := range tables {
		if err := damageFile(path, runningDamage[name]); err != nil {
			return err
		}
	}
	v, err := st.View()
	if err != nil {
		return err
	}
	defer v.Close()
	var sum merkle.Summary
	ascend := v.Ascend(nil, nil, func(key, value []byte) bool {
		sum = sum.Add(merkle.Summary{Count: 1, Sum: merkle.XXH64().Hash(key, value)})
		return true
	})
	if ascend == nil && sum.String() == want {
		fmt.Println("SILENT: all items were read from damaged tables")
	}
	_, meta := v.Meta()
	_, get := v.Get([]byte("key000001"))
	log := v.Log(0, func(stream.Record) bool { return true })
	for _, err := range []error{ascend, meta, get, log} {
		if err != nil && !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrNotFound) {
			fmt.Println("SILENT about damage:", err)
		}
	}
	fmt.Println(ascend, sum, meta, get, log)
	return nil
}

func damageFile(path string, damage func(f *os.File, size int64) error) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return damage(f, info.Size())
}

// TestLongestPrefix writes as much as fits with the prefix that costs most.
func TestLongestPrefix(t *testing.T) {
	dir := t.TempDir()
	opt := badgerstore.Options{NoSync: true, Prefix: strings.Repeat("/", 256)}
	st := mustOpen(t, dir, opt)
	l := st.Limits()
	if l.CommitOps != stream.MaxOps || l.CommitBytes != stream.MaxCommitBytes || l.Key != 65000-256 {
		t.Fatalf("Limits() = %+v", l)
	}
	tx := &store.Txn{Log: &stream.Record{First: 1, Last: 1, Body: make([]byte, l.CommitBytes+4096)}}
	for i := range l.CommitOps {
		tx.Ops = append(tx.Ops, stream.Op{Key: fmt.Appendf(nil, "%08d", i), Value: make([]byte, l.CommitBytes/l.CommitOps-24)})
	}
	for range store.MaxRecords {
		tx.Records = append(tx.Records, store.Record{Name: fmt.Sprintf("%0255d", len(tx.Records)), Value: make([]byte, 700)})
	}
	if err := st.Write(tx); err != nil {
		t.Fatalf("the largest transaction: %v", err)
	}
	closeStore(t, st)
	st = mustOpen(t, dir, opt)
	defer closeStore(t, st)
	if got := len(items(t, st)); got != l.CommitOps {
		t.Errorf("%d items, want %d", got, l.CommitOps)
	}
}

// TestCompress writes packed tables and reads them with and without the option.
func TestCompress(t *testing.T) {
	dir := t.TempDir()
	var w writer
	for _, compress := range []bool{true, false, true} {
		st := mustOpen(t, dir, badgerstore.Options{NoSync: true, Compress: compress})
		w.write(t, st, 50)
		closeStore(t, st)
	}
	if got, said := judge(t, dir, w.sum); got != whole || len(said) > 0 {
		t.Errorf("%s, %q", got, said)
	}
}
