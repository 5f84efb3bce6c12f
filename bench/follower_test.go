package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
	"github.com/sdiff/sdiff/transport"
)

// A sdiffFollower is a follower in a process of its own.
type sdiffFollower struct {
	st   *witness
	f    *replica.Follower
	stop func() error
	harm harm

	bytes atomic.Uint64 // of all connections

	mu     sync.Mutex
	conn   net.Conn
	cut    chan struct{} // closed while there is to be a connection
	refuse bool          // while there is none, say so
	healed time.Time
	retry  time.Duration // from then to the first attempt to connect
	told   []time.Duration
}

func (f *sdiffFollower) do(c call) (a answer, err error) {
	ctx := context.Background()
	switch c.Do {
	case "open":
		err = f.open(c)
	case "cut":
		f.mu.Lock()
		f.cut, f.refuse = make(chan struct{}), c.Refuse
		f.conn.Close()
		f.mu.Unlock()
	case "heal":
		f.mu.Lock()
		f.healed, f.retry = time.Now(), 0
		close(f.cut)
		f.mu.Unlock()
	case "watch":
		f.watch(ctx)
	case "wait": // until the copy holds everything up to Pos
		pos, perr := stream.ParsePosition(c.Pos)
		if err = perr; err == nil {
			err = f.f.WaitFor(ctx, pos)
		}
		a.Pos = c.Pos
	case "times":
		f.mu.Lock()
		a.Times, a.Times2 = f.st.take(), f.told
		f.told = nil
		f.mu.Unlock()
	case "retry":
		f.mu.Lock()
		a.Times = []time.Duration{f.retry}
		f.mu.Unlock()
	case "harm": // the next N ops on their way in
		f.harm.arm(c.N)
	case "tamper": // with N items in the store, at the next commit
		f.harm.tamper(f.st, c)
	case "mended": // all that was harmed
		a = f.harm.mended()
	case "verify":
		_, err = f.f.Verify(ctx)
	case "repairs":
		a.Repairs = f.harm.take()
	}
	a.Bytes = f.bytes.Load()
	return a, err
}

func (f *sdiffFollower) open(c call) error {
	st, err := openStore(c)
	if err != nil {
		return err
	}
	f.st, f.cut = &witness{Store: st}, make(chan struct{})
	close(f.cut)
	cfg := replica.FollowerConfig{ID: "bench", Dial: f.dialer(c.Addr)}
	f.harm.observe(&cfg.Observer)
	if c.Faulty {
		cfg.Fault = f.harm.fault
	}
	if f.f, err = replica.NewFollower(f.st, cfg); err != nil {
		return err
	}
	f.stop = background(f.f.Run)
	return nil
}

// dialer returns what connects to the master, unless the connection is cut.
func (f *sdiffFollower) dialer(addr string) func(context.Context) (net.Conn, error) {
	dial := transport.DialTCP(addr)
	return func(ctx context.Context) (net.Conn, error) {
		if err := f.linked(ctx); err != nil {
			return nil, err
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
	}
}

// linked waits until there is to be a connection, or says that there is none.
func (f *sdiffFollower) linked(ctx context.Context) error {
	f.mu.Lock()
	cut, refuse := f.cut, f.refuse
	f.mu.Unlock()
	select {
	case <-cut:
	default:
		if refuse {
			return errors.New("the connection is cut")
		}
		select {
		case <-cut:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.retry == 0 {
		f.retry = time.Since(f.healed)
	}
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
	slip  func() []stream.Op // returns what goes into the store behind the replica's back
}

// Write takes the store's own Write, as a replica that calls it does.
func (w *witness) Write(tx *store.Txn) error {
	ops := tx.Ops
	defer func() { tx.Ops = ops }()
	tx.Ops = w.slipped(ops)
	if err := w.Store.Write(tx); err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	w.saw(ops)
	return nil
}

func (w *witness) Start(tx *store.Txn, endc chan<- error) error {
	ops := tx.Ops
	defer func() { tx.Ops = ops }()
	tx.Ops = w.slipped(ops)
	storedc := make(chan error, 1)
	if err := store.Start(w.Store, tx, storedc); err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	go func() {
		err := <-storedc
		if err == nil {
			w.saw(ops)
		}
		endc <- err
	}()
	return nil
}

// slipped returns the ops of a transaction and what is to slip in with them.
func (w *witness) slipped(ops []stream.Op) []stream.Op {
	w.mu.Lock()
	slip := w.slip
	w.slip = nil
	w.mu.Unlock()
	if slip == nil {
		return ops
	}
	return slices.Concat(ops, slip())
}

// saw notes that ops can be read now.
func (w *witness) saw(ops []stream.Op) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.times = appendAges(w.times, ops, now)
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
