package badgerstore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/stream"
)

// fill returns a transaction whose ops have so many bytes, with a log record of
// as many if logged.
func fill(size int, logged bool) *store.Txn {
	tx := &store.Txn{}
	for i := 0; size > 1000; i++ {
		op := stream.Op{Key: binary.BigEndian.AppendUint32([]byte("fill"), uint32(i))}
		op.Value = bytes.Repeat([]byte{byte(i)}, min(size-24, 1<<20-4096))
		size -= stream.Size([]stream.Op{op})
		tx.Ops = append(tx.Ops, op)
	}
	if logged {
		tx.Log = &stream.Record{First: 1, Last: 1, Body: make([]byte, min(stream.Size(tx.Ops), store.MaxLogBody))}
	}
	return tx
}

// TestMemoryLimits writes the largest commits with each budget.
func TestMemoryLimits(t *testing.T) {
	for _, c := range []struct {
		memory int64
		full   bool // commits are as large as the protocol's
		follow bool // without a log record
	}{
		{0, true, true}, {200 << 20, false, true}, {badgerstore.MinMemory, false, false},
	} {
		t.Run(fmt.Sprint(c.memory), func(t *testing.T) {
			st := mustOpen(t, t.TempDir(), badgerstore.Options{NoSync: true, Memory: c.memory})
			defer closeStore(t, st)
			l := st.Limits()
			t.Logf("%+v", l)
			if l.Value != 1<<20-4096 {
				t.Errorf("a value may have %d bytes", l.Value)
			}
			follow := l.CommitBytes == stream.MaxCommitBytes && l.CommitOps == stream.MaxOps
			if full := follow && l.LoggedBytes == l.CommitBytes; full != c.full || follow != c.follow {
				t.Errorf("the limits are %+v", l)
			}
			if err := st.Write(fill(l.CommitBytes, false)); err != nil {
				t.Errorf("the largest commit without a log record: %v", err)
			}
			if err := st.Write(fill(l.LoggedBytes, true)); err != nil {
				t.Errorf("the largest commit with a log record: %v", err)
			}
			tx := &store.Txn{Ops: make([]stream.Op, l.CommitOps)}
			for i := range tx.Ops {
				tx.Ops[i].Key = binary.BigEndian.AppendUint32([]byte("op"), uint32(i))
			}
			if err := st.Write(tx); err != nil {
				t.Errorf("the commit with the most ops: %v", err)
			}
			if err := st.Write(fill(l.LoggedBytes+4096, true)); !errors.Is(err, store.ErrRefused) {
				t.Errorf("a commit that is too large with its log record: %v, want ErrRefused", err)
			}
		})
	}
}

// TestTooLittleMemory asks for a budget that cannot be kept.
func TestTooLittleMemory(t *testing.T) {
	_, err := badgerstore.Open(t.TempDir(), badgerstore.Options{Memory: badgerstore.MinMemory - 1})
	if !errors.Is(err, store.ErrRefused) {
		t.Errorf("Open with too little memory: %v, want ErrRefused", err)
	}
}

// TestLessMemoryAfterKill opens what a process with a larger budget left when it
// was killed: Badger panics when it reads a log into a table in memory that is
// smaller than the one it was of.
func TestLessMemoryAfterKill(t *testing.T) {
	dir, killed := t.TempDir(), t.TempDir()
	st := mustOpen(t, dir, badgerstore.Options{NoSync: true})
	const n, size = 45, 1<<20 - 4096 // more than a small table has room for
	for i := range n {
		err := st.Write(&store.Txn{Ops: []stream.Op{{Key: fmt.Appendf(nil, "%03d", i), Value: bytes.Repeat([]byte{byte(i)}, size)}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	copyDir(t, dir, killed)
	closeStore(t, st)
	st = mustOpen(t, killed, badgerstore.Options{NoSync: true, Memory: badgerstore.MinMemory})
	defer closeStore(t, st)
	got := items(t, st)
	if len(got) != n {
		t.Fatalf("%d items, want %d", len(got), n)
	}
	for i, it := range got {
		if want := fmt.Sprintf("%03d=", i) + string(bytes.Repeat([]byte{byte(i)}, size)); it != want {
			t.Fatalf("item %d is not as it was written", i)
		}
	}
}
