package badgerstore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/stream"
)

func mustOpen(t testing.TB, dir string, opt badgerstore.Options) *badgerstore.Store {
	t.Helper()
	st, err := badgerstore.Open(dir, opt)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return st
}

func closeStore(t testing.TB, st store.Store) {
	t.Helper()
	if err := st.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// A writer writes transactions as a replica does, each with the summary after
// it.
type writer struct {
	tree   map[string]uint64
	sum    merkle.Summary
	offset uint64
}

func (w *writer) txn(keys, n int) *store.Txn {
	if w.tree == nil {
		w.tree = make(map[string]uint64)
	}
	tx := &store.Txn{}
	for range n {
		w.offset++
		op := stream.Op{
			Key:   fmt.Appendf(nil, "key%06d", int(w.offset)*7919%keys),
			Value: bytes.Repeat(fmt.Appendf(nil, "%d ", w.offset), 20),
		}
		if hash, had := w.tree[string(op.Key)]; had {
			w.sum = w.sum.Sub(merkle.Summary{Count: 1, Sum: hash})
		}
		hash := merkle.XXH64().Hash(op.Key, op.Value)
		w.tree[string(op.Key)] = hash
		w.sum = w.sum.Add(merkle.Summary{Count: 1, Sum: hash})
		tx.Ops = append(tx.Ops, op)
	}
	tx.Log = &stream.Record{First: w.offset - uint64(n) + 1, Last: w.offset, Body: make([]byte, 50)}
	tx.Meta.Position = stream.Position{Epoch: stream.Epoch{1}, Offset: w.offset, Fingerprint: w.sum}
	tx.Meta.Summary = w.sum
	return tx
}

func (w *writer) write(t testing.TB, st store.Store, txns int) {
	t.Helper()
	for range txns {
		if err := st.Write(w.txn(3000, 10)); err != nil {
			t.Fatalf("Write: %v", err)
		}
	}
}

// copyDir copies a directory, files with holes too.
func copyDir(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.Create(filepath.Join(to, e.Name()))
		if err != nil {
			return err
		}
		defer out.Close()
		buf, zero := make([]byte, 256<<10), make([]byte, 256<<10)
		for off := int64(0); ; {
			n, err := in.Read(buf)
			if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
				if _, err := out.WriteAt(buf[:n], off); err != nil {
					return err
				}
			}
			off += int64(n)
			if err == io.EOF {
				return out.Truncate(off)
			}
			if err != nil {
				return err
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// An outcome of opening a directory.
type outcome string

const (
	whole   outcome = "all is there"
	refused outcome = "refused as damaged"
	behind  outcome = "behind HEAD"
	differs outcome = "the items do not have the stored summary"
	// silent is the one that must not be: it looks healthy and is not.
	silent outcome = "DAMAGED AND SILENT"
)

// judge opens a directory and looks at it as a replica does at its start. want
// is the summary of what was written.
func judge(t testing.TB, dir string, want merkle.Summary) (outcome, []string) {
	t.Helper()
	st, err := badgerstore.Open(dir, badgerstore.Options{NoSync: true})
	// A version cannot be told from a flip in it.
	if errors.Is(err, store.ErrCorrupt) || err != nil && strings.Contains(err.Error(), "another version") {
		return refused, []string{err.Error()}
	}
	if err != nil {
		t.Fatalf("Open failed, but not for damage: %v", err)
	}
	defer closeStore(t, st)
	v, err := st.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	info := st.Info()
	m, err := v.Meta()
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Meta: %v", err)
	}
	if h := info.Head; h != nil && (h.Seq > m.Seq || h.Seq == m.Seq && h.Summary != m.Summary) {
		return behind, info.Notes
	}
	var sum merkle.Summary
	if err := v.Ascend(nil, nil, func(key, value []byte) bool {
		sum = sum.Add(merkle.Summary{Count: 1, Sum: merkle.XXH64().Hash(key, value)})
		return true
	}); err != nil {
		t.Fatalf("Ascend: %v", err)
	}
	switch {
	case sum != m.Summary:
		return differs, info.Notes
	case sum != want:
		return silent, info.Notes
	}
	return whole, info.Notes
}

// files returns the files with that ending, largest name last.
func files(t testing.TB, dir, ending string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*"+ending))
	if err != nil || len(all) == 0 {
		t.Fatalf("no %s in %s: %v", ending, dir, err)
	}
	return all
}

func edit(t testing.TB, path string, change func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
}

// sources makes two directories of the same items: one of a database that was
// closed, with some tables, and one as kill -9 leaves it, with its newest
// writes in a write-ahead log only. Nobody merges the tables while they are
// made.
func sources(t testing.TB) (closed, killed string, want merkle.Summary) {
	t.Helper()
	var w writer
	closed, killed = t.TempDir(), t.TempDir()
	for range 3 {
		st := mustOpen(t, closed, badgerstore.Unmerged())
		w.write(t, st, 100)
		closeStore(t, st)
	}
	st := mustOpen(t, closed, badgerstore.Unmerged())
	w.write(t, st, 100)
	copyDir(t, closed, killed)
	for _, path := range files(t, killed, ".mem") {
		edit(t, path, func(b []byte) []byte { // the rest is a hole of 128 MiB
			return append(bytes.TrimRight(b, "\x00"), make([]byte, 4096)...)
		})
	}
	closeStore(t, st)
	return closed, killed, w.sum
}

// entries returns a function that appends entries to MANIFEST, each of some
// changes.
func entries(sets ...string) func([]byte) []byte {
	return func(b []byte) []byte {
		for _, set := range sets {
			b = binary.BigEndian.AppendUint32(b, uint32(len(set)))
			b = binary.BigEndian.AppendUint32(b, crc32.Checksum([]byte(set), crc32.MakeTable(crc32.Castagnoli)))
			b = append(b, set...)
		}
		return b
	}
}

// create is the change that adds a table to a level, drop the one that removes
// one, as protobuf has it: field 1 of the set is a change; of that, field 1 is
// the table, 2 is 1 for drop, 3 is the level.
func create(id, level byte) string { return string([]byte{0x0a, 4, 0x08, id, 0x18, level}) }

func drop(t testing.TB, path string) string {
	var id byte
	if _, err := fmt.Sscanf(filepath.Base(path), "%d.sst", &id); err != nil {
		t.Fatal(err)
	}
	return string([]byte{0x0a, 4, 0x08, id, 0x10, 1})
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func half(b []byte) []byte { return b[:len(b)/2] }

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at%len(b)] ^= 0x10; return b }
}

// TestDamage hurts a database in every way known of Badger that makes it lose
// items without a word, or panic.
func TestDamage(t *testing.T) {
	closed, killed, want := sources(t)
	for _, c := range []struct {
		name   string
		from   string
		damage func(dir string)
		want   outcome
	}{
		{"none, closed", closed, func(string) {}, whole},
		{"none, killed", killed, func(string) {}, whole},
		{"MANIFEST deleted", closed, func(dir string) { remove(t, dir+"/MANIFEST") }, refused},
		{"MANIFEST deleted and killed", killed, func(dir string) { remove(t, dir+"/MANIFEST") }, refused},
		{"MANIFEST emptied", closed, func(dir string) { edit(t, dir+"/MANIFEST", func([]byte) []byte { return nil }) }, refused},
		{"MANIFEST cut by 3 bytes", closed, func(dir string) { edit(t, dir+"/MANIFEST", func(b []byte) []byte { return b[:len(b)-3] }) }, behind},
		{"MANIFEST cut in half", closed, func(dir string) { edit(t, dir+"/MANIFEST", half) }, behind},
		{"MANIFEST cut to its header", closed, func(dir string) { edit(t, dir+"/MANIFEST", func(b []byte) []byte { return b[:8] }) }, behind},
		{"MANIFEST flipped", closed, func(dir string) { edit(t, dir+"/MANIFEST", flip(20)) }, refused},
		// These looked like a mistake of the user, not like damage.
		{"MANIFEST's version flipped", closed, func(dir string) { edit(t, dir+"/MANIFEST", flip(5)) }, refused},
		{"MANIFEST's format flipped", closed, func(dir string) { edit(t, dir+"/MANIFEST", flip(7)) }, refused},
		{"newest table deleted", closed, func(dir string) { remove(t, files(t, dir, ".sst")[2]) }, refused},
		{"newest table deleted and killed", killed, func(dir string) { remove(t, files(t, dir, ".sst")[2]) }, differs},
		{"two newest tables deleted and killed", killed, func(dir string) { remove(t, files(t, dir, ".sst")[1:]...) }, differs},
		// As an error of a sync leaves it.
		{"MANIFEST names tables never finished", killed, func(dir string) { edit(t, dir+"/MANIFEST", entries(create(77, 0), create(78, 0))) }, whole},
		{"MANIFEST names a table never finished, and nothing is in a log", closed, func(dir string) { edit(t, dir+"/MANIFEST", entries(create(77, 0))) }, refused},
		{"MANIFEST names a merged table never finished", closed, func(dir string) {
			edit(t, dir+"/MANIFEST", entries(create(77, 6)+drop(t, files(t, dir, ".sst")[0])+drop(t, files(t, dir, ".sst")[1])))
		}, whole},
		{"MANIFEST names tables never finished, and one after them is there", killed, func(dir string) {
			sst := files(t, dir, ".sst")
			edit(t, dir+"/MANIFEST", entries(create(77, 0), create(78, 0)))
			copyFile(t, sst[0], filepath.Join(dir, "000078.sst"))
		}, refused},
		{"oldest table deleted", closed, func(dir string) { remove(t, files(t, dir, ".sst")[0]) }, refused},
		{"a table emptied", closed, func(dir string) { edit(t, files(t, dir, ".sst")[1], func([]byte) []byte { return nil }) }, refused},
		{"a table zeroed", closed, func(dir string) { edit(t, files(t, dir, ".sst")[1], func(b []byte) []byte { clear(b); return b }) }, refused},
		{"a table's blocks zeroed", closed, func(dir string) {
			edit(t, files(t, dir, ".sst")[1], func(b []byte) []byte { clear(half(b)); return b })
		}, refused},
		{"a table cut", closed, func(dir string) { edit(t, files(t, dir, ".sst")[1], half) }, refused},
		{"a table cut by a byte", closed, func(dir string) { edit(t, files(t, dir, ".sst")[1], func(b []byte) []byte { return b[:len(b)-1] }) }, refused},
		{"a table longer", closed, func(dir string) { edit(t, files(t, dir, ".sst")[1], func(b []byte) []byte { return append(b, 0) }) }, refused},
		{"a flip in a table's block", closed, func(dir string) { edit(t, files(t, dir, ".sst")[1], flip(5000)) }, refused},
		{"a flip in a table's index", closed, func(dir string) {
			edit(t, files(t, dir, ".sst")[1], func(b []byte) []byte { return flip(len(b) - 30)(b) })
		}, refused},
		{"tables swapped", closed, func(dir string) {
			sst := files(t, dir, ".sst")
			os.Rename(sst[0], dir+"/x")
			os.Rename(sst[1], sst[0])
			os.Rename(dir+"/x", sst[1])
		}, whole}, // Badger goes by what is in them
		{"write-ahead log cut", killed, func(dir string) { cutLog(t, dir) }, behind},
		{"write-ahead log flipped", killed, func(dir string) { edit(t, lastLog(t, dir), flip(3000)) }, behind},
		{"write-ahead log emptied", killed, func(dir string) { edit(t, lastLog(t, dir), func([]byte) []byte { return nil }) }, behind},
		{"write-ahead log deleted", killed, func(dir string) { remove(t, lastLog(t, dir)) }, behind},
		{"an empty write-ahead log more", killed, func(dir string) { touch(t, dir+"/00099.mem") }, whole},
		{"an empty value log", closed, func(dir string) { edit(t, files(t, dir, ".vlog")[0], func([]byte) []byte { return nil }) }, whole},
		{"value log deleted", closed, func(dir string) { remove(t, files(t, dir, ".vlog")...) }, whole},
		{"all of the database deleted", closed, func(dir string) {
			remove(t, files(t, dir, ".sst")...)
			remove(t, dir+"/MANIFEST", dir+"/KEYREGISTRY")
		}, behind},
		{"HEAD deleted", closed, func(dir string) { remove(t, dir+"/HEAD") }, whole},
		{"HEAD zeroed", closed, func(dir string) { edit(t, dir+"/HEAD", func(b []byte) []byte { clear(b); return b }) }, whole},
		{"HEAD's slots flipped", closed, func(dir string) {
			edit(t, dir+"/HEAD", flip(20))
			edit(t, dir+"/HEAD", flip(4096+20))
		}, whole},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			copyDir(t, c.from, dir)
			c.damage(dir)
			got, said := judge(t, dir, want)
			if got != c.want {
				t.Errorf("%s: %v, want %s", got, said, c.want)
			}
			// Opening it again must not make it look any better.
			again, _ := judge(t, dir, want)
			if again != got {
				t.Errorf("at the second opening: %s, after %s", again, got)
			}
			if aside, _ := filepath.Glob(dir + "/put-aside-*/*.sst"); len(aside) == 0 && c.name == "MANIFEST cut by 3 bytes" {
				t.Error("the table that MANIFEST does not name was not put aside")
			}
			if got == whole && strings.Contains(c.name, "HEAD") && len(said) == 0 {
				t.Error("nobody said that HEAD is no help")
			}
		})
	}
}

// lastLog returns the write-ahead log with the newest writes.
func lastLog(t testing.TB, dir string) string {
	t.Helper()
	for _, f := range files(t, dir, ".mem") {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(bytes.TrimRight(b, "\x00")) > 1000 {
			return f
		}
	}
	t.Fatal("no write-ahead log with anything in it")
	return ""
}

// cutLog cuts a log in the middle of what is in it.
func cutLog(t testing.TB, dir string) {
	t.Helper()
	edit(t, lastLog(t, dir), func(b []byte) []byte { return half(bytes.TrimRight(b, "\x00")) })
}

func touch(t testing.TB, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// damages is how often TestRandomDamage hurts a database.
var damages = flag.Int("damages", 25, "rounds of TestRandomDamage")

// TestRandomDamage flips, zeroes and cuts at random places of random files:
// whatever happens, nothing panics and nothing that is not whole looks so.
func TestRandomDamage(t *testing.T) {
	closed, killed, want := sources(t)
	counts := map[outcome]int{}
	for seed := range uint64(*damages) {
		r := rand.New(rand.NewPCG(seed, 99))
		dir := t.TempDir()
		from := []string{closed, killed}[r.IntN(2)]
		copyDir(t, from, dir)
		all, _ := filepath.Glob(dir + "/*")
		path := all[r.IntN(len(all))]
		var what string
		edit(t, path, func(b []byte) []byte {
			n := len(bytes.TrimRight(b, "\x00"))
			if n == 0 {
				return b
			}
			at := r.IntN(n)
			switch r.IntN(3) {
			case 0:
				what = fmt.Sprintf("flip bit of byte %d of %d", at, n)
				b[at] ^= 1 << r.IntN(8)
			case 1:
				what = fmt.Sprintf("zeroes from %d of %d", at, n)
				clear(b[at:min(n, at+1+r.IntN(5000))])
			case 2:
				what = fmt.Sprintf("cut at %d of %d", at, n)
				b = b[:at]
			}
			return b
		})
		got, said := judge(t, dir, want)
		counts[got]++
		if got == silent {
			t.Errorf("seed %d: %s: %s: %s, notes %q", seed, filepath.Base(path), what, got, said)
		}
	}
	t.Log(counts)
}
