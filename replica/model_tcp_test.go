package replica_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/stream"
	"github.com/sdiff/sdiff/transport"
)

// A tcpWorld is a master and its followers over real sockets and databases, in
// real time. It is a smaller sister of world: what happens is drawn from a
// fixed seed, when it happens is not.
type tcpWorld struct {
	t      *testing.T
	rng    *rand.Rand
	ledger *ledger
	counts *counts
	want   map[string]string
	serial int

	dir    string
	addr   string
	st     *badgerstore.Store
	m      *master
	copies []*tcpCopy
}

type tcpCopy struct {
	w    *tcpWorld
	id   string
	dir  string
	st   *badgerstore.Store
	rec  *copyStore
	f    *follower
	link *faultnet.Link
	g    garbler
	// changed has a token when the follower's state has changed.
	changed chan struct{}
}

func openBadger(t *testing.T, dir string) *badgerstore.Store {
	t.Helper()
	st, err := badgerstore.Open(dir, badgerstore.Options{NoSync: true, Memory: badgerstore.MinMemory, Reserve: -1})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return st
}

func (w *tcpWorld) startMaster() {
	w.t.Helper()
	addr := w.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := transport.Listen(addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.addr = l.Addr().String()
	w.st = openBadger(w.t, w.dir)
	w.m = startOver(w.t, &masterStore{Store: w.st, l: w.ledger, c: w.counts}, replica.MasterConfig{
		Listener: l, TailBytes: 2000, LogBytes: 200_000, Heartbeat: 20 * time.Millisecond, Silence: time.Second, Scrub: -1,
	})
	<-w.m.Ready()
}

func (w *tcpWorld) stopMaster() {
	w.m.stop()
	w.st.Close()
}

func (w *tcpWorld) newCopy(id string) *tcpCopy {
	c := &tcpCopy{w: w, id: id, dir: w.t.TempDir(), link: faultnet.New(w.rng.Uint64()), changed: make(chan struct{}, 1)}
	w.t.Cleanup(func() { c.link.Close() })
	c.rec = newCopyStore(w.t, nil, id, w.ledger, w.counts)
	c.start()
	return c
}

func (c *tcpCopy) start() {
	c.w.t.Helper()
	c.st = openBadger(c.w.t, c.dir)
	c.rec.reopen(c.st, 0)
	f, err := replica.NewFollower(c.rec, replica.FollowerConfig{
		ID: c.id, Dial: c.link.Dialer(transport.DialTCP(c.w.addr)), Fault: c.g.fault,
		Heartbeat: 20 * time.Millisecond, Silence: time.Second, Scrub: -1,
		Observer: replica.Observer{State: func(replica.State, string) {
			select {
			case c.changed <- struct{}{}:
			default:
			}
		}},
	})
	if err != nil {
		c.w.t.Fatal(err)
	}
	c.f = &follower{Follower: f, running: start(c.w.t, f.Run), t: c.w.t}
	<-f.Ready()
}

func (c *tcpCopy) halt() {
	c.f.stop()
	c.st.Close()
	c.f = nil
}

func (w *tcpWorld) write(n int) stream.Position {
	w.t.Helper()
	var ops []stream.Op
	for range n {
		w.serial++
		op := stream.Op{Key: fmt.Appendf(nil, "k%03d", w.rng.IntN(300)), Delete: w.rng.IntN(4) == 0}
		if !op.Delete {
			op.Value = fmt.Appendf(nil, "v%d", w.serial)
		}
		ops = append(ops, op)
	}
	pos, err := w.m.Write(w.t.Context(), ops)
	if err != nil {
		w.t.Fatalf("Write: %v", err)
	}
	for _, op := range ops {
		delete(w.want, string(op.Key))
		if !op.Delete {
			w.want[string(op.Key)] = string(op.Value)
		}
	}
	return pos
}

// drift has another program change a follower's database while it is stopped.
func (c *tcpCopy) drift() {
	c.halt()
	defer c.start()
	db, err := badger.Open(badger.DefaultOptions(c.dir).WithLoggingLevel(badger.ERROR))
	if err != nil {
		c.w.t.Fatal(err)
	}
	defer db.Close()
	batch := db.NewWriteBatch()
	for i := range 1 + c.w.rng.IntN(20) {
		key := fmt.Sprintf("k%03d", c.w.rng.IntN(300))
		if i%2 == 0 {
			err = errors.Join(err, batch.Delete([]byte(key)))
			c.rec.inject(key, version{})
		} else {
			err = errors.Join(err, batch.Set([]byte(key), []byte("drift")))
			c.rec.inject(key, version{value: "drift", there: true})
		}
	}
	if err := errors.Join(err, batch.Flush()); err != nil {
		c.w.t.Fatal(err)
	}
	c.w.counts.add("found at open")
}

// repair waits until the follower has a position, and then until a repair has
// found it to be the master's. It fails after half a minute.
func (c *tcpCopy) repair(pos stream.Position) {
	c.w.t.Helper()
	ctx, cancel := context.WithTimeout(c.w.t.Context(), 30*time.Second)
	defer cancel()
	for {
		err := c.f.WaitFor(ctx, pos)
		if errors.Is(err, replica.ErrUnknownEpoch) {
			// It has not heard of the master that was started last.
			select {
			case <-c.changed:
				continue
			case <-ctx.Done():
			}
		}
		if err != nil {
			c.w.t.Fatalf("%s: WaitFor: %v; %s", c.id, err, brief(c.f.Status()))
		}
		rep, err := c.f.Repair(ctx, replica.RepairOptions{AllowMassDelete: true})
		if err != nil && errors.Is(err, replica.ErrNotConnected) {
			continue
		}
		switch {
		case err == nil && (rep.Outcome == replica.Same || rep.Outcome == replica.Repaired):
			c.w.counts.add("repair: " + string(rep.Outcome))
			return
		case err != nil:
			c.w.t.Fatalf("%s: Repair: %+v, %v", c.id, rep, err)
		}
	}
}

// step does one thing to the world.
func (w *tcpWorld) step(i int) {
	c := w.copies[w.rng.IntN(len(w.copies))]
	switch i % 8 {
	case 0:
		c.link.Cut(faultnet.Reset)
	case 1:
		c.link.CutAfter(faultnet.In, w.rng.IntN(20_000), faultnet.Reset)
	case 2:
		c.halt()
		w.write(10)
		c.start()
	case 3:
		c.drift()
	case 4:
		c.g.set(func([]stream.Op) []stream.Op { c.rec.garble(); return nil })
		c.f.WaitFor(w.t.Context(), w.write(10))
		c.g.set(nil)
	case 5:
		c.link.SplitMax(faultnet.Both, 1+w.rng.IntN(50))
	case 6:
		w.stopMaster()
		w.startMaster()
	case 7:
		var wg sync.WaitGroup
		wg.Go(func() { c.f.Repair(w.t.Context(), replica.RepairOptions{DryRun: true}) })
		for range 50 {
			w.write(20)
		}
		wg.Wait()
	}
	for range 10 {
		w.write(1 + w.rng.IntN(10))
	}
}

// TestModelOverTCP is the model over sockets and Badger, in real time.
func TestModelOverTCP(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	w := &tcpWorld{t: t, rng: rand.New(rand.NewPCG(1, 1)), ledger: newLedger(), counts: &counts{}, want: map[string]string{}, dir: t.TempDir()}
	w.startMaster()
	for i := range 2 {
		w.copies = append(w.copies, w.newCopy(fmt.Sprint("f", i)))
	}
	w.write(200)
	for i := range 40 {
		w.step(i)
	}
	for _, c := range w.copies {
		c.link.Heal()
		c.link.Cut(faultnet.Reset)
		c.g.set(nil)
	}
	pos := w.write(10)
	for _, c := range w.copies {
		c.repair(pos)
		got := contents(t, c.st)
		if fmt.Sprint(got) != fmt.Sprint(w.want) {
			t.Errorf("%s holds %d items, which are not the %d that were written", c.id, len(got), len(w.want))
		}
		if s := c.f.Status(); s.Fingerprint != fingerprint(got).String() || s.Fingerprint != w.m.Status().Fingerprint {
			t.Errorf("%s: fingerprint %s, the master's is %s, from the items it is %v", c.id, s.Fingerprint, w.m.Status().Fingerprint, fingerprint(got))
		}
		c.halt()
	}
	if got := contents(t, w.st); fmt.Sprint(got) != fmt.Sprint(w.want) {
		t.Errorf("the master holds %d items, which are not the %d that were written", len(got), len(w.want))
	}
	w.stopMaster()
	t.Logf("happened:\n%v", w.counts)
}
