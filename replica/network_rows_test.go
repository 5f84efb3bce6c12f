package replica_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
	"github.com/sdiff/sdiff/transport"
)

// The network faults of the catalogue, by its numbers, where network_test.go
// does not have them: here, in network_frames_test.go and in
// network_reconnect_test.go, over pipes in fake time. Those in which the kernel
// has a part are in internal/chaos.

// fired fails a test whose faults did not happen.
func fired(t *testing.T, l *faultnet.Link, faults ...faultnet.Fault) {
	t.Helper()
	for _, f := range faults {
		if l.Count(f) == 0 {
			t.Errorf("no %s happened: this tested nothing", f)
		}
	}
}

// A witness watches a follower: which offsets it applied, in order, and how
// often it lost its place.
type witness struct {
	mu      sync.Mutex
	offsets []uint64
	gaps    int
	end     context.CancelFunc
	donec   chan struct{}
}

func watch(t *testing.T, f *follower) *witness {
	ctx, cancel := context.WithCancel(context.Background())
	w := &witness{end: cancel, donec: make(chan struct{})}
	go func() {
		defer close(w.donec)
		for c, err := range f.Watch(ctx, 0) {
			w.mu.Lock()
			switch {
			case err != nil:
			case c.Gap:
				w.gaps++
			case !c.Repair:
				w.offsets = append(w.offsets, c.Position.Offset)
			}
			w.mu.Unlock()
		}
	}()
	t.Cleanup(w.stop)
	synctest.Wait()
	return w
}

func (w *witness) stop() {
	w.end()
	<-w.donec
}

// once demands that every commit was applied, in order and once, without a gap.
func (w *witness) once(t *testing.T) {
	t.Helper()
	synctest.Wait()
	w.stop()
	if w.gaps > 0 {
		t.Errorf("%d gaps, want none", w.gaps)
	}
	if len(w.offsets) == 0 {
		t.Error("no commit was applied")
	}
	for i := 1; i < len(w.offsets); i++ {
		if w.offsets[i] != w.offsets[i-1]+1 {
			t.Fatalf("commit %d was applied after %d", w.offsets[i], w.offsets[i-1])
		}
	}
}

// C4 1: a connection reset after any byte of a frame costs that frame and
// nothing else: the copy goes on from what it has, once and in order.
func TestResetMidFrame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{})
		w, copied := watch(t, p.f), p.f.Status().LastRepair.Start
		for n := range 200 {
			p.link.CutAfter([]faultnet.Dir{faultnet.In, faultnet.Out}[n%2], n/2, faultnet.Reset)
			p.sync()
			p.sync()
		}
		if n := p.link.Count(faultnet.Cut); n < 150 {
			t.Errorf("%d cuts, too few", n)
		}
		w.once(t)
		checkSame(t, p.m, p.f)
		if r := p.f.Status().LastRepair; r.Start != copied {
			t.Errorf("%+v, want no repair: it resumes", r)
		}
	})
}

// C4 2: while a link is silent, status shows how long ago anything was heard
// before anyone has given up, on both sides.
func TestBlackHoleShowsInStatus(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{})
		p.link.BlackHole(faultnet.Both, true)
		time.Sleep(8 * time.Second)
		s, fs := p.f.Status(), p.m.Status().Followers[0]
		if s.State != replica.Streaming || time.Since(*s.LastContact) < 7*time.Second || time.Since(s.Progress) < 7*time.Second {
			t.Errorf("%s, contact %v ago, progress %v ago; want it to show that nothing is heard", brief(s), time.Since(*s.LastContact), time.Since(s.Progress))
		}
		if !fs.Connected || time.Since(fs.LastContact) < 7*time.Second {
			t.Errorf("the master sees %+v, want last contact 7 s ago and more", fs)
		}
		time.Sleep(7 * time.Second)
		if fs := p.m.Status().Followers[0]; fs.Connected || fs.InSync != nil {
			t.Errorf("after 15 s the master sees %+v, want it gone and nothing claimed", fs)
		}
		fired(t, p.link, faultnet.BlackHole)
	})
}

// C4 3: commits get through and acks do not. The master sends what there is
// and waits for nothing, holds nothing back for the follower and lets go of it
// in time; nothing is applied twice.
func TestOneWayPartition(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 10, replica.MasterConfig{TailBytes: 1 << 20}, replica.FollowerConfig{})
		w, before := watch(t, p.f), p.m.Status().Followers[0].Acked
		p.link.BlackHole(faultnet.Out, true)
		began, slowest := time.Now(), time.Duration(0)
		var pos stream.Position
		for i := range 200 {
			at := time.Now()
			pos = p.m.put(fmt.Sprint("big", i%10), strings.Repeat("v", 100_000))
			slowest = max(slowest, time.Since(at))
			time.Sleep(100 * time.Millisecond)
			if i == 40 {
				if p.f.waitFor(pos); p.m.Status().Followers[0].Acked != before {
					t.Error("an ack got through: this tests nothing")
				}
			}
		}
		if slowest > 0 {
			t.Errorf("a write took %v: it waited for the follower", slowest)
		}
		if fs := p.m.Status().Followers[0]; fs.Connected || fs.LagCommits < 190 {
			t.Errorf("after %v the master sees %+v, want it gone and behind", time.Since(began), fs)
		}
		p.link.Heal()
		p.f.waitFor(pos)
		w.once(t)
		checkSame(t, p.m, p.f)
		fired(t, p.link, faultnet.BlackHole)
	})
}

// frameTimes notes when frames of a type come over a connection.
type frameTimes struct {
	net.Conn
	typ  byte
	note func(time.Time)

	head []byte
	skip int
}

func (c *frameTimes) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for rest := b[:n]; len(rest) > 0; {
		if c.skip > 0 {
			k := min(c.skip, len(rest))
			c.skip, rest = c.skip-k, rest[k:]
			continue
		}
		k := min(transport.HeaderSize-len(c.head), len(rest))
		c.head, rest = append(c.head, rest[:k]...), rest[k:]
		if len(c.head) == transport.HeaderSize {
			if c.head[4] == c.typ {
				c.note(time.Now())
			}
			c.skip = int(binary.BigEndian.Uint32(c.head)) + transport.Overhead - transport.HeaderSize
			c.head = c.head[:0]
		}
	}
	return n, err
}

// C4 6: heartbeats get through a link of 64 kbit/s that is full of repair
// data, in both directions, at a fraction of the silence that would end the
// session.
func TestHeartbeatsOnAThinLink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var beats, acks gaps
		h := &hub{}
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: tapListener{h.listen(), &acks}, Scrub: -1})
		link := faultnet.New(1)
		t.Cleanup(func() { link.Close() })
		dial := link.Dialer(h.dial)
		pos := m.fill(2000, strings.Repeat("v", 400)) // 0.8 MB: 100 s
		link.SetRate(faultnet.Both, 8000)
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Scrub: -1, Dial: func(ctx context.Context) (net.Conn, error) {
			nc, err := dial(ctx)
			return &frameTimes{Conn: nc, typ: head, note: beats.note}, err
		}})
		began := time.Now()
		within(t, 5*time.Minute, "the copy is complete", func() bool { return f.Status().Complete })
		took := time.Since(began)
		f.waitFor(pos)
		for name, g := range map[string]*gaps{"from the master": &beats, "from the follower": &acks} {
			n, longest := g.get()
			t.Logf("heartbeats %s: %d within %v, at most %v apart", name, n, took, longest)
			if took < 90*time.Second || n < int(took/(4*time.Second)) || longest > replica.DefaultSilence*2/3 {
				t.Errorf("heartbeats %s: %d within %v, %v apart", name, n, took, longest)
			}
		}
		if n := f.Status().LastRepair.Rounds; n != 1 {
			t.Errorf("%d rounds, want one session and one round", n)
		}
		fired(t, link, faultnet.Throttle)
		checkSame(t, m, f)
	})
}

// gaps measures the longest time between two notes.
type gaps struct {
	mu      sync.Mutex
	last    time.Time
	n       int
	longest time.Duration
}

func (g *gaps) note(at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n++; !g.last.IsZero() {
		g.longest = max(g.longest, at.Sub(g.last))
	}
	g.last = at
}

func (g *gaps) get() (int, time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n, g.longest
}

// A tapListener notes the acks that come in.
type tapListener struct {
	net.Listener
	acks *gaps
}

func (l tapListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	return &frameTimes{Conn: nc, typ: ack, note: l.acks.note}, err
}

// A oneByte connection reads and writes one byte at a time.
type oneByte struct{ net.Conn }

func (c oneByte) Read(b []byte) (int, error) { return c.Conn.Read(b[:min(len(b), 1)]) }

func (c oneByte) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = c.Conn.Write(b[n : n+1])
		n += k
	}
	return n, err
}

// C4 7: frames arrive whole in whatever pieces their bytes come, one by one or
// many together.
func TestOneByteReadsAndCoalescedFrames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &hub{}
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		link := faultnet.New(1)
		t.Cleanup(func() { link.Close() })
		dial := link.Dialer(h.dial)
		m.fill(200, strings.Repeat("v", 50))
		link.SplitMax(faultnet.Both, 1)
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Scrub: -1, Dial: func(ctx context.Context) (net.Conn, error) {
			nc, err := dial(ctx)
			return oneByte{nc}, err
		}})
		f.waitFor(m.put("split", "1"))
		checkSame(t, m, f)
		link.SplitMax(faultnet.Both, 0)
		link.MergeFor(faultnet.Both, 300*time.Millisecond)
		for range 100 {
			m.put("merged", time.Now().String())
			time.Sleep(10 * time.Millisecond)
		}
		f.waitFor(m.put("merged", "end"))
		checkSame(t, m, f)
		fired(t, link, faultnet.Split, faultnet.Merge)
	})
}
