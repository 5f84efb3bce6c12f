package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
	"github.com/sdiff/sdiff/transport"
)

// A tester is what testing.T and rapid.T have in common.
type tester interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// bubble runs a test in fake time. What it leaves running fails it.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

// A hub is where followers dial. It leads to whoever listens at the time, so
// that a master can be stopped and the next one started.
type hub struct {
	mu sync.Mutex
	l  *transport.PipeListener
}

// listen makes the listener of the next master.
func (h *hub) listen() net.Listener {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.l = transport.NewPipeListener()
	return h.l
}

func (h *hub) dial(ctx context.Context) (net.Conn, error) {
	h.mu.Lock()
	l := h.l
	h.mu.Unlock()
	if l == nil {
		return nil, errors.New("nobody listens")
	}
	return l.Dial(ctx)
}

// A running is a Run under way.
type running struct {
	cancel context.CancelFunc
	donec  chan struct{}
	err    error // of Run, once donec is closed
}

func start(t tester, run func(context.Context) error) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, donec: make(chan struct{})}
	go func() {
		r.err = run(ctx)
		close(r.donec)
	}()
	t.Cleanup(func() { r.stop() })
	return r
}

// stop ends the Run, as Ctrl-C does, and returns its error.
func (r *running) stop() error {
	r.cancel()
	return r.wait()
}

// wait waits until Run has ended by itself.
func (r *running) wait() error {
	<-r.donec
	return r.err
}

// A master is a Master that runs over a store in memory.
type master struct {
	*replica.Master
	*running
	t  tester
	st *store.Memory
}

// startMaster starts a master that ends with the test. A hub in place of a
// listener is fine: start it with cfg.Listener: hub.listen().
func startMaster(t tester, st *store.Memory, cfg replica.MasterConfig) *master {
	t.Helper()
	m, err := replica.NewMaster(st, cfg)
	if err != nil {
		t.Fatalf("NewMaster: %v", err)
	}
	return &master{Master: m, running: start(t, m.Run), t: t, st: st}
}

// put writes one key, which must succeed.
func (m *master) put(key, value string) stream.Position {
	m.t.Helper()
	pos, err := m.Put(context.Background(), []byte(key), []byte(value))
	if err != nil {
		m.t.Fatalf("Put(%q): %v", key, err)
	}
	return pos
}

func (m *master) del(key string) stream.Position {
	m.t.Helper()
	pos, err := m.Delete(context.Background(), []byte(key))
	if err != nil {
		m.t.Fatalf("Delete(%q): %v", key, err)
	}
	return pos
}

// fill puts keys "key000000" to "key(n-1)" with one value, in large commits.
func (m *master) fill(n int, value string) (pos stream.Position) {
	m.t.Helper()
	var ops []stream.Op
	for i := range n {
		ops = append(ops, stream.Op{Key: keyOf(i), Value: []byte(value)})
		if len(ops) == 10_000 || i == n-1 {
			var err error
			if pos, err = m.Write(context.Background(), ops); err != nil {
				m.t.Fatalf("Write of %d ops: %v", len(ops), err)
			}
			ops = nil
		}
	}
	return pos
}

func keyOf(i int) []byte { return fmt.Appendf(nil, "key%06d", i) }

// A follower is a Follower that runs over a store in memory.
type follower struct {
	*replica.Follower
	*running
	t  tester
	st *store.Memory
}

// startFollower starts a follower that ends with the test.
func startFollower(t tester, st *store.Memory, cfg replica.FollowerConfig) *follower {
	t.Helper()
	f, err := replica.NewFollower(st, cfg)
	if err != nil {
		t.Fatalf("NewFollower: %v", err)
	}
	return &follower{Follower: f, running: start(t, f.Run), t: t, st: st}
}

// waitFor waits until the follower has a position, for at most a minute of
// fake time.
func (f *follower) waitFor(pos stream.Position) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := f.WaitFor(ctx, pos); err != nil {
		f.t.Fatalf("WaitFor(%d): %v; status: %+v", pos.Offset, err, brief(f.Status()))
	}
}

// repair asks for a repair, which must be possible.
func (f *follower) repair(opts replica.RepairOptions) replica.Report {
	f.t.Helper()
	rep, err := f.Repair(context.Background(), opts)
	if err != nil {
		f.t.Fatalf("Repair: %v; status: %+v", err, brief(f.Status()))
	}
	return rep
}

// brief is what a failure shows of a status.
func brief(s replica.Status) string {
	same := "unknown"
	if s.InSync != nil {
		same = fmt.Sprint(*s.InSync)
	}
	return fmt.Sprintf("%s (%s) offset %d of %d, %s, complete %v, in sync %s, last repair %+v",
		s.State, s.Why, s.Offset, s.Head, s.Fingerprint, s.Complete, same, s.LastRepair)
}

// within waits in fake time until something is true.
func within(t tester, d time.Duration, sentence string, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > d {
			t.Fatalf("not within %v: %s", d, sentence)
		}
	}
}

// contents reads all of a store.
func contents(t tester, st store.Store) map[string]string {
	t.Helper()
	v, err := st.View()
	if err != nil {
		t.Fatalf("View: %v", err)
	}
	defer v.Close()
	all := map[string]string{}
	if err := v.Ascend(nil, nil, func(key, value []byte) bool {
		all[string(key)] = string(value)
		return true
	}); err != nil {
		t.Fatalf("Ascend: %v", err)
	}
	return all
}

// fingerprint computes from the items what the fingerprint should be.
func fingerprint(all map[string]string) merkle.Summary {
	var s merkle.Summary
	for k, v := range all {
		s = s.Add(merkle.Summary{Count: 1, Sum: merkle.XXH64().Hash([]byte(k), []byte(v))})
	}
	return s
}

// checkSame holds a copy against the master's store: byte for byte, and both
// fingerprints against those computed from the items.
func checkSame(t tester, m *master, f *follower) {
	t.Helper()
	want, got := contents(t, m.st), contents(t, f.st)
	differ := 0
	for k, v := range want {
		if g, ok := got[k]; !ok || g != v {
			if differ++; differ < 4 {
				t.Errorf("key %.40q: the copy holds %.40q (%v), the master %.40q", k, g, ok, v)
			}
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			if differ++; differ < 4 {
				t.Errorf("key %.40q: the copy holds it, the master does not", k)
			}
		}
	}
	sum := fingerprint(want).String()
	if got := m.Status().Fingerprint; got != sum {
		t.Errorf("the master's fingerprint is %s, from the items it is %s", got, sum)
	}
	if print := f.Status().Fingerprint; print != fingerprint(got).String() {
		t.Errorf("the copy's fingerprint is %s, from its items it is %s", print, fingerprint(got))
	}
	if s := f.Status(); s.Fingerprint != sum {
		t.Errorf("the copy's fingerprint is %s, the master's %s; %d keys differ; %s", s.Fingerprint, sum, differ, brief(s))
	}
}

// events remembers what an Observer is told. Safe for concurrent use.
type events struct {
	mu      sync.Mutex
	states  []string // "state: why"
	drifts  int
	repairs []replica.Report
}

func (e *events) observer() replica.Observer {
	return replica.Observer{
		State: func(s replica.State, why string) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.states = append(e.states, string(s)+": "+why)
		},
		Drift: func(stream.Position, merkle.Summary) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.drifts++
		},
		Repair: func(r replica.Report) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.repairs = append(e.repairs, r)
		},
	}
}

func (e *events) announced() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.states...)
}

func (e *events) drifted() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.drifts
}

func (e *events) reports() []replica.Report {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]replica.Report(nil), e.repairs...)
}

// saw reports whether a state with such a reason was ever announced.
func (e *events) saw(text string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.states {
		if bytes.Contains([]byte(s), []byte(text)) {
			return true
		}
	}
	return false
}

// A garbler is a FollowerConfig.Fault that can be changed while the follower
// runs. The zero garbler changes nothing.
type garbler struct {
	mu     sync.Mutex
	garble func([]stream.Op) []stream.Op
}

func (g *garbler) fault(ops []stream.Op) []stream.Op {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.garble == nil {
		return ops
	}
	return g.garble(ops)
}

func (g *garbler) set(f func([]stream.Op) []stream.Op) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.garble = f
}

// lose drops all ops.
func lose([]stream.Op) []stream.Op { return nil }
