package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
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
		if m.st, err = badgerstore.Open(c.Dir, badgerstore.Options{NoSync: true}); err != nil {
			return a, err
		}
		l, err := transport.Listen("127.0.0.1:0")
		if err != nil {
			return a, err
		}
		if m.m, err = replica.NewMaster(m.st, replica.MasterConfig{Listener: l}); err != nil {
			return a, err
		}
		m.stop = background(m.m.Run)
		<-m.m.Ready()
		a.Addr = l.Addr().String()
	case "load":
		err = newWorkload(c.Seed).each(c.N, c.Commit, m.write)
	case "puts": // commits of one op, from many callers at once
		err = m.puts(ctx, c)
	case "pace":
		err = pace(c, m.write)
	}
	a.Pos = m.pos.String()
	return a, err
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

// A sdiffFollower is a follower in a process of its own.
type sdiffFollower struct {
	st   *witness
	f    *replica.Follower
	stop func() error

	bytes atomic.Uint64 // of all connections

	mu   sync.Mutex
	conn net.Conn
	cut  chan struct{} // closed while there is to be a connection
	told []time.Duration
}

func (f *sdiffFollower) do(c call) (a answer, err error) {
	ctx := context.Background()
	switch c.Do {
	case "open":
		err = f.open(c)
	case "cut":
		f.mu.Lock()
		f.cut = make(chan struct{})
		f.conn.Close()
		f.mu.Unlock()
	case "heal":
		f.mu.Lock()
		close(f.cut)
		f.mu.Unlock()
	case "watch":
		f.watch(ctx)
	case "wait": // until the copy holds everything up to Pos
		pos, perr := stream.ParsePosition(c.Pos)
		if err = perr; err == nil {
			err = f.f.WaitFor(ctx, pos)
		}
	case "times":
		f.mu.Lock()
		a.Times, a.Times2 = f.st.take(), f.told
		f.told = nil
		f.mu.Unlock()
	}
	a.Bytes = f.bytes.Load()
	return a, err
}

func (f *sdiffFollower) open(c call) error {
	st, err := badgerstore.Open(c.Dir, badgerstore.Options{NoSync: true})
	if err != nil {
		return err
	}
	f.st, f.cut = &witness{Store: st}, make(chan struct{})
	close(f.cut)
	dial := transport.DialTCP(c.Addr)
	f.f, err = replica.NewFollower(f.st, replica.FollowerConfig{
		ID: "bench",
		Dial: func(ctx context.Context) (net.Conn, error) {
			f.mu.Lock()
			cut := f.cut
			f.mu.Unlock()
			select {
			case <-cut:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			nc, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			conn := countedConn{nc, &f.bytes}
			f.mu.Lock()
			f.conn = conn
			f.mu.Unlock()
			return conn, nil
		},
	})
	if err != nil {
		return err
	}
	f.stop = background(f.f.Run)
	return nil
}

// watch notes how old a change is when a watcher is told of it.
func (f *sdiffFollower) watch(ctx context.Context) {
	go func() {
		for change, err := range f.f.Watch(ctx, 0) {
			if err != nil {
				return
			}
			now := time.Now()
			f.mu.Lock()
			f.told = appendAges(f.told, []stream.Op{{Key: change.Key, Value: change.Value}}, now)
			f.mu.Unlock()
		}
	}()
}

func (f *sdiffFollower) close() error {
	if f.f == nil {
		return nil
	}
	return errors.Join(f.stop(), f.st.Close())
}

// A witness is a store that notes how old stamped values are when they can be
// read.
type witness struct {
	store.Store
	mu    sync.Mutex
	times []time.Duration
}

func (w *witness) Write(tx *store.Txn) error {
	if err := w.Store.Write(tx); err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.times = appendAges(w.times, tx.Ops, now)
	return nil
}

func (w *witness) take() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.times
	w.times = nil
	return t
}

// A countedConn counts the bytes of a connection, both ways.
type countedConn struct {
	net.Conn
	bytes *atomic.Uint64
}

func (c countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(uint64(n))
	return n, err
}

func (c countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.bytes.Add(uint64(n))
	return n, err
}
