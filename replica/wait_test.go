package replica_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// P2: while the first copy is under way nothing looks finished, however busy
// the stream.
func TestP2FirstCopyDoesNotLookFinished(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, link := &hub{}, faultnet.New(1)
		t.Cleanup(func() { link.Close() })
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		old := m.fill(20_000, "v")
		link.SetRate(faultnet.In, 20_000)
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: link.Dialer(h.dial), Scrub: -1})
		<-f.Ready()
		early := make(chan error, 1)
		go func() { early <- f.WaitFor(t.Context(), old) }()
		for range 5 {
			time.Sleep(2 * time.Second)
			pos := m.put("live", time.Now().String())
			within(t, 10*time.Second, "the stream goes on", func() bool { return f.Status().Offset >= pos.Offset })
			if s := f.Status(); s.State != replica.Initializing || s.Complete {
				t.Errorf("%s, want initializing", brief(s))
			}
			if n := mustWaitAcked(t, m, pos, 1); n {
				t.Error("WaitAcked counts an incomplete copy")
			}
		}
		select {
		case err := <-early:
			t.Errorf("WaitFor returned %v", err)
		default:
		}
		link.Heal()
		if err := <-early; err != nil {
			t.Errorf("WaitFor: %v", err)
		}
		checkSame(t, m, f)
	})
}

// mustWaitAcked reports whether WaitAcked is content within a moment.
func mustWaitAcked(t *testing.T, m *master, pos stream.Position, n int) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := m.WaitAcked(ctx, pos, n)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("WaitAcked: %v", err)
	}
	return err == nil
}

// WaitFor: read your own writes, an unknown history at once.
func TestWaitFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{})
		var other stream.Position
		other.Epoch, other.Offset = stream.NewEpoch(), 1
		if err := p.f.WaitFor(t.Context(), other); !errors.Is(err, replica.ErrUnknownEpoch) {
			t.Errorf("another epoch: %v, want ErrUnknownEpoch", err)
		}
		p.link.Stall(faultnet.Both, true)
		pos := p.m.put("a", "1")
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("enough")
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if err := p.f.WaitFor(ctx, pos); err != cause {
			t.Errorf("cancelled: %v, want the cause", err)
		}
		p.link.Heal()
		if err := p.f.WaitFor(ctx, pos); err != cause && err != nil {
			t.Errorf("with an ended context: %v", err)
		}
		p.f.waitFor(pos)
		if err := p.f.WaitFor(ctx, pos); err != nil {
			t.Errorf("a ready result must beat an ended context: %v", err)
		}
		ahead := pos
		ahead.Offset += 5
		ended := make(chan error)
		go func() { ended <- p.f.WaitFor(context.Background(), ahead) }()
		synctest.Wait()
		p.f.stop()
		if err := <-ended; !errors.Is(err, replica.ErrClosed) {
			t.Errorf("the follower ended: %v, want ErrClosed", err)
		}
	})
}

// WaitAcked goes by acknowledgements of complete copies that are connected,
// and by nothing that a hello claims.
func TestWaitAcked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{})
		pos := p.m.put("a", "1")
		if err := p.m.WaitAcked(t.Context(), pos, 1); err != nil {
			t.Error(err)
		}
		if mustWaitAcked(t, p.m, pos, 2) {
			t.Error("one follower counts as two")
		}
		g := newGreeting()
		g.pos, g.complete, g.rollback = stream.Position{Epoch: stream.NewEpoch(), Offset: 1000}, true, true
		puppet := greet(t, p.hub, g)
		puppet.want("a person accepted the rollback", welcome)
		synctest.Wait()
		if mustWaitAcked(t, p.m, pos, 2) {
			t.Error("a follower that has acknowledged nothing counts")
		}
		if fs := p.m.Status().Followers; fs[1].ID != "puppet" || fs[1].Acked != 0 && fs[1].Acked != 1000 || fs[1].Complete {
			t.Errorf("the operator sees %+v, want an incomplete copy", fs[1])
		}
		puppet.send(ack, pos.Offset, merkle.Summary{}, false, "initializing")
		synctest.Wait()
		if mustWaitAcked(t, p.m, pos, 2) {
			t.Error("an incomplete copy counts")
		}
		puppet.send(ack, pos.Offset, pos.Fingerprint, true, "streaming")
		if err := p.m.WaitAcked(t.Context(), pos, 2); err != nil {
			t.Error(err)
		}
		puppet.nc.Close()
		synctest.Wait()
		if mustWaitAcked(t, p.m, pos, 2) {
			t.Error("a follower that has gone counts")
		}
		done := make(chan error)
		go func() { done <- p.m.WaitAcked(context.Background(), pos, 2) }()
		synctest.Wait()
		p.m.stop()
		if err := <-done; !errors.Is(err, replica.ErrClosed) {
			t.Errorf("the master ended: %v, want ErrClosed", err)
		}
	})
}

// P5: followers are remembered by id until they are forgotten.
func TestForget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{})
		ids := func() (all []string) {
			for _, f := range p.m.Status().Followers {
				all = append(all, f.ID)
			}
			return all
		}
		restart := func() {
			p.m.stop()
			p.m = startMaster(t, p.m.st.Reopen(), replica.MasterConfig{Listener: p.listen(), Scrub: -1})
			<-p.m.Ready()
		}
		if err := p.m.Forget(t.Context(), "f"); !errors.Is(err, replica.ErrConnected) {
			t.Errorf("Forget of one that is connected: %v, want ErrConnected", err)
		}
		if err := p.m.Forget(t.Context(), "nobody"); !errors.Is(err, replica.ErrNotFound) {
			t.Errorf("Forget of one that is not known: %v, want ErrNotFound", err)
		}
		at := p.f.Status().Offset
		synctest.Wait() // what it says of itself has come
		p.f.stop()
		restart()
		if fs := p.m.Status().Followers; len(fs) != 1 || fs[0].ID != "f" || fs[0].Acked != at || fs[0].Connected || !fs[0].Complete || !fs[0].Durable {
			t.Errorf("after a restart the operator sees %+v, want f at %d", fs, at)
		}
		if err := p.m.Forget(t.Context(), "f"); err != nil {
			t.Error(err)
		}
		restart()
		if got := ids(); len(got) != 0 {
			t.Errorf("after Forget and a restart: %q", got)
		}
		p.f = startFollower(t, p.f.st, p.cfg)
		p.sync()
		if got := ids(); !slices.Equal(got, []string{"f"}) {
			t.Errorf("it came again: %q", got)
		}
	})
}

// The status tells both sides' story.
func TestStatusOfAPair(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 100, replica.MasterConfig{}, replica.FollowerConfig{Repair: manual})
		p.link.Stall(faultnet.In, true)
		for range 5 {
			p.m.put("a", time.Now().String())
			time.Sleep(time.Second)
		}
		fs := p.m.Status().Followers[0]
		if fs.LagCommits != 5 || fs.LagSeconds < 4 || fs.LagSeconds > 6 || !fs.Connected {
			t.Errorf("the master sees %+v, want a lag of 5 commits and 5 s", fs)
		}
		p.link.Stall(faultnet.In, false)
		p.sync()
		time.Sleep(2 * time.Second)
		fs, f, m := p.m.Status().Followers[0], p.f.Status(), p.m.Status()
		if fs.LagCommits != 0 || fs.LagSeconds != 0 || fs.InSync == nil || !*fs.InSync || fs.State != replica.Streaming || fs.BytesOut == 0 {
			t.Errorf("the master sees %+v, want no lag and in sync", fs)
		}
		if f.State != replica.Streaming || !*f.InSync || f.Offset != m.Offset || f.Fingerprint != m.Fingerprint || f.Epoch != m.Epoch || f.LagCommits != 0 {
			t.Errorf("%s, want what the master has: %s", brief(f), brief(m))
		}
		p.behind([]stream.Op{{Key: []byte("b"), Value: []byte("x")}}, lose)
		time.Sleep(2 * time.Second)
		fs, f = p.m.Status().Followers[0], p.f.Status()
		if *f.InSync || f.State != replica.Drifted || fs.InSync == nil || *fs.InSync || fs.State != replica.Drifted {
			t.Errorf("%s; the master sees %+v; want both to see the drift", brief(f), fs)
		}
		p.f.stop()
		synctest.Wait()
		if fs := p.m.Status().Followers[0]; fs.Connected || fs.State != replica.Disconnected || fs.InSync != nil {
			t.Errorf("the master sees %+v, want disconnected", fs)
		}
	})
}
