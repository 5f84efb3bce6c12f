package replica_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// text returns a change as one word: "3:key=value", "3:key-", with "r" before
// for a repair, "|" behind for the last of its commit, "gap@3".
func text(c replica.Change) string {
	if c.Gap {
		return fmt.Sprintf("gap@%d", c.Position.Offset)
	}
	var b strings.Builder
	if c.Repair {
		b.WriteString("r")
	}
	fmt.Fprintf(&b, "%d:%s", c.Position.Offset, c.Key)
	if c.Delete {
		b.WriteString("-")
	} else {
		fmt.Fprintf(&b, "=%.5s", c.Value)
	}
	if c.Last {
		b.WriteString("|")
	}
	return b.String()
}

// take reads up to n changes of a watch, and the error that ends it.
func take(seq func(func(replica.Change, error) bool), n int) (got []string, err error) {
	for c, e := range seq {
		if e != nil {
			return got, e
		}
		if got = append(got, text(c)); len(got) == n {
			break
		}
	}
	return got, nil
}

// Ordered, unique, atomic, resumable: a watch from any offset, in memory or in
// the log, yields the commits from there on and nothing else.
func TestWatchFromAnyOffset(t *testing.T) {
	for name, tail := range map[string]int{"tail": 1 << 20, "log": 1} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := startMaster(t, store.NewMemory(), replica.MasterConfig{TailBytes: tail, Scrub: -1})
				m.put("a", "1")
				m.Write(t.Context(), []stream.Op{{Key: []byte("a"), Value: []byte("2")}, {Key: []byte("b"), Value: nil}, {Key: []byte("a"), Delete: true}})
				m.del("nothing")
				for i := range 20 {
					m.put("c", fmt.Sprint(i))
				}
				want := []string{"1:a=1|", "2:a=2", "2:b=", "2:a-|", "3:nothing-|", "4:c=0|"}
				for from, skip := range map[uint64]int{1: 0, 2: 1, 3: 4, 4: 5} {
					got, err := take(m.Watch(t.Context(), from), len(want)-skip)
					if err != nil || !slices.Equal(got, want[skip:]) {
						t.Errorf("from %d: %q, %v, want %q", from, got, err, want[skip:])
					}
				}
				got, err := take(m.Watch(t.Context(), 23), 1)
				if err != nil || got[0] != "23:c=19|" {
					t.Errorf("from the last: %q, %v", got, err)
				}
			})
		})
	}
}

// A group of commits is one record; a watch may begin inside of it.
func TestWatchFromInsideAGroup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{TailBytes: 1, Scrub: -1})
		release := holdWriter(m)
		for i := range 10 {
			putAsync(m, t.Context(), fmt.Sprint("k", i), "v")
			synctest.Wait()
		}
		release()
		synctest.Wait()
		m.put("push it off the tail", "")
		got, err := take(m.Watch(t.Context(), 7), 5)
		if want := []string{"7:k6=v|", "8:k7=v|", "9:k8=v|", "10:k9=v|", "11:push it off the tail=|"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	})
}

// A watch that waits sees what comes, and ends with its context or the master.
func TestWatchGoesOnAsCommitsCome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Scrub: -1})
		m.put("before", "")
		ctx, cancel := context.WithCancelCause(t.Context())
		var fromNow, fromNext []string
		var endNow, endNext error
		done := make(chan struct{}, 2)
		go func() { fromNow, endNow = take(m.Watch(ctx, 0), -1); done <- struct{}{} }()
		go func() { fromNext, endNext = take(m.Watch(t.Context(), 2), -1); done <- struct{}{} }()
		synctest.Wait()
		m.put("a", "1")
		time.Sleep(time.Hour)
		m.put("b", "2")
		synctest.Wait()
		cause := errors.New("enough")
		cancel(cause)
		<-done
		m.put("c", "3")
		synctest.Wait()
		m.stop()
		<-done
		if want := []string{"2:a=1|", "3:b=2|"}; endNow != cause || !slices.Equal(fromNow, want) {
			t.Errorf("from now: %q, %v, want %q and the cause", fromNow, endNow, want)
		}
		if want := []string{"2:a=1|", "3:b=2|", "4:c=3|"}; !errors.Is(endNext, replica.ErrClosed) || !slices.Equal(fromNext, want) {
			t.Errorf("from the next offset: %q, %v, want %q and ErrClosed", fromNext, endNext, want)
		}
	})
}

// Outside of the log a watch ends with a typed error, never with silence.
func TestWatchOutsideOfTheLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{LogAge: time.Minute, TailBytes: 1, Scrub: -1})
		for i := range 10 {
			m.put("k", fmt.Sprint(i))
		}
		// A watcher that is slower than the log is trimmed.
		var slow []string
		var end error
		for c, err := range m.Watch(t.Context(), 1) {
			if end = err; err != nil {
				break
			}
			slow = append(slow, text(c))
			if c.Position.Offset == 10 { // all that was in the log when it began
				time.Sleep(time.Minute)
				for i := range 10 {
					m.put("l", fmt.Sprint(i))
				}
				time.Sleep(2 * time.Minute)
				m.put("m", "")
				time.Sleep(time.Minute)
			}
		}
		if !errors.Is(end, replica.ErrTrimmed) || len(slow) != 10 {
			t.Errorf("the slow watcher: %q, %v, want 10 changes and ErrTrimmed", slow, end)
		}
		start := m.Status().Log.Start
		if start < 11 {
			t.Fatalf("the log starts at %d, want it trimmed", start)
		}
		for from, want := range map[uint64]error{1: replica.ErrTrimmed, start - 1: replica.ErrTrimmed, 23: replica.ErrAhead} {
			if got, err := take(m.Watch(t.Context(), from), 1); !errors.Is(err, want) || len(got) != 0 {
				t.Errorf("from %d: %q, %v, want %v", from, got, err, want)
			}
		}
		if got, err := take(m.Watch(t.Context(), start), 1); err != nil || !strings.HasPrefix(got[0], fmt.Sprint(start, ":")) {
			t.Errorf("from %d, where the log starts: %q, %v", start, got, err)
		}
	})
}

// On a follower a watch tells commits from repairs, and a jump of the copy is
// an explicit gap.
func TestWatchOnAFollower(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, link := &hub{}, faultnet.New(1)
		t.Cleanup(func() { link.Close() })
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), LogAge: time.Minute, Scrub: -1})
		m.put("a", "1")
		pos := m.put("b", "1")
		var g garbler
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{
			ID: "f", Dial: link.Dialer(h.dial), Scrub: -1, Fault: g.fault,
		})
		f.waitFor(pos)
		if _, err := take(f.Watch(t.Context(), 1), 1); !errors.Is(err, replica.ErrTrimmed) {
			t.Errorf("Watch from an offset: %v, want ErrTrimmed", err)
		}
		var got []string
		done := make(chan error)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			var err error
			for c, e := range f.Watch(ctx, 0) {
				if err = e; e == nil {
					got = append(got, text(c))
				}
			}
			done <- err
		}()
		time.Sleep(time.Second)
		m.Write(t.Context(), []stream.Op{{Key: []byte("c"), Value: []byte("1")}, {Key: []byte("d"), Value: []byte("1")}})
		m.del("a")
		time.Sleep(time.Second)
		g.set(lose)
		m.put("b", "2")
		time.Sleep(time.Second)
		g.set(nil)
		m.put("e", "1")
		time.Sleep(time.Second)
		link.Cut(faultnet.Reset)
		link.Refuse(true)
		m.put("f", "1")
		m.put("g", "1")
		time.Sleep(2 * time.Minute)
		m.put("h", "1")
		time.Sleep(2 * time.Minute)
		link.Heal()
		f.waitFor(m.put("i", "1"))
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch ended with %v", err)
		}
		want := "3:c=1 3:d=1| 4:a-| r5:b=2| 6:e=1| gap@10 r10:f=1 r10:g=1 r10:h=1 r10:i=1|"
		if s := strings.Join(got, " "); s != want {
			t.Errorf("the watch saw\n%s, want\n%s", s, want)
		}
		checkSame(t, m, f)
	})
}

// A follower's watcher that is too slow costs a bounded memory and is told of
// the gap.
func TestSlowWatcherOnAFollowerIsToldOfTheGap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &hub{}
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: -1})
		f.waitFor(m.put("a", ""))
		value := strings.Repeat("v", 1<<19)
		var got []string
		var last uint64
		seen := make(chan struct{})
		go func() {
			defer close(seen)
			for c, err := range f.Watch(t.Context(), 0) {
				if err != nil {
					return
				}
				got = append(got, text(c))
				// The gap had the position of the copy, beyond that of the
				// changes that came after it.
				if last != 0 && len(got) > 1 && strings.HasPrefix(got[len(got)-2], "gap") && c.Position.Offset != last+1 {
					t.Errorf("after the gap at %d came %d, want the next", last, c.Position.Offset)
				}
				if last = c.Position.Offset; last == 2 {
					time.Sleep(time.Minute)
				}
				if string(c.Key) == "end" {
					return
				}
			}
		}()
		synctest.Wait()
		for i := range 60 { // 30 MB
			m.put(fmt.Sprint("k", i), value)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		m.put("end", "")
		<-seen
		gaps := 0
		for _, s := range got {
			if strings.HasPrefix(s, "gap") {
				gaps++
			}
		}
		if gaps != 1 || len(got) < 20 || len(got) > 50 {
			t.Errorf("%d changes with %d gaps: %q, want the first, one gap, and some 16 MB", len(got), gaps, got)
		}
	})
}

// What changed behind the follower's back was seen by no watcher: when a scrub
// finds it, that is a gap, also where there is nothing to repair.
func TestWatchIsToldOfChangesBehindTheBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{Repair: manual})
		p.extra(1, 0) // a stranger, and the mark, of which it lost the delete
		var got []string
		go func() { got, _ = take(p.f.Watch(t.Context(), 0), 1) }()
		synctest.Wait()
		p.f.st.Drop([]byte("extra000000"))
		p.f.st.Drop([]byte("mark"))
		if rep, err := p.f.Verify(t.Context()); err != nil || rep.Bad != 2 {
			t.Errorf("%+v, %v, want two bad keys", rep, err)
		}
		synctest.Wait()
		if want := fmt.Sprintf("gap@%d", p.f.Status().Offset); len(got) != 1 || got[0] != want {
			t.Errorf("the watch saw %q, want %s", got, want)
		}
		if s := p.f.Status(); !*s.InSync {
			t.Errorf("%s, want in sync: what was dropped was wrong", brief(s))
		}
	})
}
