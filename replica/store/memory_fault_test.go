package store_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

func put(key, value string) *store.Txn {
	return &store.Txn{Ops: []stream.Op{{Key: []byte(key), Value: []byte(value)}}}
}

func content(t *testing.T, st store.Store) string {
	t.Helper()
	v, err := st.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var got []string
	if err := v.Ascend(nil, nil, func(k, v []byte) bool {
		got = append(got, string(k)+"="+string(v))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	m, err := v.Meta()
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return fmt.Sprint(m.Seq, got)
}

func TestMemoryFailures(t *testing.T) {
	m := store.NewMemory()
	mine := errors.New("mine")
	step := func(what string, err, want error, now string) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if got := content(t, m); got != now {
			t.Errorf("%s: the store holds %s, want %s", what, got, now)
		}
	}
	m.FailNext(store.ErrNoSpace)
	step("no space", m.Write(put("a", "1")), store.ErrRefused, "0 []")
	step("space again", m.Write(put("a", "1")), nil, "1 [a=1]")
	m.FailNext(mine)
	step("a failure", m.Write(put("a", "2")), mine, "1 [a=1]")
	step("after it", m.Write(put("a", "2")), store.ErrPoisoned, "1 [a=1]")
	m = m.Reopen()
	m.FailAfter(mine)
	step("a failure after writing", m.Write(put("a", "3")), mine, "2 [a=3]")
	step("after it", m.Write(put("a", "4")), store.ErrPoisoned, "2 [a=3]")
	m = m.Reopen()
	step("reopened", m.Write(put("b", "1")), nil, "3 [a=3 b=1]")
	m.Tamper([]byte("c"), []byte("x"))
	m.Drop([]byte("a"))
	m.SetMeta(func(m *store.Meta) { m.Seq = 9 })
	step("tampered", nil, nil, "9 [b=1 c=x]")
	m.FailReads(store.ErrCorrupt)
	v, err := m.View()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Get([]byte("b")); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Get: %v, want ErrCorrupt", err)
	}
	if old := m; m.Reopen() == old || !errors.Is(old.Write(put("a", "")), store.ErrClosed) {
		t.Error("a store that was reopened can still be written through")
	}
}

func TestMemoryCrash(t *testing.T) {
	m := store.NewMemoryWith(store.MemoryConfig{NoSync: true, Keep: 5})
	if m.Info().Sync {
		t.Error("a store without sync says that it syncs")
	}
	write := func(n int) {
		t.Helper()
		for i := range n {
			tx := put("k", fmt.Sprint(i))
			tx.Meta.Summary = merkle.Summary{Count: 1, Sum: uint64(i)}
			if err := m.Write(tx); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(10)
	if lost := m.Crash(3); lost != 3 {
		t.Errorf("Crash(3) lost %d", lost)
	}
	if err := m.Write(put("a", "")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Write after a crash: %v, want ErrClosed", err)
	}
	m = m.Reopen()
	if got, h := content(t, m), m.Info().Head; got != "7 [k=6]" || h == nil || h.Seq != 7 || h.Summary.Sum != 6 {
		t.Errorf("after the crash: %s, head %+v", got, h)
	}
	if lost := m.Crash(100); lost != 2 { // of the five kept, three are used up
		t.Errorf("Crash(100) lost %d, want 2", lost)
	}
	m = m.Reopen()
	write(4)
	if lost := m.Rollback(2); lost != 2 {
		t.Errorf("Rollback(2) lost %d", lost)
	}
	m = m.Reopen()
	if got, h := content(t, m), m.Info().Head; got != "7 [k=1]" || h == nil || h.Seq != 9 {
		t.Errorf("after the rollback: %s, head %+v", got, h)
	}
	write(2)
	if lost := m.Restore(1); lost != 1 {
		t.Errorf("Restore(1) lost %d", lost)
	}
	m = m.Reopen()
	if got, h := content(t, m), m.Info().Head; got != "8 [k=0]" || h == nil || h.Seq != 8 {
		t.Errorf("after a backup was put in its place: %s, head %+v", got, h)
	}
	synced := store.NewMemory()
	if err := synced.Write(put("a", "1")); err != nil {
		t.Fatal(err)
	}
	if lost := synced.Crash(9); lost != 0 || content(t, synced.Reopen()) != "1 [a=1]" {
		t.Error("a crash of a store with sync lost something")
	}
}
