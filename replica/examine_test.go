package replica_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
)

// examine looks at a store that nobody runs.
func examine(t *testing.T, st store.Store) replica.Examination {
	t.Helper()
	ex, err := replica.Examine(st, merkle.XXH64())
	if err != nil {
		t.Fatal(err)
	}
	return ex
}

// Examine finds what a start would find, on either role, and changes nothing.
func TestExamine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 100, replica.MasterConfig{}, replica.FollowerConfig{})
		p.sync()
		p.f.stop()
		p.m.stop()
		if ex := examine(t, store.NewMemory()); !ex.Fresh || ex.Doubt != "" || ex.Meta.Role != 0 {
			t.Errorf("of a new store: %+v", ex)
		}
		m, f := p.m.st.Reopen(), p.f.st.Reopen()
		for name, st := range map[string]*store.Memory{"master": m, "follower": f} {
			ex := examine(t, st)
			if ex.Fresh || ex.Doubt != "" || ex.Meta.Role.String() != name || ex.Items != ex.Meta.Summary || ex.Items.Count < 100 || !ex.Meta.Clean {
				t.Errorf("of a whole %s: %+v", name, ex)
			}
		}
		if l := examine(t, m).Log; l.Err != nil || l.Records == 0 || l.First != 1 || l.Last != examine(t, m).Meta.Position.Offset {
			t.Errorf("the log: %+v", l)
		}
		if _, err := replica.Examine(m, mustSHA(t)); !identity("item hash", "xxh64", mustSHA(t).ID())(err) {
			t.Errorf("with another hash: %v", err)
		}
		m.Drop(keyOf(3))
		f.Tamper(keyOf(3), []byte("changed"))
		if ex := examine(t, m); ex.Doubt == "" || !ex.Lost || !strings.Contains(ex.Where, "stored range summaries no longer hold: ") {
			t.Errorf("of a master that lost a key: %+v", ex)
		}
		if ex := examine(t, f); ex.Doubt == "" || ex.Lost {
			t.Errorf("of a follower with a changed key: %+v", ex)
		}
		if again := examine(t, m); again.Doubt == "" || again.Meta.Seq != examine(t, m).Meta.Seq {
			t.Errorf("looking changed it: %+v", again)
		}
	})
}

func mustSHA(t *testing.T) merkle.Hasher {
	t.Helper()
	sha, err := merkle.SHA256(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return sha
}

// A log that lacks commits is said to.
func TestExamineFindsWhatTheLogLacks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := store.NewMemory()
		m := startMaster(t, st, replica.MasterConfig{})
		for range 10 {
			m.put("k", "v")
		}
		end := m.Status().Offset
		m.stop()
		st = st.Reopen()
		if _, err := st.Trim(5); err != nil {
			t.Fatal(err)
		}
		if l := examine(t, st).Log; !errors.Is(l.Err, store.ErrCorrupt) || !strings.Contains(l.Err.Error(), "lacks offsets 1 to ") {
			t.Errorf("with its beginning gone: %+v", l)
		}
		if _, err := st.Trim(end + 1); err != nil {
			t.Fatal(err)
		}
		if l := examine(t, st).Log; !errors.Is(l.Err, store.ErrCorrupt) {
			t.Errorf("with all of it gone: %+v", l)
		}
	})
}

// Where everything that range summaries tell of is whole, a refusal said that
// none of them fails to hold.
func TestRangesThatAllHoldSayWhatThatMeans(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := store.NewMemoryWith(store.MemoryConfig{Keep: 1000})
		m := startMaster(t, st, replica.MasterConfig{})
		m.fill(100, "v")
		m.stop()
		m = startMaster(t, st.Reopen(), replica.MasterConfig{})
		m.put("a", "1")
		m.put("b", "2")
		m.stop()
		st.Rollback(4) // to the first end, of which there are summaries
		d := refusal(t, st.Reopen(), replica.MasterConfig{})
		if strings.Contains(d.Where, "0 of") || !strings.Contains(d.Where, "what is wrong was written after that") && !strings.Contains(d.Where, "the keys are those of that offset") {
			t.Errorf("%q", d.Where)
		}
	})
}
