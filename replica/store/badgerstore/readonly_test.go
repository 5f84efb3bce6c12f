package badgerstore_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
)

// listing returns the names, sizes, modes, times and contents of a directory.
func listing(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v %d %v", path, info.Mode(), info.Size(), info.ModTime())
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %x", sha256.Sum256(content))
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What OpenReadOnly shows is all that was written, also to a database that was
// killed or has a torn or unfinished MANIFEST, and nothing in the directory is another than
// before.
func TestReadOnlyChangesNothing(t *testing.T) {
	closed, killed, want := sources(t)
	torn := t.TempDir()
	copyDir(t, killed, torn)
	touch(t, filepath.Join(torn, "00077.mem"))
	touch(t, filepath.Join(torn, "000077.vlog"))
	edit(t, filepath.Join(torn, "MANIFEST"), func(b []byte) []byte { return append(b, 1, 2, 3) })
	unfinished := t.TempDir()
	copyDir(t, killed, unfinished)
	edit(t, filepath.Join(unfinished, "MANIFEST"), entries(create(77, 0)))
	for name, dir := range map[string]string{"closed": closed, "killed": killed, "torn": torn, "unfinished": unfinished} {
		before := listing(t, dir)
		in, err := badgerstore.Inspect(dir)
		if err != nil || in.Files != nil || in.Verify() != nil {
			t.Errorf("%s: %+v, %v, %v", name, in, err, in.Verify())
		}
		if (name == "closed") != in.Untouched || (name == "torn") != (in.Torn == 3 && len(in.Empty) == 2) || (name == "unfinished") != (in.Unfinished == 1) {
			t.Errorf("%s: %+v", name, in)
		}
		st, err := badgerstore.OpenReadOnly(dir, t.TempDir())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		v, err := st.View()
		if err != nil {
			t.Fatal(err)
		}
		var sum merkle.Summary
		if err := v.Ascend(nil, nil, func(key, value []byte) bool {
			sum = sum.Add(merkle.Summary{Count: 1, Sum: merkle.XXH64().Hash(key, value)})
			return true
		}); err != nil || sum != want {
			t.Errorf("%s: %v, %v, want %v", name, sum, err, want)
		}
		if err := st.Write(&store.Txn{}); !errors.Is(err, store.ErrRefused) {
			t.Errorf("%s: Write: %v", name, err)
		}
		if _, err := st.Trim(100); !errors.Is(err, store.ErrRefused) {
			t.Errorf("%s: Trim: %v", name, err)
		}
		v.Close()
		closeStore(t, st)
		if after := listing(t, dir); after != before {
			t.Errorf("%s: the directory was\n%s\nand is\n%s", name, before, after)
		}
	}
}

// A directory that is held can be held by others, and opened by nobody.
func TestHold(t *testing.T) {
	dir := t.TempDir()
	closeStore(t, mustOpen(t, dir, badgerstore.Options{NoSync: true}))
	before := listing(t, dir)
	one, err := badgerstore.Hold(dir)
	if err != nil {
		t.Fatal(err)
	}
	two, err := badgerstore.Hold(dir)
	if err != nil {
		t.Fatal(err)
	}
	inUse := func(err error) bool {
		_, ok := errors.AsType[*badgerstore.InUseError](err)
		return ok
	}
	if _, err := badgerstore.Open(dir); !inUse(err) {
		t.Errorf("a held directory opened: %v", err)
	}
	if err := errors.Join(one(), two()); err != nil {
		t.Fatal(err)
	}
	if after := listing(t, dir); after != before {
		t.Errorf("holding changed the directory from\n%s\nto\n%s", before, after)
	}
	st := mustOpen(t, dir, badgerstore.Options{NoSync: true})
	if _, err := badgerstore.Hold(dir); !inUse(err) {
		t.Errorf("an open directory can be held: %v", err)
	}
	closeStore(t, st)
}
