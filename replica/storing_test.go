package replica_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
)

// A holding store says only when it is told to that what was started has ended.
type holding struct {
	store.Store
	held    atomic.Bool
	started atomic.Int64
	endc    chan error // how the next that was held ends
}

func (s *holding) Start(tx *store.Txn, endc chan<- error) error {
	if err := s.Write(tx); err != nil {
		return err
	}
	if s.started.Add(1); !s.held.Load() {
		endc <- nil
		return nil
	}
	go func() { endc <- <-s.endc }()
	return nil
}

// withHolding has a conversation with an empty follower over a holding store, as its
// master, which holds the keys a and b and is about to send them.
func withHolding(t *testing.T, talk func(t *testing.T, st *holding, m *puppetMaster, f *follower, p *testPeer, id uint64)) {
	bubble(t, func(t *testing.T) {
		m := newPuppetMaster(t)
		mem := store.NewMemory()
		st := &holding{Store: mem, endc: make(chan error)}
		f, err := replica.NewFollower(st, replica.FollowerConfig{ID: "f", Dial: m.l.Dial, Scrub: -1, Repair: manual})
		if err != nil {
			t.Fatal(err)
		}
		fl := &follower{Follower: f, running: start(t, f.Run), t: t, st: mem}
		m.commit("a", "1")
		m.commit("b", "2")
		p, _ := m.accept()
		m.welcome(p, false)
		id, s := m.begin(p)
		m.compare(p, id, s)
		talk(t, st, m, fl, p, id)
	})
}

// A chunk is acknowledged when it is stored, not before, and nothing that comes
// behind it is handled until then.
func TestR5ChunksAreAcknowledgedWhenStored(t *testing.T) {
	withHolding(t, func(t *testing.T, st *holding, m *puppetMaster, f *follower, p *testPeer, id uint64) {
		st.held.Store(true)
		before := st.started.Load()
		p.send(items, id, 1, 2, []any{[]byte("a"), []byte("1")})
		p.wantIdle("a chunk on its way is not acknowledged", 100*time.Millisecond)
		p.sendRaw(commits, m.commit("c", "3"))
		p.wantIdle("a commit waits for the chunk", 100*time.Millisecond)
		if n := st.started.Load() - before; n != 1 {
			t.Errorf("%d transactions were started, want the chunk", n)
		}
		st.held.Store(false)
		st.endc <- nil
		p.want("the chunk is acknowledged", chunkAck)
		p.wantAck("the commit is stored", 3)
		p.send(items, id, 2, 3, []any{[]byte("b"), []byte("2")})
		p.want("the next chunk is acknowledged", chunkAck)
		p.send(syncDone, id, m.pos, 0, 0, "")
		if r := p.want("it says how that ended", syncResult); r.fields[1] != "repaired" {
			t.Errorf("%v, want repaired", r)
		}
		if got := contents(t, f.st); fmt.Sprint(got) != "map[a:1 b:2 c:3]" {
			t.Errorf("it holds %q", got)
		}
	})
}

// The next chunk is started while one is on its way, and both are acknowledged
// in order.
func TestChunksOverlap(t *testing.T) {
	withHolding(t, func(t *testing.T, st *holding, m *puppetMaster, f *follower, p *testPeer, id uint64) {
		st.held.Store(true)
		before := st.started.Load()
		p.send(items, id, 1, 2, []any{[]byte("a"), []byte("1")})
		synctest.Wait()
		p.send(items, id, 2, 2, []any{[]byte("b"), []byte("2")})
		synctest.Wait()
		if n := st.started.Load() - before; n != 2 {
			t.Errorf("%d transactions were started, want both chunks", n)
		}
		st.held.Store(false)
		for seq := range uint64(2) {
			st.endc <- nil
			if a := p.want("each chunk is acknowledged", chunkAck); a.num(t, 1) != seq+1 {
				t.Errorf("%v, want that of chunk %d", a, seq+1)
			}
		}
	})
}

// L6 for followers: a chunk whose outcome is unknown ends the follower, and
// neither it nor what was started behind it is acknowledged.
func TestChunkThatFailsEndsTheFollower(t *testing.T) {
	withHolding(t, func(t *testing.T, st *holding, m *puppetMaster, f *follower, p *testPeer, id uint64) {
		st.held.Store(true)
		p.send(items, id, 1, 2, []any{[]byte("a"), []byte("1")})
		synctest.Wait()
		p.send(items, id, 2, 2, []any{[]byte("b"), []byte("2")})
		synctest.Wait()
		eio := errors.New("input/output error")
		go func() { st.endc <- eio; st.endc <- nil }()
		<-f.donec
		if err := f.err; !errors.Is(err, replica.ErrOutcomeUnknown) || !errors.Is(err, eio) {
			t.Errorf("Run: %v, want that the outcome is unknown", err)
		}
		p.wantEnd("nothing is acknowledged", bye, replica.CodeEnding, "going down")
	})
}

// However many frames wait, all are taken, in turns.
func TestManyChunksInOneGo(t *testing.T) {
	withHolding(t, func(t *testing.T, st *holding, m *puppetMaster, f *follower, p *testPeer, id uint64) {
		st.held.Store(true)
		const chunks = 200 // more than one turn takes
		go func() {
			for range chunks {
				time.Sleep(time.Millisecond) // until the next is prepared and there are more
				st.endc <- nil
			}
		}()
		go func() {
			for seq := range uint64(chunks) {
				p.send(items, id, seq+1, 2, []any{[]byte("a"), []byte("1")})
			}
		}()
		for seq := range uint64(chunks) {
			if a := p.want("each chunk is acknowledged", chunkAck); a.num(t, 1) != seq+1 {
				t.Fatalf("%v, want that of chunk %d", a, seq+1)
			}
		}
		st.held.Store(false)
	})
}
