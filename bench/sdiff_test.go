package bench

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/stream"
	"github.com/sdiff/sdiff/transport"
)

// A sdiffMaster is a master in a process of its own.
type sdiffMaster struct {
	st   store.Store
	m    *replica.Master
	stop func() error
	pos  stream.Position
}

// background runs a replica. The function returned ends it.
func background(run func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	return func() error {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	}
}

func (m *sdiffMaster) do(c call) (a answer, err error) {
	ctx := context.Background()
	switch c.Do {
	case "open":
		a.Addr, err = m.open(c)
	case "load":
		err = newWorkload(c.Seed).each(c.N, c.Commit, m.write)
	case "puts": // commits of one op, from many callers at once
		err = m.puts(ctx, c)
	case "pace":
		err = pace(c, m.write)
	case "mix":
		err = m.write(mixed(c))
	case "churn":
		err = newWorkload(c.Seed).each(c.N, c.Commit, func(ops []stream.Op) error { return m.write(fewKeys(ops)) })
	case "trimmed": // until the log no longer has the commit after Pos
		err = m.trimmed(c)
	}
	a.Pos = m.pos.String()
	return a, err
}

// openStore opens a replica's store.
func openStore(c call) (store.Store, error) {
	if c.Memory {
		return store.NewMemory(), nil
	}
	return badgerstore.Open(c.Dir, badgerstore.Options{NoSync: !c.Sync})
}

func (m *sdiffMaster) open(c call) (addr string, err error) {
	if m.st, err = openStore(c); err != nil {
		return "", err
	}
	l, err := transport.Listen("127.0.0.1:0")
	if err != nil {
		return "", err
	}
	cfg := replica.MasterConfig{Listener: l}
	if c.NoLog {
		cfg.LogBytes, cfg.TailBytes = 1, 1
	}
	if m.m, err = replica.NewMaster(m.st, cfg); err != nil {
		return "", err
	}
	m.stop = background(m.m.Run)
	<-m.m.Ready()
	return l.Addr().String(), nil
}

func (m *sdiffMaster) trimmed(c call) error {
	pos, err := stream.ParsePosition(c.Pos)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for m.m.Status().Log.Start <= pos.Offset+1 {
		<-ticker.C
	}
	return nil
}

func (m *sdiffMaster) write(ops []stream.Op) (err error) {
	m.pos, err = m.m.Write(context.Background(), ops)
	return err
}

func (m *sdiffMaster) puts(ctx context.Context, c call) error {
	const callers = 64
	var mu sync.Mutex
	var wg sync.WaitGroup
	errs := make([]error, callers)
	for i := range callers {
		wg.Go(func() {
			errs[i] = newWorkload(c.Seed+uint64(i)).each(c.N/callers, 1, func(ops []stream.Op) error {
				pos, err := m.m.Write(ctx, ops)
				mu.Lock()
				defer mu.Unlock()
				if pos.Offset > m.pos.Offset {
					m.pos = pos
				}
				return err
			})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (m *sdiffMaster) close() error {
	if m.m == nil {
		return nil
	}
	return errors.Join(m.stop(), m.st.Close())
}
