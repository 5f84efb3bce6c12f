package storetest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

func testEmpty(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	view(t, st, func(v store.View) {
		_, err := v.Get([]byte("a"))
		wantErr(t, "Get", err, store.ErrNotFound)
		_, err = v.Meta()
		wantErr(t, "Meta", err, store.ErrNotFound)
		_, err = v.Record("a")
		wantErr(t, "Record", err, store.ErrNotFound)
		want(t, "items", items(t, v, nil, nil))
	})
	want(t, "log", logRecords(t, st, 0))
	if more, err := st.Trim(100); more || err != nil {
		t.Errorf("Trim of nothing = %v, %v", more, err)
	}
	l := st.Limits()
	if l.Key < 1000 || l.Value < 64<<10 || l.CommitBytes < l.Value || l.CommitOps < 1000 {
		t.Errorf("Limits() = %+v: too small to be of use", l)
	}
	if info := st.Info(); info.Path == "" || info.Head != nil {
		t.Errorf("Info() of a new store = %+v", info)
	}
}

func testRoundTrip(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	write(t, st, &store.Txn{
		Ops:     []stream.Op{put("b", "2"), put("a", "1"), put("c", "3")},
		Log:     record(1, 1, 10),
		Records: []store.Record{{Name: "r", Value: []byte("v")}},
		Meta:    store.Meta{Verified: 7},
	})
	writeOps(t, st, del("b"), put("a", "one"))
	for range 2 {
		want(t, "items", storeItems(t, st), "a=one", "c=3")
		want(t, "log", logRecords(t, st, 1), "1-1")
		view(t, st, func(v store.View) {
			if got, err := v.Get([]byte("a")); string(got) != "one" || err != nil {
				t.Errorf("Get(a) = %q, %v", got, err)
			}
			_, err := v.Get([]byte("b"))
			wantErr(t, "Get of what was deleted", err, store.ErrNotFound)
			if got, err := v.Record("r"); string(got) != "v" || err != nil {
				t.Errorf("Record(r) = %q, %v", got, err)
			}
			if m, err := v.Meta(); m.Seq != 2 || m.Verified != 0 || err != nil {
				t.Errorf("Meta() = %+v, %v: want that of the second write", m, err)
			}
		})
		st = reopen(t, st, open)
	}
}

func testEmptyValue(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	writeOps(t, st,
		stream.Op{Key: []byte("nil"), Value: nil},
		stream.Op{Key: []byte("none"), Value: []byte{}},
		put("gone", ""))
	writeOps(t, st, del("gone"), del("never there"))
	for range 2 {
		want(t, "items", storeItems(t, st), "nil=", "none=")
		view(t, st, func(v store.View) {
			if got, err := v.Get([]byte("nil")); len(got) != 0 || err != nil {
				t.Errorf("Get of an empty value = %q, %v", got, err)
			}
			_, err := v.Get([]byte("gone"))
			wantErr(t, "Get of what was deleted", err, store.ErrNotFound)
		})
		st = reopen(t, st, open)
	}
}

func testLaterOpWins(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	writeOps(t, st, put("a", "1"), del("a"), put("a", "2"), put("b", "1"), del("b"), put("c", "1"), put("c", ""))
	want(t, "items", storeItems(t, st), "a=2", "c=")
}

func testOrder(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	keys := []string{"\x00", "\x00\x00", "\x00\xff", " ", "!", "!a", "!bad", "!sdif", "!sdiff", "!sdiff\xff", "!z", "0", "a", "a\x00", "aa", "b", "\x7f", "\x80", "\xff", "\xff\xff", "\xff\xff\x00"}
	var ops []stream.Op
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(len(keys)) {
		ops = append(ops, put(keys[i], ""))
	}
	writeOps(t, st, ops...)
	bounds := append([]string{"", "!sdiff!", "!sdiff!/", "!sdiff\"", "ab", "\xff\xff\xff"}, keys...)
	view(t, st, func(v store.View) {
		for _, lo := range bounds {
			for _, hi := range append(bounds, "no end") {
				var end []byte
				if hi != "no end" {
					end = []byte(hi)
				}
				var exp []string
				for _, k := range keys {
					if k >= lo && (end == nil || k < hi) {
						exp = append(exp, k+"=")
					}
				}
				want(t, fmt.Sprintf("items from %q to %q", lo, hi), items(t, v, []byte(lo), end), exp...)
			}
		}
	})
}

// testModel writes at random and compares with a map.
func testModel(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	model := map[string]string{}
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 200 {
		var ops []stream.Op
		for range 1 + r.IntN(50) {
			key := fmt.Sprintf("%03d", r.IntN(700))
			if r.IntN(3) == 0 {
				ops = append(ops, del(key))
				delete(model, key)
				continue
			}
			value := fmt.Sprintf("%d", i)
			ops = append(ops, put(key, value))
			model[key] = value
		}
		writeOps(t, st, ops...)
		if i%50 == 49 {
			st = reopen(t, st, open)
		}
		if i%10 != 0 {
			continue
		}
		lo, hi := fmt.Sprintf("%03d", r.IntN(700)), fmt.Sprintf("%03d", r.IntN(700))
		var exp []string
		for _, k := range slices.Sorted(maps.Keys(model)) {
			if k >= lo && k < hi {
				exp = append(exp, k+"="+model[k])
			}
		}
		view(t, st, func(v store.View) { want(t, "items", items(t, v, []byte(lo), []byte(hi)), exp...) })
	}
}

func testSequence(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	for i := range uint64(6) {
		tx := &store.Txn{Ops: []stream.Op{put("k", fmt.Sprint(i))}, Meta: store.Meta{Seq: 99}}
		write(t, st, tx)
		if tx.Meta.Seq != i+1 {
			t.Fatalf("Write set the sequence to %d, want %d", tx.Meta.Seq, i+1)
		}
		view(t, st, func(v store.View) {
			if m, err := v.Meta(); m.Seq != i+1 || err != nil {
				t.Fatalf("Meta().Seq = %d, %v, want %d", m.Seq, err, i+1)
			}
		})
		if i == 3 {
			st = reopen(t, st, open)
		}
	}
}

func testMeta(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	full := store.Meta{
		Dataset:  stream.ID{1, 2, 3},
		Role:     store.Follower,
		Hash:     "sha256:01020304",
		Position: position(7),
		Summary:  merkle.Summary{Count: 1 << 60, Sum: 1<<64 - 1},
		LogStart: position(3),
		History:  []stream.Position{position(1), position(2)},
		Complete: true,
		Verified: 5, Deleted: 6,
		Sync: true, Clean: true,
	}
	long := store.Meta{Role: store.Master, History: make([]stream.Position, store.MaxHistory)}
	for i := range long.History {
		long.History[i] = position(1<<63 + uint64(i))
	}
	for _, m := range []store.Meta{full, {}, long, full} {
		tx := &store.Txn{Meta: m}
		write(t, st, tx)
		m.Seq = tx.Meta.Seq
		st = reopen(t, st, open)
		view(t, st, func(v store.View) {
			got, err := v.Meta()
			if err != nil || !bytes.Equal(store.AppendMeta(nil, got), store.AppendMeta(nil, m)) {
				t.Errorf("Meta() = %+v, %v\nwant %+v", got, err, m)
			}
		})
	}
}

func testRecords(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	write(t, st, &store.Txn{Records: []store.Record{
		{Name: "f/b", Value: []byte("2")},
		{Name: "f/a", Value: []byte("1")},
		{Name: "f", Value: []byte{}},
		{Name: "g/a", Value: make([]byte, store.MaxRecordValue)},
		{Name: "x", Value: []byte("x")},
	}})
	write(t, st, &store.Txn{Records: []store.Record{
		{Name: "x"}, {Name: "never there"}, {Name: "f/b", Value: []byte("two")},
	}})
	for range 2 {
		view(t, st, func(v store.View) {
			_, err := v.Record("x")
			wantErr(t, "a removed record", err, store.ErrNotFound)
			for _, c := range []struct{ prefix, want string }{
				{"f/", "[f/a=1 f/b=7]"}, {"f", "[f=0 f/a=1 f/b=7]"}, {"z", "[]"}, {"f/bb", "[]"},
				{"", fmt.Sprintf("[f=0 f/a=1 f/b=7 g/a=%d]", store.MaxRecordValue)},
			} {
				got := []string{}
				err := v.Records(c.prefix, func(name string, value []byte) bool {
					n := len(value)
					if string(value) == "two" {
						n = 7
					}
					got = append(got, fmt.Sprintf("%s=%d", name, n))
					return true
				})
				if fmt.Sprint(got) != c.want || err != nil {
					t.Errorf("Records(%q) = %v, %v, want %v", c.prefix, got, err, c.want)
				}
			}
			mine, _ := v.Record("f/a")
			mine[0] = 'x' // the slice is the caller's
			if again, _ := v.Record("f/a"); string(again) != "1" {
				t.Errorf("Record(f/a) = %q after the caller changed what it got", again)
			}
		})
		want(t, "items", storeItems(t, st))
		st = reopen(t, st, open)
	}
}
