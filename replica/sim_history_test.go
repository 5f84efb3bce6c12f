package replica_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A simKind is what a simEvent tells of.
type simKind uint8

const (
	simCall     simKind = iota // a client's write begins
	simReturn                  // it has ended
	simStored                  // a node's store took a transaction
	simTamper                  // an item was changed behind a node's back
	simReload                  // a node's store was opened anew, and holds this
	simRun                     // a node begins to run
	simConsent                 // a person agreed to a loss, or took one copy for the truth
	simRead                    // a client read a range or a key
	simStatus                  // a node said how it is
	simWatch                   // a watcher was told of a change
	simWatchOn                 // a watcher begins
	simWatchOff                // it has ended
	simWaited                  // WaitFor has returned
	simHeal                    // all faults have ended
	simInSync                  // a node follows, verified and at the end
	simStuck                   // it does not, and time is up
	simFinal                   // what a node holds when all is quiet
)

var simKindNames = [...]string{
	"call", "return", "stored", "tamper", "reload", "run", "consent", "read", "status",
	"watch", "watch on", "watch off", "waited", "heal", "in sync", "stuck", "final",
}

// A simOutcome is how a client's write ended.
type simOutcome uint8

const (
	simAcked   simOutcome = iota
	simRefused            // it has no effect
	simUnknown            // nobody knows whether it has
)

// A simOp is an op whose bytes can be compared and kept.
type simOp struct {
	key, value string
	del        bool
}

func simOps(ops []stream.Op) []simOp {
	out := make([]simOp, len(ops))
	for i, op := range ops {
		out[i] = simOp{string(op.Key), string(op.Value), op.Delete}
	}
	return out
}

// A simCommit is a commit as a master logged it.
type simCommit struct {
	offset uint64
	sum    merkle.Summary
	ops    []simOp
}

// A simTxn is a transaction that a store took.
type simTxn struct {
	role     store.Role
	ops      []simOp
	commits  []simCommit // a master's
	pos      stream.Position
	sum      merkle.Summary // as the replica says
	complete bool
	logStart stream.Position
	before   stream.Position // the end of the epoch before, zero if there is none
	garbled  bool            // the test changed what the replica was to apply
}

// A simEvent is one thing that happened. Which fields mean anything depends on
// the kind.
type simEvent struct {
	kind    simKind
	at      time.Duration // since the beginning of the run
	node    int
	who     int // a client's, reader's or watcher's number
	call    int // joins a return to its call
	from    int // how many events there were when what is told here began
	ops     []simOp
	txn     *simTxn
	pos     stream.Position
	offset  uint64
	out     simOutcome
	lo, hi  string            // the range that was read; hi is empty for a single key
	items   map[string]string // what a store holds, or a read has shown
	same    bool              // in sync
	whole   bool              // the base is complete
	last    bool
	repair  bool
	gap     bool
	durable bool   // a reload after which nothing may be missing
	epoch   string // of a status
	why     string
}

func (e *simEvent) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%10.3fs n%d %s", e.at.Seconds(), e.node, simKindNames[e.kind])
	if e.txn != nil {
		fmt.Fprintf(&b, " %v at %d, %d ops, %d commits, complete %v, %v (own %v)", e.txn.role, e.txn.pos.Offset, len(e.txn.ops), len(e.txn.commits), e.txn.complete, e.txn.pos.Fingerprint, e.txn.sum)
		if e.txn.garbled {
			b.WriteString(", garbled")
		}
	}
	if len(e.ops) > 0 {
		fmt.Fprintf(&b, " %d ops, first %.20q=%.20q", len(e.ops), e.ops[0].key, e.ops[0].value)
	}
	if e.offset > 0 || e.pos.Offset > 0 {
		fmt.Fprintf(&b, " offset %d", max(e.offset, e.pos.Offset))
	}
	if e.items != nil {
		fmt.Fprintf(&b, " %d items", len(e.items))
	}
	if e.why != "" {
		fmt.Fprintf(&b, ": %s", e.why)
	}
	return b.String()
}

// A simRecorder keeps everything that happens in a run, in one order. Safe for
// concurrent use.
type simRecorder struct {
	began time.Time

	mu     sync.Mutex
	events []simEvent
	calls  int
}

// add appends an event and returns how many there are.
func (r *simRecorder) add(e simEvent) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.at = time.Since(r.began)
	r.events = append(r.events, e)
	return len(r.events)
}

func (r *simRecorder) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.events)
}

func (r *simRecorder) newCall() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	return r.calls
}

// A simStore is a node's store. It tells the recorder of what it takes, in the
// order in which views see it, and breaks as disks do.
type simStore struct {
	node int
	r    *simRecorder
	c    *simCounts

	mu      sync.Mutex // a view sees what was recorded, and nothing else
	st      *store.Memory
	garbled bool
	full    bool
	slow    time.Duration
	refuse  error // of the next write
	before  error // of the next write, which then has no effect
	after   error // of the next write, although it has its effect
}

func (s *simStore) memory() *store.Memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st
}

// open returns the store as it is opened now, for one replica. When the store is
// opened again, who still holds this gets store.ErrClosed.
func (s *simStore) open() *simOpening { return &simOpening{s.memory(), s} }

// A simOpening is one opening of a simStore.
type simOpening struct {
	*store.Memory
	s *simStore
}

func (o *simOpening) Trim(before uint64) (bool, error) {
	more, err := o.Memory.Trim(before)
	if err == nil {
		o.s.c.add("log trimmed")
	}
	return more, err
}

func (o *simOpening) View() (store.View, error) {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	v, err := o.Memory.View()
	if err != nil {
		return nil, err
	}
	return &simView{v, o.s.c}, nil
}

// A simView counts how often a session reads the log.
type simView struct {
	store.View
	c *simCounts
}

func (v *simView) Log(from uint64, fn func(stream.Record) bool) error {
	v.c.add("log read")
	return v.View.Log(from, fn)
}

func (o *simOpening) Write(tx *store.Txn) error {
	s := o.s
	s.mu.Lock()
	slow := s.slow
	s.mu.Unlock()
	if slow > 0 {
		s.c.add("slow write")
		time.Sleep(slow)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.Memory != s.st {
		return store.ErrClosed
	}
	effect := false // of a write that fails
	// One fault strikes one write; what else is to come waits for the next.
	switch {
	case s.full || s.refuse != nil:
		s.refuse = nil
		s.c.add("write refused: disk full")
		s.st.FailNext(store.ErrNoSpace)
	case s.before != nil:
		s.c.add("write failed")
		s.st.FailNext(s.before)
		s.before = nil
	case s.after != nil:
		s.c.add("write failed with its effect")
		s.st.FailAfter(s.after)
		s.after, effect = nil, true
	}
	err := s.st.Write(tx)
	if err == nil || effect && errors.Is(err, errIO) {
		s.record(tx)
	}
	return err
}

func (s *simStore) record(tx *store.Txn) {
	m := tx.Meta
	t := &simTxn{
		role: m.Role, ops: simOps(tx.Ops), pos: m.Position, sum: m.Summary, complete: m.Complete,
		logStart: m.LogStart, garbled: s.garbled,
	}
	if n := len(m.History); n > 0 {
		t.before = m.History[n-1]
	}
	if tx.Log != nil {
		d := stream.NewDecoder(slices.Clone(tx.Log.Body))
		for c := (stream.Commit{}); d.Next(&c); c = (stream.Commit{}) {
			t.commits = append(t.commits, simCommit{c.Offset, c.Fingerprint, simOps(c.Ops)})
		}
		s.c.count("commits", len(t.commits))
	}
	if m.Role == store.Follower && len(t.ops) > 0 {
		s.c.add("transactions of followers")
	}
	if s.garbled {
		s.c.add("garbled transaction")
		s.garbled = false
	}
	s.r.add(simEvent{kind: simStored, node: s.node, txn: t})
}

// set changes what the store will do.
func (s *simStore) set(change func(*simStore)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// tamper changes an item behind the node's back.
func (s *simStore) tamper(op simOp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if op.del {
		s.st.Drop([]byte(op.key))
	} else {
		s.st.Tamper([]byte(op.key), []byte(op.value))
	}
	s.r.add(simEvent{kind: simTamper, node: s.node, ops: []simOp{op}})
}

// reload makes the store be another opening, and says what it holds.
func (s *simStore) reload(t tester, st *store.Memory, durable bool, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.st, s.garbled, s.refuse, s.before, s.after = st, false, nil, nil, nil
	e := simEvent{kind: simReload, node: s.node, items: contents(t, st), durable: durable, why: why}
	v, err := st.View()
	if err != nil {
		t.Fatalf("View: %v", err)
	}
	defer v.Close()
	if m, err := v.Meta(); err == nil {
		e.txn = &simTxn{role: m.Role, pos: m.Position, sum: m.Summary, complete: m.Complete, logStart: m.LogStart}
		e.offset = logFrom(v, m)
	}
	s.r.add(e)
}

// logFrom returns the offset after which a store really holds the log, which is
// later than its meta says if it is what it was between the two: an accepted loss
// drops the log first. With nothing left it does not tell either what was held at
// the position itself.
func logFrom(v store.View, m store.Meta) uint64 {
	from := m.Position.Offset
	if m.LogStart.Offset < from {
		from++
	}
	if v.Log(m.LogStart.Offset+1, func(rec stream.Record) bool {
		from = min(from, rec.First-1)
		return false
	}) != nil {
		return 0
	}
	return from
}

// A simCounts counts what happens in a run, or in all. Safe for concurrent use.
type simCounts struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *simCounts) add(what string) { c.count(what, 1) }

func (c *simCounts) count(what string, n int) {
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[what] += n
}

// merge adds what another has counted.
func (c *simCounts) merge(other *simCounts) {
	other.mu.Lock()
	defer other.mu.Unlock()
	for what, n := range other.n {
		c.count(what, n)
	}
}

// observer counts what a replica tells of.
func (c *simCounts) observer(told func(s replica.State, why string), ended func(replica.Report)) replica.Observer {
	return replica.Observer{
		State: told,
		Drift: func(stream.Position, merkle.Summary) { c.add("drift noticed") },
		Repair: func(r replica.Report) {
			c.add("repair: " + string(r.Outcome))
			ended(r)
		},
	}
}
