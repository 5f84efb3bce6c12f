package storetest

import (
	"fmt"
	"testing"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

func testLog(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	for _, r := range [][2]uint64{{5, 5}, {6, 8}, {9, 9}, {10, 300}, {301, 301}} {
		write(t, st, &store.Txn{Log: record(r[0], r[1], int(r[0]))})
	}
	for range 2 {
		all := []string{"5-5", "6-8", "9-9", "10-300", "301-301"}
		for _, c := range []struct {
			from uint64
			want []string
		}{
			{0, all}, {1, all}, {4, all}, {5, all}, // from before its start: the oldest there is
			{6, all[1:]}, {7, all[1:]}, {8, all[1:]},
			{9, all[2:]}, {10, all[3:]}, {11, all[3:]}, {256, all[3:]}, {300, all[3:]},
			{301, all[4:]}, {302, nil}, {1 << 63, nil}, {1<<64 - 1, nil},
		} {
			want(t, fmt.Sprintf("log from %d", c.from), logRecords(t, st, c.from), c.want...)
		}
		want(t, "items", storeItems(t, st))
		st = reopen(t, st, open)
	}
}

func testLargeLog(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	const k = 512 << 10
	for i, n := range []int{0, 1, k - 1, k, k + 1, 3*k - 1, 3 * k, store.MaxLogBody} {
		write(t, st, &store.Txn{Log: record(uint64(i+1), uint64(i+1), n)})
	}
	st = reopen(t, st, open)
	view(t, st, func(v store.View) {
		var kept []stream.Record // bodies are the callee's
		if err := v.Log(3, func(r stream.Record) bool { kept = append(kept, r); return true }); err != nil {
			t.Fatalf("Log: %v", err)
		}
		for i, r := range kept {
			if w := record(uint64(i+3), uint64(i+3), len(r.Body)); r.First != w.First || string(r.Body) != string(w.Body) {
				t.Errorf("log record %d of %d bytes is not what was written", r.First, len(r.Body))
			}
		}
		if len(kept) != 6 || len(kept[5].Body) != store.MaxLogBody {
			t.Errorf("the log from 3 has %d records, want 6 with a large one at the end", len(kept))
		}
	})
}

func testTrim(t *testing.T, open func() store.Store) {
	st := openStore(t, open)
	offset := uint64(1)
	for range 60 { // 60 transactions with two commits each
		write(t, st, &store.Txn{Log: record(offset, offset+1, 100), Ops: []stream.Op{put("k", fmt.Sprint(offset))}})
		offset += 2
	}
	write(t, st, &store.Txn{Log: record(offset, offset, 3<<20)}) // in parts
	write(t, st, &store.Txn{Log: record(offset+1, offset+1, 1)})
	trimAll := func(before uint64) {
		t.Helper()
		for range 100 {
			more, err := st.Trim(before)
			if err != nil {
				t.Fatalf("Trim(%d): %v", before, err)
			}
			if !more {
				return
			}
		}
		t.Fatalf("Trim(%d) never ends", before)
	}
	old, err := st.View()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		before uint64
		first  string
	}{
		{0, "1-2"}, {2, "1-2"}, {3, "3-4"}, {4, "3-4"}, {5, "5-6"}, {4, "5-6"}, {100, "99-100"},
		{120, "119-120"}, {121, "121-121"}, {122, "122-122"},
	} {
		trimAll(c.before)
		got := logRecords(t, st, 0)
		if len(got) == 0 || got[0] != c.first || got[len(got)-1] != "122-122" {
			t.Fatalf("after Trim(%d) the log is %v, want it from %s to the end", c.before, got, c.first)
		}
		if c.before == 100 {
			st = reopenKeeping(t, st, open, old)
		}
	}
	trimAll(1 << 60)
	want(t, "log after a trim of all", logRecords(t, st, 0))
	write(t, st, &store.Txn{Log: record(123, 123, 1)})
	want(t, "log", logRecords(t, st, 0), "123-123")
	want(t, "items", storeItems(t, st), "k=119")
	testTrimBounded(t, st, 124)
}

// reopenKeeping reopens a store with a view open, which still sees all of the
// log before, and nothing after.
func reopenKeeping(t *testing.T, st store.Store, open func() store.Store, v store.View) store.Store {
	t.Helper()
	n := 0
	if err := v.Log(0, func(stream.Record) bool { n++; return true }); err != nil || n != 62 {
		t.Errorf("an open view sees %d log records after a trim, %v; want 62", n, err)
	}
	st = reopen(t, st, open)
	wantErr(t, "Log of a view of a closed store", v.Log(0, func(stream.Record) bool { return true }), store.ErrClosed)
	v.Close()
	return st
}

// testTrimBounded makes a log of many records and sees that each call removes
// some and not all.
func testTrimBounded(t *testing.T, st store.Store, first uint64) {
	const n = 2500
	for i := range uint64(n) {
		write(t, st, &store.Txn{Log: record(first+i, first+i, 1)})
	}
	calls := 1
	for ; ; calls++ {
		before := len(logRecords(t, st, 0))
		more, err := st.Trim(first + n - 1)
		if err != nil {
			t.Fatalf("Trim: %v", err)
		}
		after := len(logRecords(t, st, 0))
		if before-after > 1100 || before == after {
			t.Fatalf("one Trim took %d records to %d", before, after)
		}
		if !more {
			break
		}
	}
	if got := logRecords(t, st, 0); calls < 3 || len(got) != 1 {
		t.Errorf("after %d calls of Trim the log is %v", calls, got)
	}
}
