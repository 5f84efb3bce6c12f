package replica_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
)

// A simWorld is some nodes, of which one is the master, the network between
// them, and clients that write, read and watch. One goroutine, the driver,
// does what the plan says; it owns the nodes.
type simWorld struct {
	hub
	t    *testing.T
	plan *simPlan
	r    *simRecorder
	c    *simCounts

	nodes   []*simNode
	clients sync.WaitGroup
	stopc   chan struct{}
	quiet   atomic.Bool  // nobody is to write
	idle    atomic.Bool  // nobody is in a hurry
	writing atomic.Int64 // calls under way
	serial  atomic.Int64 // watchers so far
	bytes   atomic.Uint64

	mu    sync.Mutex // guards what clients see of the nodes
	lead  *simNode
	lines []string
}

// A simNode is a store, and the replica that runs over it.
type simNode struct {
	w    *simWorld
	n    int
	id   string
	plan simNodePlan
	rec  *simStore
	link *faultnet.Link
	g    garbler
	asks sync.WaitGroup

	// Written by the driver, under w.mu, as clients read them.
	m *master
	f *follower

	// Of the driver.
	tampered bool // behind the back of a running replica
	hurt     bool // the link has lost frames without breaking

	mu     sync.Mutex
	needs  string // what the last repair asked a person for
	asking bool
}

// begin starts everything.
func (w *simWorld) begin() {
	for i, np := range w.plan.nodes {
		n := &simNode{w: w, n: i, id: fmt.Sprint("n", i), plan: np, link: faultnet.New(w.plan.seed<<8 + uint64(i))}
		n.rec = &simStore{node: i, r: w.r, c: w.c, st: np.newMemory()}
		w.nodes = append(w.nodes, n)
	}
	w.lead = w.nodes[0]
	w.startLead(0)
	w.firstWrite()
	for _, n := range w.nodes[1:] {
		n.start()
	}
	w.startClients()
}

// end stops everything.
func (w *simWorld) end() {
	close(w.stopc)
	for _, n := range w.nodes {
		n.halt()
	}
	w.clients.Wait()
	for _, n := range w.nodes {
		n.link.Close()
		for f := range faultnet.Refuse + 1 {
			w.c.count("network: "+f.String(), int(n.link.Count(f)))
		}
	}
	w.c.count("bytes on the wire", int(w.bytes.Load()))
}

// say adds a line to the trace of the run.
func (w *simWorld) say(format string, args ...any) {
	line := fmt.Sprintf("%10.3fs ", time.Since(w.r.began).Seconds()) + fmt.Sprintf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, line)
}

// set changes what clients see.
func (w *simWorld) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// master returns the running master and its number, or nil.
func (w *simWorld) master() (*master, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lead.m, w.lead.n
}

// replicas returns what runs on a node: one of both, or neither.
func (n *simNode) replicas() (*master, *follower) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.m, n.f
}

// others returns the nodes that are not the master.
func (w *simWorld) others() (all []*simNode) {
	for _, n := range w.nodes {
		if n != w.lead {
			all = append(all, n)
		}
	}
	return all
}

// A meteredConn counts what a connection carries.
type meteredConn struct {
	net.Conn
	bytes *atomic.Uint64
}

func (c *meteredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(uint64(n))
	return n, err
}

func (c *meteredConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.bytes.Add(uint64(n))
	return n, err
}

func (c *meteredConn) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}
func (c *meteredConn) SetLinger(sec int) error {
	return c.Conn.(interface{ SetLinger(int) error }).SetLinger(sec)
}

func (n *simNode) dial(ctx context.Context) (net.Conn, error) {
	nc, err := n.link.Dialer(n.w.dial)(ctx)
	if err != nil {
		return nil, err
	}
	n.w.c.add("connections")
	return &meteredConn{nc, &n.w.bytes}, nil
}

// start makes a node follow.
func (n *simNode) start() {
	cfg := replica.FollowerConfig{
		ID: n.id, Dial: n.dial, Fault: n.g.fault, Scrub: n.plan.scrub, Repair: n.plan.policy, Heartbeat: n.plan.beat,
		Observer: n.w.c.observer(n.told, n.repaired),
	}
	f, err := replica.NewFollower(n.rec.open(), cfg)
	if err != nil {
		n.w.t.Fatalf("NewFollower: %v", err)
	}
	n.w.r.add(simEvent{kind: simRun, node: n.n, why: "follower"})
	run := &follower{Follower: f, running: start(n.w.t, f.Run), t: n.w.t}
	n.w.set(func() { n.f = run })
	n.w.clients.Go(func() { n.w.watchCopy(n, run) })
}

func (n *simNode) told(s replica.State, why string) {
	n.w.c.add("state: " + string(s))
	if s != replica.Connecting {
		n.w.say("    %s: %s %s", n.id, s, why)
	}
	switch {
	case strings.Contains(why, "the log starts at"):
		n.w.c.add("older than the log")
	case strings.Contains(why, "nothing was heard"):
		n.w.c.add("silence noticed")
	}
}

func (n *simNode) repaired(r replica.Report) {
	n.w.say("    %s: repair: %s %s put %d deleted %d rounds %d %s", n.id, r.Outcome, r.Reason, r.Put, r.Deleted, r.Rounds, r.NeedsConsent)
	c := n.w.c
	if r.NeedsConsent != "" {
		c.add("guard stopped a repair")
	}
	if r.Unsendable > 0 {
		c.add("unsendable keys met")
	}
	if r.Rounds > 1 {
		c.add("repair of several rounds")
	}
	if strings.HasPrefix(r.Reason, "the session ended") {
		c.add("repair cut off")
	}
	if r.Method != "" {
		c.add("compared by " + string(r.Method))
	}
	c.count("keys put by repairs", int(r.Put))
	c.count("keys deleted by repairs", int(r.Deleted))
	if r.DryRun {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.needs = r.NeedsConsent
}

// halt stops whatever runs on a node, as Ctrl-C does, and opens its store again.
func (n *simNode) halt() {
	n.end()
	n.rec.reload(n.w.t, n.rec.memory().Reopen(), true, "a stop")
}

// end stops whatever runs on a node.
func (n *simNode) end() {
	m, f := n.replicas()
	n.w.set(func() { n.m, n.f = nil, nil })
	switch {
	case m != nil:
		m.stop()
	case f != nil:
		f.stop()
		n.asks.Wait()
	}
	n.mu.Lock()
	n.needs = ""
	n.mu.Unlock()
}

// crash stops what runs on a node as a power cut does: up to so many of the
// newest transactions are lost, if they were not synced.
func (n *simNode) crash(most int) {
	st := n.rec.memory()
	lost := st.Crash(atMost(n.w.t, most, st))
	n.end()
	n.w.c.add("crash")
	n.w.c.count("transactions lost in a crash", lost)
	n.rec.reload(n.w.t, st.Reopen(), lost == 0, fmt.Sprintf("a crash that lost %d", lost))
}

// ended reports whether what runs on a node has ended by itself.
func (n *simNode) ended() (error, bool) {
	m, f := n.replicas()
	var r *running
	switch {
	case m != nil:
		r = m.running
	case f != nil:
		r = f.running
	default:
		return nil, false
	}
	select {
	case <-r.donec:
		return r.err, true
	default:
		return nil, false
	}
}

// startLead starts the master. If its store is not what it should be, a person
// decides: to take it as it is, to take a follower's copy for the truth, or to
// promote one.
func (w *simWorld) startLead(choice int) {
	var accept *replica.DamageError
	for range 5 {
		n, cfg := w.lead, w.plan.master
		cfg.Listener = w.listen()
		if accept != nil {
			cfg.AcceptDataLoss, cfg.AcceptStore = accept.Lost, !accept.Lost
		}
		w.r.add(simEvent{kind: simRun, node: n.n, why: "master"})
		m := startOver(w.t, n.rec.open(), cfg)
		select {
		case <-m.Ready():
			w.set(func() { n.m = m })
			w.say("n%d is the master, in epoch %.8s from %d", n.n, m.Status().Epoch, m.Status().Offset)
			return
		case <-m.donec:
		}
		if _, ok := errors.AsType[*replica.IdentityError](m.err); ok {
			w.promoteAgain()
			continue
		}
		damage, ok := errors.AsType[*replica.DamageError](m.err)
		if !ok {
			w.t.Fatalf("the master does not start: %v", m.err)
		}
		w.say("n%d refuses to start: %v", n.n, damage)
		w.c.add("master refused to start")
		accept = w.decide(choice, damage)
		choice = 0
	}
	w.t.Fatalf("the master does not start")
}

// promoteAgain promotes a node whose promotion was lost, as without sync in a power
// cut, or another one if what is there now is not complete.
func (w *simWorld) promoteAgain() {
	w.c.add("promotion lost")
	w.r.add(simEvent{kind: simConsent, node: w.lead.n, why: "promotion"})
	pos, err := replica.Promote(w.lead.rec.open(), merkle.XXH64(), false)
	w.say("promote n%d again: at %d, %v", w.lead.n, pos.Offset, err)
	if err == nil || slices.ContainsFunc(w.others(), w.promote) {
		return
	}
	w.c.add("no complete copy was left")
	w.t.SkipNow()
}

// decide is a person's decision about a damaged master.
func (w *simWorld) decide(choice int, damage *replica.DamageError) *replica.DamageError {
	others := w.others()
	other := others[choice/3%len(others)]
	switch choice % 3 {
	case 1:
		if w.restoreFrom(other) {
			return nil
		}
	case 2:
		if w.promote(other) {
			return nil
		}
	}
	w.say("a person accepts the damage")
	w.c.add("loss accepted")
	w.r.add(simEvent{kind: simConsent, node: w.lead.n, why: "accepts what is there"})
	return damage
}

// restoreFrom makes the stopped master hold what a follower holds.
func (w *simWorld) restoreFrom(other *simNode) bool {
	other.halt()
	w.r.add(simEvent{kind: simConsent, node: w.lead.n, why: "restore from " + other.id})
	rep, err := replica.Restore(context.Background(), w.lead.rec.open(), other.rec.open(), merkle.XXH64(), false)
	w.say("restore from %s: %s, %v", other.id, rep.Outcome, err)
	other.start()
	if err != nil {
		if !errors.Is(err, replica.ErrIncomplete) && !w.lead.demoted(err) {
			w.t.Errorf("Restore: %v", err)
		}
		w.c.add("restore refused")
		return false
	}
	w.c.add("restored from a follower")
	w.lead.rec.reload(w.t, w.lead.rec.memory().Reopen(), true, "a restore")
	return true
}

// demoted reports whether an error says that a node which was promoted has lost
// that with its newest transactions, and so it has: it is a follower again.
func (n *simNode) demoted(err error) bool {
	if _, ok := errors.AsType[*replica.IdentityError](err); !ok {
		return false
	}
	v, err := n.rec.memory().View()
	if err != nil {
		n.w.t.Fatalf("View: %v", err)
	}
	defer v.Close()
	m, err := v.Meta()
	return err == nil && m.Role == store.Follower
}

// promote makes a follower the master; the one before, which is stopped, loses
// its store and follows.
func (w *simWorld) promote(other *simNode) bool {
	other.halt()
	w.r.add(simEvent{kind: simConsent, node: other.n, why: "promotion"})
	pos, err := replica.Promote(other.rec.open(), merkle.XXH64(), false)
	w.say("promote %s: at %d, %v", other.id, pos.Offset, err)
	if err != nil {
		if !errors.Is(err, replica.ErrIncomplete) {
			w.t.Errorf("Promote: %v", err)
		}
		w.c.add("promotion refused")
		other.start()
		return false
	}
	w.c.add("promotion")
	old := w.lead
	w.set(func() { w.lead = other })
	old.rec.reload(w.t, old.plan.newMemory(), false, "wiped")
	old.start()
	return true
}

// revive starts again what has ended by itself, as an init system does.
func (w *simWorld) revive() {
	for _, n := range w.nodes {
		err, ended := n.ended()
		if !ended {
			continue
		}
		w.say("n%d ended: %v", n.n, err)
		w.c.add("ended by itself")
		if !errors.Is(err, replica.ErrOutcomeUnknown) && !errors.Is(err, store.ErrRefused) && !errors.Is(err, errIO) {
			w.t.Errorf("%s ended by itself: %v", n.id, err)
		}
		n.halt()
		if n == w.lead {
			w.startLead(0)
		} else {
			n.start()
		}
	}
}
