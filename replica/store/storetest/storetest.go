package storetest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// Run runs the suite, each test on a store of its own. setup makes one; the
// function that it returns opens that store, and after a Close opens it again.
// What it needs to fail the test with is t. The suite closes what it opens.
//
// It writes some tens of megabytes.
func Run(t *testing.T, setup func(t *testing.T) (open func() store.Store)) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, open func() store.Store)
	}{
		{"an empty store", testEmpty},
		{"what was written is there, also after reopening", testRoundTrip},
		{"an empty value is not a delete", testEmptyValue},
		{"the later op on a key wins", testLaterOpWins},
		{"keys are in byte order", testOrder},
		{"items against a map", testModel},
		{"the sequence counts transactions", testSequence},
		{"meta comes back as it was", testMeta},
		{"named records", testRecords},
		{"a view does not see later writes", testViewIsolated},
		{"writes keep none of the slices", testSlices},
		{"limits are refused and nothing is written", testLimits},
		{"the largest transaction is taken", testLargest},
		{"the log from an offset", testLog},
		{"large log records", testLargeLog},
		{"trim is bounded and resumable", testTrim},
		{"callbacks may read and may stop", testCallbacks},
		{"use after close", testClosed},
		{"views while writing", testConcurrent},
		{"transactions that are started", testStart},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, setup(t)) })
	}
}

// sentinel errors of callbacks and the like are not needed: a failed step ends
// the test with a sentence.

func put(key, value string) stream.Op {
	return stream.Op{Key: []byte(key), Value: []byte(value)}
}

func del(key string) stream.Op { return stream.Op{Key: []byte(key), Delete: true} }

// openStore opens a store and closes it when the test ends, unless it is closed
// by then.
func openStore(t *testing.T, open func() store.Store) store.Store {
	t.Helper()
	st := open()
	t.Cleanup(func() {
		if err := st.Close(); err != nil && !errors.Is(err, store.ErrClosed) {
			t.Errorf("Close: %v", err)
		}
	})
	return st
}

// reopen closes a store and opens it again.
func reopen(t *testing.T, st store.Store, open func() store.Store) store.Store {
	t.Helper()
	if err := st.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	return openStore(t, open)
}

func write(t *testing.T, st store.Store, tx *store.Txn) {
	t.Helper()
	if err := st.Write(tx); err != nil {
		t.Fatalf("Write: %v", err)
	}
}

func writeOps(t *testing.T, st store.Store, ops ...stream.Op) {
	t.Helper()
	write(t, st, &store.Txn{Ops: ops})
}

// view calls fn with a view.
func view(t *testing.T, st store.Store, fn func(v store.View)) {
	t.Helper()
	v, err := st.View()
	if err != nil {
		t.Fatalf("View: %v", err)
	}
	defer v.Close()
	fn(v)
}

// items returns what Ascend says, as "key=value".
func items(t *testing.T, v store.View, lo, hi []byte) []string {
	t.Helper()
	var got []string
	err := v.Ascend(lo, hi, func(key, value []byte) bool {
		got = append(got, string(key)+"="+string(value))
		return true
	})
	if err != nil {
		t.Fatalf("Ascend(%q, %q): %v", lo, hi, err)
	}
	return got
}

func storeItems(t *testing.T, st store.Store) (got []string) {
	t.Helper()
	view(t, st, func(v store.View) { got = items(t, v, nil, nil) })
	return got
}

// want compares what is stored with the items that ought to be.
func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func wantErr(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: error %v, want %v", what, err, target)
	}
}

// record makes a log record with a body of n bytes that tells it from others.
func record(first, last uint64, n int) *stream.Record {
	body := make([]byte, n)
	for i := range body {
		body[i] = byte(uint64(i)*7 + first*13 + uint64(i>>12))
	}
	return &stream.Record{First: first, Last: last, Body: body}
}

// logRecords returns the log from an offset on as "first-last".
func logRecords(t *testing.T, st store.Store, from uint64) (got []string) {
	t.Helper()
	view(t, st, func(v store.View) {
		err := v.Log(from, func(r stream.Record) bool {
			got = append(got, fmt.Sprintf("%d-%d", r.First, r.Last))
			if w := record(r.First, r.Last, len(r.Body)); string(w.Body) != string(r.Body) {
				t.Errorf("log record %d-%d of %d bytes came back changed", r.First, r.Last, len(r.Body))
			}
			return true
		})
		if err != nil {
			t.Fatalf("Log(%d): %v", from, err)
		}
	})
	return got
}

func position(n uint64) stream.Position {
	return stream.Position{
		Epoch:       stream.Epoch{0: 1, 15: byte(n)},
		Offset:      n,
		Fingerprint: merkle.Summary{Count: n, Sum: n * 0x9e3779b97f4a7c15},
	}
}
