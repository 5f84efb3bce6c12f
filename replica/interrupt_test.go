package replica_test

import (
	"context"
	"errors"
	"testing"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
)

// An interrupting store ends a context when its hundredth item is read, and
// counts those that are read.
type interrupting struct {
	*store.Memory
	end   context.CancelCauseFunc
	items int
}

type interruptingView struct {
	store.View
	st *interrupting
}

func (s *interrupting) View() (store.View, error) {
	v, err := s.Memory.View()
	return interruptingView{v, s}, err
}

func (v interruptingView) Ascend(lo, hi []byte, fn func(key, value []byte) bool) error {
	return v.View.Ascend(lo, hi, func(key, value []byte) bool {
		if v.st.items++; v.st.items == 100 {
			v.st.end(errInterrupted)
		}
		return fn(key, value)
	})
}

var errInterrupted = errors.New("interrupted by a person")

// Building the tree at the start could not be interrupted: a large store was
// read to its end first.
func TestInterruptWhileTheTreeIsBuilt(t *testing.T) {
	const keys = 10_000
	var h hub
	var master, follower *store.Memory
	bubble(t, func(t *testing.T) {
		m, f := startPair(t, &h, keys)
		f.stop()
		m.stop()
		master, follower = m.st, f.st
	})
	for name, run := range map[string]func(ctx context.Context, st *interrupting) error{
		"master": func(ctx context.Context, st *interrupting) error {
			st.Memory = master.Reopen()
			m, err := replica.NewMaster(st, replica.MasterConfig{})
			if err != nil {
				t.Fatal(err)
			}
			return m.Run(ctx)
		},
		"follower": func(ctx context.Context, st *interrupting) error {
			st.Memory = follower.Reopen()
			f, err := replica.NewFollower(st, replica.FollowerConfig{ID: "f", Dial: h.dial})
			if err != nil {
				t.Fatal(err)
			}
			return f.Run(ctx)
		},
		"restore": func(ctx context.Context, st *interrupting) error {
			st.Memory = follower.Reopen()
			_, err := replica.Restore(ctx, master.Reopen(), st, merkle.XXH64(), false)
			return err
		},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		st := &interrupting{end: cancel}
		if err := run(ctx, st); !errors.Is(err, errInterrupted) {
			t.Errorf("%s: %v, want the cause of the interruption", name, err)
		}
		if st.items < 100 || st.items > keys/2 {
			t.Errorf("%s: %d of %d items were read", name, st.items, keys)
		}
		cancel(nil)
	}
}
