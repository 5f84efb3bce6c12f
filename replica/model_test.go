package replica_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A source makes the choices of a model run: rapid's, which can shrink them,
// or those of a fixed seed.
type source interface {
	// pick returns a number from 0 up to but without n.
	pick(label string, n int) int
}

type drawn struct{ *rapid.T }

func (d drawn) pick(label string, n int) int { return rapid.IntRange(0, n-1).Draw(d.T, label) }

type seeded struct{ *rand.Rand }

func (s seeded) pick(_ string, n int) int { return s.IntN(n) }

// A world is a master, its followers, the network between them, and a map that
// says what they should hold in the end.
type world struct {
	hub
	t      tester
	src    source
	ledger *ledger
	counts *counts

	mu     sync.Mutex // guards what the background writer shares
	m      *master
	want   map[string]string
	unsure map[string]change // writes whose outcome is not known, by key

	mst    *store.Memory
	mrec   *masterStore
	mcfg   replica.MasterConfig
	copies []*modelCopy
	serial int
	quiet  func() // ends the background writer
}

// A change is what a key was and what a write was to make of it.
type change struct{ was, is version }

// A modelCopy is one follower of a world.
type modelCopy struct {
	w    *world
	st   *store.Memory
	rec  *copyStore
	f    *follower // nil while it is stopped
	cfg  replica.FollowerConfig
	link *faultnet.Link
	g    garbler
	asks sync.WaitGroup
	// mirror is what a watcher of f has seen.
	mirror *mirror
}

func newWorld(t tester, src source, c *counts) *world {
	w := &world{t: t, src: src, counts: c, ledger: newLedger(), want: map[string]string{}, unsure: map[string]change{}}
	w.mst = store.NewMemoryWith(store.MemoryConfig{NoSync: src.pick("no sync", 2) == 0, Keep: 50})
	w.mcfg = replica.MasterConfig{
		TailBytes:  []int{1, 4 << 10, 1 << 20}[src.pick("tail", 3)],
		LogBytes:   []int64{30 << 10, 300 << 10}[src.pick("log", 2)],
		MaxRepairs: 1 + src.pick("repairs", 2), Scrub: -1,
	}
	w.startMaster()
	for i := range 1 + src.pick("followers", 3) {
		w.copies = append(w.copies, w.newCopy(fmt.Sprint("f", i)))
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		w.writeOn(stop)
		close(stopped)
	}()
	w.quiet = sync.OnceFunc(func() {
		close(stop)
		<-stopped
	})
	watching, unwatch := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() {
		w.watchMaster(watching)
		close(watched)
	}()
	t.Cleanup(func() {
		unwatch()
		<-watched
		w.quiet()
		for _, c := range w.copies {
			c.link.Close()
		}
	})
	return w
}

func (w *world) newCopy(id string) *modelCopy {
	c := &modelCopy{w: w, link: faultnet.New(uint64(w.src.pick("link", 1000)))}
	c.st = store.NewMemoryWith(store.MemoryConfig{NoSync: w.src.pick("no sync", 3) == 0, Keep: 20})
	c.rec = newCopyStore(w.t, c.st, id, w.ledger, w.counts)
	policies := []replica.RepairPolicy{{}, {}, {NoDrift: true}, {NoConnect: true}, {Manual: true}, {Every: 5 * time.Second}}
	c.cfg = replica.FollowerConfig{
		ID: id, Dial: c.link.Dialer(w.dial), Fault: c.g.fault, Scrub: -1,
		Repair: policies[w.src.pick("policy", len(policies))],
		Observer: replica.Observer{
			Repair: c.ended,
			Drift:  func(stream.Position, merkleSummary) { w.counts.add("drift noticed") },
			State:  c.became,
		},
	}
	if w.src.pick("scrub", 2) == 0 {
		c.cfg.Scrub = 0.5
	}
	c.start()
	return c
}

// blame fails the test if a session ended because the other side was said to
// break the protocol: nobody here does.
func (c *modelCopy) blame(why string) {
	for _, broken := range []string{"a chunk", "comparison at", "came after", "acknowledged", "head is", "bad ", "comparison message", "declared over", "goes on from"} {
		if strings.Contains(why, broken) {
			c.w.t.Errorf("%s: %s", c.cfg.ID, why)
		}
	}
}

func (c *modelCopy) became(s replica.State, why string) {
	c.blame(why)
	if s == replica.Parked {
		c.w.counts.add("parked")
	}
}

// ended counts how repairs end.
func (c *modelCopy) ended(r replica.Report) {
	c.blame(r.Reason)
	c.w.counts.add("repair: " + string(r.Outcome))
	switch {
	case r.NeedsConsent != "":
		c.w.counts.add("guard stopped a repair")
	case strings.HasPrefix(r.Reason, "the session ended") && r.Put > 0:
		c.w.counts.add("repair cut off in the middle")
	case strings.HasPrefix(r.Reason, "the session ended"):
		c.w.counts.add("repair cut off")
	}
	if r.Rounds > 1 {
		c.w.counts.add("repair of several rounds")
	}
}

func (w *world) startMaster() {
	cfg := w.mcfg
	cfg.Listener = w.listen()
	w.mrec = &masterStore{Store: w.mst, l: w.ledger, c: w.counts}
	m := startOver(w.t, w.mrec, cfg)
	m.st = w.mst
	select {
	case <-m.Ready():
	case <-m.donec:
		w.t.Fatalf("the master does not start: %v", m.err)
	}
	w.mu.Lock()
	w.m = m
	w.mu.Unlock()
	w.settle()
}

// settle finds out, from a master that has just started, what became of the
// writes whose outcome is not known, and of those that a crash without sync
// has lost.
func (w *world) settle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := contents(w.t, w.mst)
	if w.lossy() {
		w.want = now
	}
	for key, c := range w.unsure {
		value, there := now[key]
		if v := (version{value: value, there: there}); v != c.was && v != c.is && !w.lossy() {
			w.t.Errorf("%q is %.20q (%v), neither what it was, %.20q, nor what was written, %.20q", key, value, there, c.was.value, c.is.value)
		}
		delete(w.want, key)
		if there {
			w.want[key] = value
		}
	}
	clear(w.unsure)
}

func (w *world) lossy() bool { return !w.mst.Info().Sync }

func (c *modelCopy) start() {
	f, err := replica.NewFollower(c.rec, c.cfg)
	if err != nil {
		c.w.t.Fatalf("NewFollower: %v", err)
	}
	c.f = &follower{Follower: f, running: start(c.w.t, f.Run), t: c.w.t, st: c.st}
	c.mirror = &mirror{}
	go c.follow(c.f, c.mirror)
}

// ops draws a commit over a small space of keys. Values are unique, so that
// each says when it was written.
func (w *world) ops(n int) []stream.Op {
	ops := make([]stream.Op, 0, n)
	for range n {
		op := stream.Op{Key: fmt.Appendf(nil, "k%03d", w.src.pick("key", 150))}
		if op.Delete = w.src.pick("delete", 4) == 0; !op.Delete {
			op.Value = w.value("v")
		}
		ops = append(ops, op)
	}
	return ops
}

func (w *world) value(kind string) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serial++
	return fmt.Appendf(nil, "%s%d%s", kind, w.serial, bytes.Repeat([]byte{'.'}, w.serial*37%400))
}

// note makes the map hold what ops write.
func (w *world) note(ops []stream.Op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, op := range ops {
		if op.Delete {
			delete(w.want, string(op.Key))
		} else {
			w.want[string(op.Key)] = string(op.Value)
		}
	}
}

// doubt notes that the outcome of writing ops may come to be unknown.
func (w *world) doubt(ops []stream.Op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, op := range ops {
		key := string(op.Key)
		c, twice := w.unsure[key]
		if value, there := w.want[key]; !twice {
			c.was = version{value: value, there: there}
		}
		c.is = version{value: string(op.Value), there: !op.Delete}
		w.unsure[key] = c
	}
}

// wrote takes the result of a write. A refused one had no effect; one whose
// outcome is unknown stays in doubt, and the master is started again.
func (w *world) wrote(ops []stream.Op, err error) {
	switch {
	case err == nil:
		w.note(ops)
	case errors.Is(err, store.ErrNoSpace):
		w.counts.add("write refused")
	case errors.Is(err, replica.ErrOutcomeUnknown), errors.Is(err, replica.ErrClosed):
		w.counts.add("outcome unknown")
		w.m.wait()
		w.mst = w.mst.Reopen()
		w.startMaster()
		return
	default:
		w.t.Fatalf("write: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, op := range ops {
		delete(w.unsure, string(op.Key))
	}
}

func (w *world) write(ops []stream.Op) {
	w.doubt(ops)
	_, err := w.m.Write(context.Background(), ops)
	w.wrote(ops, err)
}

// update reads a key and writes what it read to another.
func (w *world) update() {
	from, to := w.ops(1)[0].Key, w.ops(1)[0].Key
	var wrote []stream.Op
	_, err := w.m.Update(context.Background(), func(tx *replica.Tx) error {
		wrote = wrote[:0]
		v, err := tx.Get(from)
		if err != nil && !errors.Is(err, replica.ErrNotFound) {
			return err
		}
		w.mu.Lock()
		want := w.want[string(from)]
		w.mu.Unlock()
		if string(v) != want {
			return fmt.Errorf("Update read %.20q, want %.20q", v, want)
		}
		op := stream.Op{Key: to, Value: append(w.value("u"), v[:min(len(v), 20)]...)}
		wrote = append(wrote, op)
		w.doubt(wrote)
		return tx.Put(op.Key, op.Value)
	})
	w.wrote(wrote, err)
}

// writeOn is the background writer: it writes all the time to keys of its own,
// and finds the master stopped now and then.
func (w *world) writeOn(stop <-chan struct{}) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rng.IntN(200)) * time.Millisecond):
		}
		op := stream.Op{Key: fmt.Appendf(nil, "bg%02d", rng.IntN(30)), Value: w.value("b")}
		if op.Delete = rng.IntN(5) == 0; op.Delete {
			op.Value = nil
		}
		ops := []stream.Op{op}
		w.doubt(ops)
		w.mu.Lock()
		m := w.m
		w.mu.Unlock()
		switch _, err := m.Write(context.Background(), ops); {
		case errors.Is(err, replica.ErrClosed), errors.Is(err, replica.ErrOutcomeUnknown):
			// Whoever starts the next master settles it.
		default:
			w.wrote(ops, err)
		}
	}
}

func runModel(t tester, src source, steps int, c *counts) {
	w := newWorld(t, src, c)
	for range steps {
		w.step()
	}
	w.quiet()
	w.heal()
	w.check()
}

// TestModel runs random writes, disconnects, restarts, drifts and repairs
// against a map, in fake time. A failure shrinks.
func TestModel(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		f.Value.Set("15")
		defer f.Value.Set(f.DefValue)
	}
	rapid.Check(t, func(rt *rapid.T) {
		rapid.SyncTest(rt, func(rt *rapid.T) {
			runModel(rt, drawn{rt}, rapid.IntRange(1, 30).Draw(rt, "steps"), &counts{})
		})
	})
}

var (
	modelFirst = flag.Uint64("model.first", 0, "the first seed of TestModelReachesRarePaths")
	modelSeeds = flag.Uint64("model.seeds", 40, "how many seeds it runs over")
	modelSteps = flag.Int("model.steps", 40, "how many steps each run has")
)

// TestModelReachesRarePaths runs the model over fixed seeds and fails if any
// of the paths that the model is there for was never taken.
func TestModelReachesRarePaths(t *testing.T) {
	var c counts
	seeds := *modelSeeds
	if raced && seeds == 40 {
		seeds = 12
	}
	for seed := *modelFirst; seed < *modelFirst+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runModel(t, seeded{rand.New(rand.NewPCG(seed, 7))}, *modelSteps, &c)
			})
		})
	}
	t.Logf("happened:\n%v", &c)
	if t.Failed() || seeds < 40 {
		return
	}
	for _, rare := range []string{
		"repair cut off", "repair cut off in the middle", "log read behind the tail", "guard stopped a repair", "parked",
		"garbled transaction", "drift noticed", "repair of several rounds", "chunk of a repair", "rollback accepted",
		"watch: trimmed", "watch: gap", "watch: mirror of a copy", "watch: change of the master",
		"write refused", "outcome unknown", "copy refused a write", "copy was poisoned",
		"repair: same", "repair: different", "repair: repaired", "repair: could not tell", "found at open", "new epoch",
	} {
		if c.n[rare] == 0 {
			t.Errorf("it never happened: %s", rare)
		}
	}
}
