//go:build chaos

package chaos

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// matrix is every damage known of a directory. What Badger itself makes of
// most of them is silence.
var matrix = []damage{
	{name: "none", do: doNothing, master: startsWhole, follower: startsWhole},
	{name: "none, killed", killed: true, do: doNothing, master: startsWhole, follower: startsWhole},

	{name: "MANIFEST deleted", do: deleted("MANIFEST"), master: refusesDamaged, follower: refusesDamaged, says: "no MANIFEST"},
	{name: "MANIFEST deleted, killed", killed: true, do: deleted("MANIFEST"), master: refusesDamaged, follower: refusesDamaged, says: "no MANIFEST"},
	{name: "MANIFEST emptied", do: changed("MANIFEST", empty), master: refusesDamaged, follower: refusesDamaged, says: "store is damaged"},
	{name: "MANIFEST zeroed", do: changed("MANIFEST", zero), master: refusesDamaged, follower: refusesDamaged, says: "MANIFEST"},
	{name: "MANIFEST flipped", do: changed("MANIFEST", flipAt(20)), master: refusesDamaged, follower: refusesDamaged, says: "store is damaged"},
	{name: "MANIFEST cut by 3 bytes", do: changed("MANIFEST", cutBy(3)), master: offersLoss, follower: offersLoss, says: "newest writes are lost"},
	{name: "MANIFEST cut to 20 bytes", do: changed("MANIFEST", cutTo(20)), master: offersLoss, follower: offersLoss, says: "recorded beside it", fresh: true},

	{name: "newest table deleted", do: deleted("*.sst"), master: refusesDamaged, follower: refusesDamaged, says: "is missing"},
	{name: "table emptied", do: changed("*.sst", empty), master: refusesDamaged, follower: refusesDamaged, says: "has 0 bytes"},
	{name: "table zeroed", do: changed("*.sst", zero), master: refusesDamaged, follower: refusesDamaged, says: "footer"},
	{name: "table half zeroed", do: changed("*.sst", func(b []byte) []byte { clear(b[:len(b)/2]); return b }), master: refusesDamaged, follower: refusesDamaged, says: "block 0"},
	{name: "table cut in half", do: changed("*.sst", halve), master: refusesDamaged, follower: refusesDamaged, says: ".sst"},
	{name: "table cut by a byte", do: changed("*.sst", cutBy(1)), master: refusesDamaged, follower: refusesDamaged, says: ".sst"},
	{name: "table longer", do: changed("*.sst", func(b []byte) []byte { return append(b, 0) }), master: refusesDamaged, follower: refusesDamaged, says: ".sst"},
	{name: "flip in a table's data", do: changed("*.sst", flipAt(1000)), master: refusesDamaged, follower: refusesDamaged, says: "checksum"},
	{name: "flip in a table's index", do: changed("*.sst", flipFromEnd(60)), master: refusesDamaged, follower: refusesDamaged, says: ".sst"},
	{name: "flip in a table's footer", do: changed("*.sst", flipFromEnd(2)), master: refusesDamaged, follower: refusesDamaged, says: "footer"},
	{name: "empty table more", do: added("000999.sst"), master: startsWhole, follower: startsWhole},

	{name: "write-ahead log cut", killed: true, do: changed("*.mem", halve), master: offersLoss, follower: offersLoss, says: "newest writes are lost"},
	{name: "write-ahead log flipped", killed: true, do: changed("*.mem", flipAt(3000)), master: offersLoss, follower: offersLoss, says: "newest writes are lost"},
	{name: "write-ahead log zeroed", killed: true, do: changed("*.mem", zero), master: offersLoss, follower: offersLoss, says: "newest writes are lost"},
	{name: "write-ahead log emptied", killed: true, do: changed("*.mem", empty), master: offersLoss, follower: offersLoss, says: "newest writes are lost"},
	{name: "write-ahead log deleted", killed: true, do: deleted("*.mem"), master: offersLoss, follower: offersLoss, says: "newest writes are lost"},
	{name: "write-ahead log deleted, follower away", killed: true, do: deleted("*.mem"), master: offersLoss, follower: notHere, says: "newest writes are lost", behind: true},
	{name: "empty write-ahead log more", killed: true, do: added("00099.mem"), master: startsWhole, follower: startsWhole, says: "removed 00099.mem"},
	{name: "empty value log more", killed: true, do: added("000099.vlog"), master: startsWhole, follower: startsWhole, says: "removed 000099.vlog"},

	{name: "value log deleted", do: deleted("*.vlog"), master: startsWhole, follower: startsWhole},
	{name: "value log emptied", do: changed("*.vlog", empty), master: startsWhole, follower: startsWhole, says: "removed 0"},
	{name: "value log flipped", do: changed("*.vlog", flipAt(12)), master: startsWhole, follower: startsWhole},
	{name: "KEYREGISTRY deleted", do: deleted("KEYREGISTRY"), master: startsWhole, follower: startsWhole},
	{name: "KEYREGISTRY flipped", do: changed("KEYREGISTRY", flipAt(20)), master: refusesDamaged, follower: refusesDamaged, says: "KEYREGISTRY"},
	{name: "KEYREGISTRY emptied", do: changed("KEYREGISTRY", empty), master: refusesDamaged, follower: refusesDamaged},
	{name: "DISCARD deleted", do: deleted("DISCARD"), master: startsWhole, follower: startsWhole},

	{name: "HEAD deleted", do: deleted("HEAD"), master: startsWhole, follower: startsWhole, says: "HEAD is missing"},
	{name: "HEAD emptied", do: changed("HEAD", empty), master: startsWhole, follower: startsWhole, says: "HEAD is empty"},
	{name: "HEAD cut", do: changed("HEAD", cutTo(64)), master: startsWhole, follower: startsWhole, says: "one of the two slots of HEAD is missing"},
	{name: "HEAD cut within a slot", do: changed("HEAD", cutTo(40)), master: startsWhole, follower: startsWhole, says: "HEAD is damaged"},
	{name: "HEAD flipped", do: changed("HEAD", func(b []byte) []byte { return flipAt(20)(flipAt(4096 + 20)(b)) }), master: startsWhole, follower: startsWhole, says: "HEAD is damaged"},
	{name: "HEAD stale", do: taken("HEAD", func(s *specimens) specimen { return s.old }), master: startsWhole, follower: startsWhole},
	{name: "HEAD of later", do: taken("HEAD", func(s *specimens) specimen { return s.killed }), master: offersLoss, follower: offersLoss, says: "newest writes are lost", agrees: true},
	{name: "HEAD of another dataset", do: taken("HEAD", func(s *specimens) specimen { return s.other }), master: offersStore, follower: startsWhole, agrees: true},

	{name: "CLOSED deleted", do: deleted("CLOSED"), master: startsWhole, follower: startsWhole, says: "in a process of its own first"},
	{name: "CLOSED flipped", do: changed("CLOSED", flipAt(30)), master: startsWhole, follower: startsWhole, says: "in a process of its own first"},
	{name: "name deleted", do: deleted("follower-id"), master: notHere, follower: startsWhole},
	{name: "name garbled", do: changed("follower-id", func([]byte) []byte { return []byte("no name\x00") }), master: notHere, follower: refusesOther, says: "follower-id"},

	{name: "all of the database deleted", do: deleted("*.sst", "MANIFEST", "KEYREGISTRY", "DISCARD", "*.vlog"), master: offersLoss, follower: offersLoss, says: "the database is new", fresh: true},
	{name: "backup restored", do: swapped(func(s *specimens, role string) string { return s.old.dir(role) }), master: isBehind, follower: isBehind},
	{name: "backup restored beside a newer HEAD", do: restoredUnderHead, master: offersLoss, follower: offersLoss, says: "newest writes are lost"},
	{name: "directory of the other role", do: swapped(func(s *specimens, role string) string {
		return s.closed.dir(map[string]string{"master": "sibling", "follower": "master"}[role])
	}), master: refusesOther, follower: refusesOther, says: "the role is"},
	{name: "directory of another follower", do: swapped(func(s *specimens, _ string) string { return s.closed.dir("sibling") }), master: notHere, follower: startsWhole},
	{name: "directory of another dataset", do: swapped(func(s *specimens, role string) string { return s.other.dir(role) }), master: isForeign, follower: isForeign},

	{name: "key deleted", do: tampered("key0200", nil), master: offersLoss, follower: offersLoss, says: "279 keys"},
	{name: "key added", do: tampered("stranger", []byte("x")), master: offersStore, follower: offersStore, says: "281 keys"},
	{name: "value changed", do: tampered("key0200", []byte("x")), master: offersStore, follower: offersStore, says: "but should hold"},
	{name: "meta flipped", do: tamperedWith("!sdiff!//m", flipAt(10)), master: refusesDamaged, follower: refusesDamaged, says: "store is damaged"},
	{name: "log record flipped", doctor: 8, do: tamperedWith("!sdiff!//l/", flipAt(35)), master: startsWhole, follower: notHere, behind: true},
	{name: "log record cut", doctor: 8, do: tamperedWith("!sdiff!//l/", halve), master: startsWhole, follower: notHere, behind: true},
}

type surgery = func(t *testing.T, s *specimens, role, dir string)

func doNothing(*testing.T, *specimens, string, string) {}

// newest returns the file that a pattern matches last and that has something
// in it.
func newest(t *testing.T, dir, pattern string) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(all) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, dir, err)
	}
	slices.Reverse(all)
	for _, path := range all {
		if b, err := os.ReadFile(path); err == nil && len(bytes.TrimRight(b, "\x00")) > 20 {
			return path
		}
	}
	return all[0]
}

// deleted deletes all files that match.
func deleted(patterns ...string) surgery {
	return func(t *testing.T, _ *specimens, _, dir string) {
		for _, pattern := range patterns {
			if pattern == "*.sst" && len(patterns) == 1 {
				if err := os.Remove(newest(t, dir, pattern)); err != nil {
					t.Fatal(err)
				}
				return
			}
			all, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil || len(all) == 0 {
				t.Fatalf("no %s in %s: %v", pattern, dir, err)
			}
			for _, path := range all {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// changed changes the content of the newest file that matches. Of a log only
// what is written in it counts.
func changed(pattern string, change func(b []byte) []byte) surgery {
	return func(t *testing.T, _ *specimens, _, dir string) {
		path := newest(t, dir, pattern)
		mustEdit(t, path, func(b []byte) []byte {
			if filepath.Ext(path) == ".mem" {
				b = bytes.TrimRight(b, "\x00")
			}
			return change(b)
		})
	}
}

// added makes an empty file.
func added(name string) surgery {
	return func(t *testing.T, _ *specimens, _, dir string) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// taken takes a file of the same role from another specimen.
func taken(name string, from func(s *specimens) specimen) surgery {
	return func(t *testing.T, s *specimens, role, dir string) {
		b, err := os.ReadFile(filepath.Join(from(s).dir(role), name))
		if err != nil {
			t.Fatal(err)
		}
		mustEdit(t, filepath.Join(dir, name), func([]byte) []byte { return b })
	}
}

// swapped puts another directory in the place of this one.
func swapped(from func(s *specimens, role string) string) surgery {
	return func(t *testing.T, s *specimens, role, dir string) {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		copyTree(t, from(s, role), dir)
	}
}

// restoredUnderHead restores a backup of everything but HEAD.
func restoredUnderHead(t *testing.T, s *specimens, role, dir string) {
	head, err := os.ReadFile(filepath.Join(dir, "HEAD"))
	if err != nil {
		t.Fatal(err)
	}
	swapped(func(s *specimens, role string) string { return s.old.dir(role) })(t, s, role, dir)
	mustEdit(t, filepath.Join(dir, "HEAD"), func([]byte) []byte { return head })
}

// tampered writes a key with Badger itself, or deletes it.
func tampered(key string, value []byte) surgery {
	return func(t *testing.T, _ *specimens, _, dir string) {
		withBadger(t, dir, func(tx *badger.Txn) error {
			if value == nil {
				return tx.Delete([]byte(key))
			}
			return tx.Set([]byte(key), value)
		})
	}
}

// tamperedWith changes the value of the record in the middle of those whose
// keys begin with prefix.
func tamperedWith(prefix string, change func(b []byte) []byte) surgery {
	return func(t *testing.T, _ *specimens, _, dir string) {
		withBadger(t, dir, func(tx *badger.Txn) error {
			var keys [][]byte
			it := tx.NewIterator(badger.IteratorOptions{Prefix: []byte(prefix)})
			for it.Rewind(); it.Valid(); it.Next() {
				keys = append(keys, it.Item().KeyCopy(nil))
			}
			it.Close()
			if len(keys) == 0 {
				t.Fatalf("no keys under %s", prefix)
			}
			key := keys[len(keys)*3/4]
			item, err := tx.Get(key)
			if err != nil {
				return err
			}
			value, err := item.ValueCopy(nil)
			if err != nil {
				return err
			}
			return tx.Set(key, change(value))
		})
	}
}

func withBadger(t *testing.T, dir string, fn func(tx *badger.Txn) error) {
	t.Helper()
	db, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil).WithValueThreshold(1 << 20).WithMemTableSize(64 << 20))
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(fn); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func empty([]byte) []byte { return nil }

func zero(b []byte) []byte { clear(b); return b }

func halve(b []byte) []byte { return b[:len(b)/2] }

func cutBy(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:len(b)-n] } }

func cutTo(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }

func flipAt(n int) func([]byte) []byte {
	return func(b []byte) []byte { b[n%len(b)] ^= 0x10; return b }
}

func flipFromEnd(n int) func([]byte) []byte {
	return func(b []byte) []byte { b[len(b)-n] ^= 0x10; return b }
}
