package replica_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
)

// A person who accepts a rollback and takes that back, by Ctrl-C or a timeout,
// before the master has answered, has not accepted it: the copy was overwritten
// at the next connection, and nobody was told of which keys.
func TestP1ConsentThatIsTakenBack(t *testing.T) {
	for _, c := range []struct {
		name  string
		after time.Duration // from when on the master is slow to answer
	}{
		{"with an attempt that carries it", 0},
		{"with an attempt under way that does not", time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRollback(t, store.MemoryConfig{}, 200)
				old := backup(t, r.m.st)
				r.f.waitFor(r.write(201, 210))
				r.f.stop()
				r.comeBack(old)
				var gate atomic.Pointer[chan struct{}]
				open := make(chan struct{})
				close(open)
				gate.Store(&open)
				cfg := r.cfg()
				cfg.Dial = func(ctx context.Context) (net.Conn, error) {
					select {
					case <-*gate.Load():
						return r.h.dial(ctx)
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				}
				r.f = startFollower(t, r.f.st.Reopen(), cfg)
				<-r.f.Ready()
				within(t, time.Minute, "it parks", func() bool { return r.f.Status().State == replica.Parked })
				want := contents(t, r.f.st)
				closed := make(chan struct{})
				gate.Store(&closed)
				time.Sleep(c.after)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := r.f.Repair(ctx, replica.RepairOptions{AcceptRollback: true, AllowMassDelete: true}); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("Repair = %v", err)
				}
				close(closed)
				time.Sleep(time.Hour)
				if s := r.f.Status(); s.State != replica.Parked {
					t.Errorf("%s, want it parked", brief(s))
				}
				if got := contents(t, r.f.st); !maps.Equal(got, want) {
					t.Errorf("it holds %d keys, want the %d as they were", len(got), len(want))
				}
				r.wantConsent()
			})
		})
	}
}

// What is overwritten after consent is named also if the session breaks in the
// midst of it: the repair that goes on by itself named nothing.
func TestP1RepairAfterConsentThatIsCutOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRollback(t, store.MemoryConfig{}, 10)
		old := backup(t, r.m.st)
		r.f.waitFor(r.write(11, 50))
		r.f.stop()
		r.comeBack(old)
		r.m.fill(600, strings.Repeat("second life", 500))
		link := faultnet.New(1)
		t.Cleanup(func() { link.Close() })
		var mu sync.Mutex
		var told []string
		var reports []replica.Report
		cfg := r.cfg()
		cfg.Dial = link.Dialer(r.h.dial)
		cfg.Observer.Repair = func(rep replica.Report) {
			mu.Lock()
			defer mu.Unlock()
			reports = append(reports, rep)
			for _, d := range rep.Keys {
				told = append(told, listed(d))
			}
		}
		r.f = startFollower(t, r.f.st.Reopen(), cfg)
		<-r.f.Ready()
		within(t, time.Minute, "it parks", func() bool { return r.f.Status().State == replica.Parked })
		want := differences(contents(t, r.m.st), contents(t, r.f.st))
		link.CutAfter(faultnet.In, 1<<20, faultnet.Reset)
		rep := r.f.repair(replica.RepairOptions{AcceptRollback: true, AllowMassDelete: true})
		if rep.Outcome != replica.Unknown || len(rep.Keys) == 0 || len(rep.Keys) >= len(want) {
			t.Fatalf("%+v names %d of %d keys: it was not cut off in the midst", rep.Outcome, len(rep.Keys), len(want))
		}
		within(t, time.Hour, "it is repaired", func() bool {
			s := r.f.Status()
			return s.State == replica.Streaming && s.LastRepair.Outcome == replica.Repaired
		})
		checkSame(t, r.m, r.f)
		mu.Lock()
		slices.Sort(told)
		if told = slices.Compact(told); !slices.Equal(told, want) {
			t.Errorf("%d repairs name %d keys, want the %d that were overwritten", len(reports), len(told), len(want))
		}
		mu.Unlock()
		// And no longer than that.
		r.f.st.Tamper([]byte("key0001"), []byte("other"))
		if rep := r.f.repair(replica.RepairOptions{}); rep.Keys != nil {
			t.Errorf("a later repair names %d keys", len(rep.Keys))
		}
	})
}
