package replica_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// L7: a store that takes no writes shows in the master's state, with since when
// and why, at once; and that it takes them again, also if nobody writes.
func TestReadOnlyIsToldOnAndOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var e events
		st := &refusing{Store: store.NewMemory()}
		m := startOver(t, st, replica.MasterConfig{Scrub: -1, Observer: e.observer()})
		m.put("a", "1")
		time.Sleep(time.Hour)
		st.set(store.ErrNoSpace)
		began := time.Now()
		if _, err := m.Put(t.Context(), []byte("b"), nil); !errors.Is(err, store.ErrNoSpace) {
			t.Fatalf("Put = %v", err)
		}
		time.Sleep(time.Minute)
		if s := m.Status(); s.State != replica.ReadOnly || !s.Since.Equal(began) || !strings.Contains(s.Why, "full") {
			t.Errorf("%s since %v, want read only since %v", brief(s), s.Since, began)
		}
		st.set(nil)
		within(t, time.Minute, "it serves again", func() bool { return m.Status().State == replica.Serving })
		if want := "[serving:  read only: the store refuses writes: refused: the disk is nearly full serving: ]"; fmt.Sprint(e.announced()) != want {
			t.Errorf("it announced %q, want %q", e.announced(), want)
		}
	})
	bubble(t, func(t *testing.T) {
		h := &hub{}
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		st := &refusing{Store: store.NewMemory()}
		f, err := replica.NewFollower(st, replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: -1})
		if err != nil {
			t.Fatal(err)
		}
		start(t, f.Run)
		if err := f.WaitFor(t.Context(), m.put("a", "1")); err != nil {
			t.Fatal(err)
		}
		st.set(store.ErrNoSpace)
		pos := m.put("b", "2")
		within(t, time.Minute, "read only", func() bool { return f.Status().State == replica.ReadOnly })
		if s := f.Status(); !strings.Contains(s.Why, "full") || s.LagKnown {
			t.Errorf("%s, lag known %v", brief(s), s.LagKnown)
		}
		st.set(nil)
		if err := f.WaitFor(t.Context(), pos); err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, "streaming", func() bool { return f.Status().State == replica.Streaming })
	})
}

// A refusing store refuses all writes while an error is set.
type refusing struct {
	store.Store
	mu  sync.Mutex
	err error
}

func (s *refusing) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *refusing) Write(tx *store.Txn) error {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.Store.Write(tx)
}

// L6: a poisoned store ends in a state that says so.
func TestPoisonedStoreIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var e events
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Scrub: -1, Observer: e.observer()})
		m.put("a", "1")
		m.st.FailAfter(errors.New("input/output error"))
		if _, err := m.Put(t.Context(), []byte("b"), nil); !errors.Is(err, replica.ErrOutcomeUnknown) {
			t.Fatalf("Put = %v", err)
		}
		m.wait()
		if s := m.Status(); s.State != replica.Failed || !strings.Contains(s.Why, "input/output error") || !e.saw("failed: ") {
			t.Errorf("%s, %q, want failed and why", brief(s), e.announced())
		}
	})
}

// A write that does not come back, and a function of Update that does not,
// cannot look healthy.
func TestStalledWriterIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var e events
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Scrub: -1, Observer: e.observer()})
		m.put("a", "1")
		began := time.Now()
		release := holdWriter(m)
		time.Sleep(19 * time.Second)
		if s := m.Status(); s.State != replica.Serving {
			t.Errorf("after 19 s: %s", brief(s))
		}
		time.Sleep(11 * time.Second)
		if s := m.Status(); s.State != replica.Stalled || !strings.Contains(s.Why, began.Format(time.RFC3339)) {
			t.Errorf("after 30 s: %s, want stalled since %v", brief(s), began)
		}
		release()
		within(t, 5*time.Second, "serving", func() bool { return m.Status().State == replica.Serving })
	})
}

// A master that lives and lets a comparison hang makes a follower that says
// stalled, not comparing.
func TestStalledComparisonIsTold(t *testing.T) {
	withFollower(t, replica.FollowerConfig{}, func(t *testing.T, m *puppetMaster, f *follower) {
		p, _ := m.accept()
		m.welcome(p, false)
		p.want("it asks for a comparison", syncAsk)
		for i := range 30 {
			time.Sleep(time.Second)
			p.send(head, m.pos)
			if s := f.Status(); i < 18 && s.State != replica.Initializing {
				t.Fatalf("after %d s: %s", i, brief(s))
			}
		}
		if s := f.Status(); s.State != replica.Stalled || !strings.Contains(s.Why, "comparison") {
			t.Errorf("after 30 s: %s, want stalled", brief(s))
		}
		p.nc.Close()
	})
}

// A follower that is connected, behind and takes nothing shows as stalled at
// the master, whatever it says of itself.
func TestStalledFollowerIsToldAtTheMaster(t *testing.T) {
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
		pos := m.put("a", "1")
		g := newGreeting()
		p := greet(t, h, g.at(pos))
		p.want("welcome", welcome)
		p.ignore = append(p.ignore, commits)
		m.put("b", "2")
		for i := range 60 {
			time.Sleep(time.Second)
			p.send(ack, pos.Offset, pos.Fingerprint, true, "streaming")
			synctest.Wait()
			switch s := m.Status().Followers[0]; {
			case i > 0 && i < 19 && s.State != replica.Streaming:
				t.Fatalf("after %d s: %+v", i, s)
			case i > 21 && (s.State != replica.Stalled || s.Why == ""):
				t.Fatalf("after %d s: %+v, want stalled and why", i, s)
			}
		}
		p.nc.Close()
	})
}

// A follower that was in sync, and has drifted behind the head, showed as in
// sync at the master for as long as writes went on.
func TestInSyncEndsWithDriftBehindTheHead(t *testing.T) {
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
		pos := m.put("a", "1")
		p := greet(t, h, newGreeting().at(pos))
		p.want("welcome", welcome)
		say := func(state string) *bool {
			p.send(ack, pos.Offset, pos.Fingerprint, true, state)
			synctest.Wait()
			return m.Status().Followers[0].InSync
		}
		if same := say("streaming"); same == nil || !*same {
			t.Fatalf("at the head: in sync %v", same)
		}
		m.put("b", "2")
		if same := say("catching up"); same == nil || !*same {
			t.Errorf("a commit behind: in sync %v, want as before", same)
		}
		for _, state := range []string{"drifted", "comparing", "repairing", "stalled"} {
			if same := say(state); same != nil {
				t.Errorf("%s, behind the head: in sync %v, want not known", state, *same)
			}
		}
		p.nc.Close()
	})
}

// Without a session the lag is not known, and says so; it is never a calm 0.
func TestLagIsUnknownWithoutASession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{})
		status := func() string {
			b, err := json.Marshal(p.f.Status())
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		if s := status(); !strings.Contains(s, `"lag_known":true`) || !strings.Contains(s, `"lag_commits":0,"lag_seconds":0`) {
			t.Errorf("connected: %s", s)
		}
		p.m.stop()
		within(t, time.Minute, "the session ends", func() bool { return p.f.Status().State == replica.Connecting })
		if s := status(); !strings.Contains(s, `"lag_known":false`) || !strings.Contains(s, `"lag_commits":null,"lag_seconds":null`) {
			t.Errorf("without a master: %s", s)
		}
		if b, err := json.Marshal(p.m.Status()); err != nil || !strings.Contains(string(b), `"lag_commits":0`) {
			t.Errorf("a master: %s, %v", b, err)
		}
	})
}

// A follower beyond the log is repaired and told why, in its state, in the
// report and at the master; and the master told of it when it trimmed.
func TestFollowerBeyondTheLogIsToldWhy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var e events
		var below []string
		var start uint64
		mcfg := replica.MasterConfig{LogBytes: 20_000, TailBytes: 1000, Observer: replica.Observer{
			Trimmed:  func(s uint64, ids []string) { start, below = s, append(below, ids...) },
			Follower: func(id string, s replica.State, why string) { e.observer().State(s, "at the master: "+why) },
		}}
		p := newPair(t, 0, mcfg, replica.FollowerConfig{Observer: e.observer()})
		p.sync()
		asked := p.f.Status().Offset + 1
		p.f.stop()
		for i := range 400 {
			p.m.put(fmt.Sprint("key", i%7), strings.Repeat("v", 500))
		}
		within(t, time.Minute, "the log is trimmed", func() bool { return p.m.Status().Log.Start > asked })
		synctest.Wait() // the writer has told all of it
		if fmt.Sprint(below) != "[f]" || start != p.m.Status().Log.Start {
			t.Errorf("told of %q below %d, want f below %d", below, start, p.m.Status().Log.Start)
		}
		want := fmt.Sprintf("the follower asked for %d, the log starts at %d", asked, start)
		p.f = startFollower(t, p.f.st.Reopen(), p.cfg)
		p.sync()
		within(t, time.Minute, "repaired", func() bool { return p.f.Status().LastRepair != nil })
		if r := p.f.Status().LastRepair; r.Why != want || r.Outcome != replica.Repaired {
			t.Errorf("the report says %q, %s; want %q, repaired", r.Why, r.Outcome, want)
		}
		if !e.saw("initializing: "+want) || !e.saw("at the master: "+want) {
			t.Errorf("states %q, want one that says %q on both sides", e.announced(), want)
		}
		checkSame(t, p.m, p.f)
	})
}

// L5: trimming as fast as it goes while followers read the very end that is
// trimmed: nobody skips anything, whoever is overtaken is repaired.
func TestTrimmingWhileFollowersReadTheLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &hub{}
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), LogBytes: 60_000, TailBytes: 1, Scrub: -1})
		var es [4]events
		var fs []*follower
		var links []*faultnet.Link
		var mu sync.Mutex
		away := make([]time.Time, len(es)) // until when nobody gets through
		for i := range es {
			link := faultnet.New(uint64(i))
			t.Cleanup(func() { link.Close() })
			f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: fmt.Sprint("f", i), Scrub: -1, Observer: es[i].observer(),
				Dial: link.Dialer(func(ctx context.Context) (net.Conn, error) {
					mu.Lock()
					defer mu.Unlock()
					if time.Now().Before(away[i]) {
						return nil, errors.New("the link is down")
					}
					return h.dial(ctx)
				})})
			fs, links = append(fs, f), append(links, link)
		}
		trims, last := 0, uint64(0)
		var pos stream.Position
		for i := range 6000 {
			pos = m.put(fmt.Sprint("key", i%50), strings.Repeat("v", 300))
			time.Sleep(20 * time.Millisecond)
			if i%300 == 0 {
				mu.Lock()
				away[i/300%4] = time.Now().Add(time.Duration(i/300%7) * time.Second)
				mu.Unlock()
				links[i/300%4].Cut(faultnet.Reset)
			}
			if start := m.Status().Log.Start; start != last {
				trims, last = trims+1, start
			}
		}
		repaired, resumed := 0, 0
		for i, f := range fs {
			f.waitFor(pos)
			checkSame(t, m, f)
			for _, r := range es[i].reports() {
				if strings.Contains(r.Why, "the log starts at") || strings.Contains(r.Why, "the log no longer holds") || strings.Contains(r.Why, "cannot be read") {
					repaired++
				}
			}
			for _, s := range es[i].states {
				if strings.HasPrefix(s, "catching up") {
					resumed++
				}
			}
		}
		if trims < 5 || repaired == 0 || resumed == 0 {
			t.Errorf("%d trims, %d repaired because of them, %d resumed; want some of each", trims, repaired, resumed)
		}
	})
}

// C4 41: the machine's clock goes a day forward and back again while a master
// runs, and is wrong when it starts: the log is trimmed by what time really
// passed, lags are never negative and order does not care.
func TestClockADayOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var off time.Duration
		set := func(d time.Duration) { mu.Lock(); off = d; mu.Unlock() }
		cfg := replica.WithWall(replica.MasterConfig{LogAge: time.Hour, LogBytes: -1, Scrub: -1}, func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(off)
		})
		h := &hub{}
		cfg.Listener = h.listen()
		m := startMaster(t, store.NewMemory(), cfg)
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: -1})
		n := 0
		minutes := func(k int) {
			t.Helper()
			for range k {
				n++
				f.waitFor(m.put("key", fmt.Sprint(n)))
				for _, lag := range []float64{f.Status().LagSeconds, m.Status().Followers[0].LagSeconds} {
					if lag < 0 || lag > 1 {
						t.Fatalf("lag %v s after commit %d", lag, n)
					}
				}
				time.Sleep(time.Minute)
			}
		}
		// The log holds the commits of the last hour, whatever the clock says.
		wantHour := func(sentence string, least, most int) {
			t.Helper()
			first, last, _ := logOf(t, m.st)
			if held := int(last - first + 1); last != uint64(n) || held < least || held > most {
				t.Errorf("%s: the log holds %d to %d of %d", sentence, first, last, n)
			}
		}
		minutes(30)
		set(24 * time.Hour)
		minutes(40)
		wantHour("a day forward", 58, 62)
		set(0)
		minutes(40)
		wantHour("and back", 58, 62)
		set(-24 * time.Hour)
		minutes(70)
		wantHour("a day back", 58, 62)
		set(0)
		minutes(10)

		// A restart while the clock is wrong: nothing is thrown away at once, and
		// in the end everything that is old.
		for _, d := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
			f.stop()
			m.stop()
			set(d)
			cfg.Listener = h.listen()
			m = startMaster(t, m.st.Reopen(), cfg)
			f = startFollower(t, f.st.Reopen(), replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: -1})
			minutes(5)
			wantHour(fmt.Sprint("started with the clock off by ", d), 55, 75)
			minutes(70)
			wantHour(fmt.Sprint("an hour after that, off by ", d), 55, 75)
		}
		checkSame(t, m, f)
		if r := f.Status().LastRepair; r != nil {
			t.Errorf("the follower was repaired: %+v", r)
		}
	})
}

// Who is refused is told to an observer, on both sides.
func TestRefusalsAreTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var refusals, sessions []string
		note := func(list *[]string, s string) { mu.Lock(); *list = append(*list, s); mu.Unlock() }
		h := &hub{}
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1, Observer: replica.Observer{
			Refused: func(id, addr string, code replica.Code, reason string) {
				note(&refusals, fmt.Sprint(id, " ", code, " ", reason != ""))
			},
		}})
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: -1})
		f.waitFor(m.put("a", "1"))
		ctx, cancel := context.WithCancel(t.Context())
		twin, err := replica.NewFollower(store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: -1, Observer: replica.Observer{
			Session: func(err error) {
				if p, ok := errors.AsType[*replica.PeerError](err); ok {
					note(&sessions, p.Code.String())
				}
			},
		}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- twin.Run(ctx) }()
		time.Sleep(time.Minute)
		cancel()
		<-done
		mu.Lock()
		defer mu.Unlock()
		if len(refusals) < 3 || refusals[0] != "f duplicate true" || !slices.Contains(sessions, "duplicate") {
			t.Errorf("the master told %q, the follower %q", refusals, sessions)
		}
	})
}
