package replica_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/transport"
)

func TestSmoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := transport.NewPipeListener()
		log := slog.New(slog.NewTextHandler(t.Output(), nil))
		m, err := replica.NewMaster(store.NewMemory(), replica.MasterConfig{Listener: l, Logger: log})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 2)
		go func() { done <- m.Run(ctx) }()
		for i := range 1000 {
			if _, err := m.Put(ctx, fmt.Appendf(nil, "key%04d", i), []byte("v")); err != nil {
				t.Fatal(err)
			}
		}
		fs := store.NewMemory()
		f, err := replica.NewFollower(fs, replica.FollowerConfig{ID: "f1", Dial: l.Dial, Logger: log})
		if err != nil {
			t.Fatal(err)
		}
		go func() { done <- f.Run(ctx) }()
		pos, err := m.Put(ctx, []byte("x"), []byte("y"))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.WaitFor(ctx, pos); err != nil {
			t.Fatal(err)
		}
		v, err := f.Get(ctx, []byte("x"))
		t.Logf("%s %v", v, err)
		time.Sleep(3 * time.Second)
		t.Logf("%+v", f.Status())
		t.Logf("%+v", f.Status().LastRepair)
		t.Logf("%+v", m.Status())
		rep, err := f.Repair(ctx, replica.RepairOptions{})
		t.Logf("%+v %v", rep, err)
		if rep.Outcome != replica.Same {
			t.Errorf("outcome %v", rep.Outcome)
		}
		cancel()
		t.Log(<-done, <-done)
	})
}
