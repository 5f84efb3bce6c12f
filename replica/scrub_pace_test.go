package replica_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
)

// A slow store takes a while for each iteration, which are counted.
type slow struct {
	*store.Memory
	takes time.Duration
	walks atomic.Int64
}

func (s *slow) View() (store.View, error) {
	v, err := s.Memory.View()
	return slowView{v, s}, err
}

type slowView struct {
	store.View
	s *slow
}

func (v slowView) Ascend(lo, hi []byte, fn func(key, value []byte) bool) error {
	time.Sleep(v.s.takes)
	v.s.walks.Add(1)
	return v.View.Ascend(lo, hi, fn)
}

// S2: a pass of the scrub takes its share of the time and no more, and status
// tells how far it is, at what pace, and when it ends.
func TestS2ScrubKeepsItsShareAndTellsOfIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const items, takes, share = 200_000, 100 * time.Millisecond, 0.05
		filled := startMaster(t, store.NewMemory(), replica.MasterConfig{Scrub: -1})
		filled.fill(items, "v")
		filled.stop()
		st := &slow{Memory: filled.st.Reopen(), takes: takes}
		m, err := replica.NewMaster(st, replica.MasterConfig{Scrub: share})
		if err != nil {
			t.Fatal(err)
		}
		start(t, m.Run)
		<-m.Ready()
		began, before := time.Now(), st.walks.Load()
		var reached []float64
		for m.Status().Scrub.Passes == 0 {
			time.Sleep(100 * time.Millisecond)
			s := m.Status().Scrub
			if s.Progress == 0 || s.Progress == 1 || len(reached) > 0 && s.Progress == reached[len(reached)-1] {
				continue
			}
			reached = append(reached, s.Progress)
			if !s.Running || s.Share != share || s.Items != uint64(s.Progress*items) || s.Bytes == 0 || s.ItemsPerSecond <= 0 || s.BytesPerSecond <= 0 {
				t.Errorf("at %.2f: %+v", s.Progress, s)
			}
			if s.Began == nil || !s.Began.Equal(began) || s.ETA == nil || !s.ETA.After(time.Now()) {
				t.Errorf("at %.2f: began %v, to end at %v; it is %v", s.Progress, s.Began, s.ETA, time.Now())
			}
			if time.Since(began) > time.Hour {
				t.Fatalf("no pass in an hour: %+v", s)
			}
		}
		s, walks := m.Status().Scrub, st.walks.Load()-before
		if walks < 2 || len(reached) < 2 {
			t.Fatalf("a pass of %d walks, seen at %v: this test tells nothing", walks, reached)
		}
		want := time.Duration(float64(walks) * float64(takes) / share)
		if took := time.Duration(s.TookSeconds * float64(time.Second)); took < want*9/10 || took > want*11/10 {
			t.Errorf("the pass took %v, want about %v: %d walks of %v at %v of a core", took, want, walks, takes, share)
		}
		if s.Running || s.Items != items || s.Progress != 1 || s.ETA != nil || s.Last == nil || s.Found != 0 || s.Bad != 0 || s.Error != "" {
			t.Errorf("after the pass: %+v", s)
		}
		time.Sleep(2 * time.Minute) // a minute of rest lies between
		if s := m.Status().Scrub; s.Began == nil || !s.Began.After(began) {
			t.Errorf("no second pass began: %+v", s)
		}
	})
}

// Once a master had more damaged keys than it remembers, its status said that
// there are others for ever, also when all had been written again.
func TestScrubForgetsThatThereWereOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const items = 10_100
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Scrub: -1})
		m.fill(items, "right")
		for i := range items {
			m.st.Tamper(keyOf(i), []byte("wrong"))
		}
		verify := func(bad uint64) replica.ScrubStatus {
			t.Helper()
			if rep, err := m.Verify(t.Context()); err != nil || rep.Bad != bad {
				t.Fatalf("Verify = %d bad, %v, want %d", rep.Bad, err, bad)
			}
			return m.Status().Scrub
		}
		for range 2 {
			if s := verify(items); s.Bad != 10_000 || !s.More {
				t.Errorf("%d bad and others: %v, want 10000 and others", s.Bad, s.More)
			}
		}
		m.fill(items-1, "right again")
		if s := verify(1); s.Bad != 1 || s.More {
			t.Errorf("%d bad and others: %v, want one", s.Bad, s.More)
		}
	})
}
