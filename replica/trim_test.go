package replica_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// logOf returns the offsets of the oldest and the newest commit in a store's
// log, and the bytes of all records.
func logOf(t tester, st store.Store) (first, last uint64, bytes int) {
	t.Helper()
	v, err := st.View()
	if err != nil {
		t.Fatalf("View: %v", err)
	}
	defer v.Close()
	err = v.Log(0, func(rec stream.Record) bool {
		if first == 0 {
			first = rec.First
		} else if rec.First != last+1 {
			t.Errorf("the log goes from %d to %d", last, rec.First)
		}
		last, bytes = rec.Last, bytes+len(rec.Body)
		return true
	})
	if err != nil {
		t.Fatalf("Log: %v", err)
	}
	return first, last, bytes
}

// L5: the log is kept within its bytes, from the old end only.
func TestL5LogIsTrimmedByBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const limit = 100 << 10
		st := store.NewMemory()
		m := startMaster(t, st, replica.MasterConfig{LogBytes: limit, LogAge: -1, TailBytes: 1, Scrub: -1})
		value := strings.Repeat("v", 1000)
		for i := range 500 {
			m.put(fmt.Sprint("key", i%10), value)
		}
		within(t, time.Minute, "the log is within its bytes", func() bool {
			_, _, bytes := logOf(t, st)
			return bytes <= limit
		})
		first, last, bytes := logOf(t, st)
		if last != 500 || bytes < limit/2 {
			t.Errorf("%d bytes are left, up to %d, want up to 500 and not much less than %d", bytes, last, limit)
		}
		s := m.Status()
		if s.Log.Start != first || s.Log.Bytes != int64(bytes) {
			t.Errorf("status: the log starts at %d and has %d bytes, want %d and %d", s.Log.Start, s.Log.Bytes, first, bytes)
		}
		// A restart finds the same.
		if err := m.stop(); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		m = startMaster(t, st, replica.MasterConfig{LogBytes: limit, LogAge: -1, Scrub: -1})
		<-m.Ready()
		if again := m.Status(); again.Log.Start != first || again.Log.Bytes != int64(bytes) {
			t.Errorf("after a restart: the log starts at %d and has %d bytes, want %d and %d", again.Log.Start, again.Log.Bytes, first, bytes)
		}
		// A quiet log keeps its last record, whatever its size.
		m.put("large", strings.Repeat("v", 2*limit))
		time.Sleep(time.Minute)
		if first, last, _ := logOf(t, st); first != 501 || last != 501 {
			t.Errorf("the log holds %d to %d, want only the newest commit, 501", first, last)
		}
	})
}

// L5: the log is kept within its age.
func TestL5LogIsTrimmedByAge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := store.NewMemory()
		m := startMaster(t, st, replica.MasterConfig{LogAge: time.Hour, LogBytes: -1, Scrub: -1})
		for i := range 100 {
			m.put("key", fmt.Sprint(i))
			time.Sleep(time.Minute)
		}
		first, last, _ := logOf(t, st)
		if last != 100 || first < 38 || first > 42 {
			t.Errorf("the log holds %d to %d after 100 minutes, want the last hour", first, last)
		}
		time.Sleep(24 * time.Hour)
		if first, last, _ := logOf(t, st); first != 100 || last != 100 {
			t.Errorf("the log holds %d to %d after a day, want the newest only", first, last)
		}
	})
}

// C4 39: a follower whose place in the log is trimmed while it is away, or
// while it reads, is repaired; it never skips silently.
func TestTrimUnderASlowFollower(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, link := &hub{}, faultnet.New(1)
		t.Cleanup(func() { link.Close() })
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{
			Listener: h.listen(), LogBytes: 200 << 10, TailBytes: 50 << 10, Scrub: -1,
		})
		var e events
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{
			ID: "f", Dial: link.Dialer(h.dial), Observer: e.observer(), Scrub: -1,
		})
		f.waitFor(m.put("first", ""))
		link.SetRate(faultnet.In, 20_000)
		value := strings.Repeat("v", 5000)
		for i := range 2000 { // 10 MB in 20 s, of which the link takes 0.4 MB and holds 4 MiB
			m.put(fmt.Sprint("key", i%300), value)
			time.Sleep(10 * time.Millisecond)
		}
		link.Heal()
		pos := m.put("last", "")
		f.waitFor(pos)
		synctest.Wait()
		checkSame(t, m, f)
		repaired := 0
		for _, r := range e.reports() {
			if r.Outcome == replica.Repaired {
				repaired++
			}
		}
		if repaired == 0 || !e.saw("the log starts at") {
			t.Errorf("repairs %+v, states %q: want a repair because the log was trimmed", e.reports(), e.states)
		}
	})
}

// A holed store cannot read the log records that hold some offsets.
type holed struct {
	*store.Memory
	holes atomic.Pointer[[]uint64]
	met   atomic.Int64
}

type holedView struct {
	store.View
	st *holed
}

func (s *holed) View() (store.View, error) {
	v, err := s.Memory.View()
	return holedView{v, s}, err
}

func (v holedView) Log(from uint64, fn func(rec stream.Record) bool) (err error) {
	lerr := v.View.Log(from, func(rec stream.Record) bool {
		for _, hole := range *v.st.holes.Load() {
			if rec.First <= hole && hole <= rec.Last {
				v.st.met.Add(1)
				err = store.ErrCorrupt
				return false
			}
		}
		return fn(rec)
	})
	return errors.Join(lerr, err)
}

// A log record that cannot be read stopped the trimming of the log for good.
func TestL5LogIsTrimmedOverDamage(t *testing.T) {
	for _, test := range []struct {
		name  string
		holes []uint64
	}{
		{"the oldest", []uint64{1}}, {"several", []uint64{3, 4, 5, 7, 20}},
		{"among the newest", []uint64{490, 499}}, {"the newest", []uint64{1, 500}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := &hub{}
				const limit = 100 << 10
				st := &holed{Memory: store.NewMemory()}
				st.holes.Store(&test.holes)
				running, err := replica.NewMaster(st, replica.MasterConfig{Listener: h.listen(), LogBytes: limit, LogAge: -1, TailBytes: 1, Scrub: -1})
				if err != nil {
					t.Fatal(err)
				}
				m := &master{Master: running, running: start(t, running.Run), t: t, st: st.Memory}
				f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: -1})
				value := strings.Repeat("v", 1000)
				for i := range 500 {
					m.put(fmt.Sprint("key", i%10), value)
				}
				bounded := func() bool {
					_, _, bytes := logOf(t, m.st)
					return bytes <= limit && m.Status().Log.Bytes <= limit
				}
				within(t, time.Minute, "the log is within its bytes", bounded)
				for i := range 500 {
					m.put(fmt.Sprint("key", i%10), value)
				}
				within(t, time.Minute, "the log is within its bytes again", bounded)
				first, last, bytes := logOf(t, m.st)
				if s := m.Status(); last != 1000 || s.Log.Start != first || s.Log.Bytes != int64(bytes) || bytes < limit/2 {
					t.Errorf("the log holds %d to %d in %d bytes, the status says from %d, %d bytes", first, last, bytes, s.Log.Start, s.Log.Bytes)
				}
				if st.met.Load() == 0 {
					t.Error("the damage was never met")
				}
				within(t, 10*time.Minute, "the follower is up to date", func() bool { return f.Status().Offset == 1000 })
				checkSame(t, m, f)
			})
		})
	}
}

// A log that is empty is none that cannot be read.
func TestEmptyLogIsNotTrimmed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var said strings.Builder
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Scrub: -1, Logger: slog.New(slog.NewTextHandler(&said, nil))})
		time.Sleep(time.Hour)
		m.put("first", "")
		time.Sleep(48 * time.Hour)
		m.stop()
		if strings.Contains(said.String(), "the log") {
			t.Errorf("it said %s", said.String())
		}
	})
}
