package replica_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"sync/atomic"
	"testing"
	"time"

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
