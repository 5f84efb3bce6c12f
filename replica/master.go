package replica

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
	"github.com/sdiff/sdiff/transport"
)

const (
	// handshakeTime bounds how long a stranger may take to say hello.
	handshakeTime = 5 * time.Second
	// maxHandshakes bounds the connections that have not said hello yet; one
	// more is closed at once.
	maxHandshakes = 1024
)

// A Master is the canonical copy of a dataset. It takes writes, logs them and
// streams them to followers. All methods are safe for concurrent use; those
// that need the tree wait until Run has built it.
type Master struct {
	// immutable
	st  store.Store
	cfg MasterConfig

	readyc chan struct{} // closed when w is set
	endedc chan struct{} // closed when Run has ended
	ran    atomic.Bool

	// set before readyc is closed
	w         *writer
	followers *registry
	scrub     *scrubber
	reads     reader

	wg    sync.WaitGroup // short-lived helpers of sessions
	slots chan struct{}  // comparisons being served
	// making paces what these cost.
	making makePace
	// logGap is the newest offset that the log was found not to hold although
	// it should; a follower that needs it is repaired instead. 0 is none.
	logGap atomic.Uint64
	// loss is the epoch that began with a loss that a person accepted.
	loss  stream.Epoch
	ages  clockwork
	acks  signal
	share sharing // of what waits for followers: as much as the tail
	aging *aging  // keepTrimmed's
	// expressing orders those who derive the state.
	expressing sync.Mutex
	life       lifecycle
}

// NewMaster returns a master over a store, which stays the caller's to close
// once Run has ended. It starts nothing and reads nothing.
func NewMaster(st store.Store, cfg MasterConfig) (*Master, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	m := &Master{
		st: st, cfg: cfg,
		readyc: make(chan struct{}), endedc: make(chan struct{}),
		slots: make(chan struct{}, cfg.MaxRepairs),
	}
	m.share.bytes = int64(cfg.TailBytes)
	m.life.init(cfg.Observer)
	return m, nil
}

// Run opens the store, builds the tree, which takes a pass over the data, and
// then takes writes and serves followers until ctx ends. It returns the cause,
// and when it returns nothing it started is alive. It runs once.
func (m *Master) Run(ctx context.Context) (err error) {
	if m.ran.Swap(true) {
		return errors.New("a master runs once")
	}
	defer close(m.endedc)
	defer func() { m.life.end(err) }()
	if m.cfg.Listener != nil {
		defer m.cfg.Listener.Close()
	}
	o, err := openMaster(ctx, m.st, m.cfg)
	if err != nil {
		return err
	}
	m.followers = newRegistry(m.cfg.MaxFollowers)
	if err := m.loadFollowers(); err != nil {
		return err
	}
	m.ages.note(o.meta.Position.Offset, time.Now())
	m.w = newWriter(m.st, m.cfg, o, &m.ages)
	m.scrub = newScrubber(m.w.tree, m.cfg.Scrub, m.w.view, func(_ context.Context, bad []mismatch) { m.damaged(bad, false) })
	m.w.turned, m.w.trimmed = m.express, m.cutOff
	m.w.found = func(bad mismatch) { m.damaged([]mismatch{bad}, true) }
	m.reads = reader{st: m.st, tree: m.w.tree, view: m.w.view, found: func(_ context.Context, bad []mismatch) { m.damaged(bad, true) }}
	m.loss = o.loss
	close(m.readyc)
	m.w.refused(store.Room(m.st)) // the writer does not run yet
	m.express()

	// The writer ends last, so that every session can still be told why.
	wctx, stopWriter := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopWriter(nil)
	g, gctx := errgroup.WithContext(ctx)
	writerErr := make(chan error, 1)
	go func() {
		err := errors.New("the function of an Update ended the writer's goroutine")
		defer func() { writerErr <- err }()
		err = m.w.loop(wctx)
	}()
	g.Go(func() error {
		select {
		case err := <-writerErr:
			writerErr <- err
			return err
		case <-gctx.Done():
			return context.Cause(gctx)
		}
	})
	g.Go(func() error { return m.keepTrimmed(gctx) })
	g.Go(func() error { return m.watchHealth(gctx) })
	g.Go(func() error { return m.keepRanges(gctx) })
	g.Go(func() error { return m.keepRemembered(gctx) })
	if m.cfg.Scrub > 0 {
		g.Go(func() error { return m.scrub.run(gctx) })
	}
	if m.cfg.Listener != nil {
		g.Go(func() error { return m.accept(gctx) })
	}
	err = g.Wait()
	m.wg.Wait()
	m.rememberAll()
	// The writer returns what it was ended with, unless something went wrong.
	stopWriter(err)
	return <-writerErr
}

func (m *Master) loadFollowers() error {
	v, err := m.st.View()
	if err != nil {
		return err
	}
	defer v.Close()
	if m.aging, err = loadAging(v, m.cfg.LogAge, time.Now()); err != nil {
		// It is for trimming alone.
		m.cfg.Logger.Warn("the age of the log is not known: it counts from now on", "error", err)
		m.aging = &aging{limit: m.cfg.LogAge, start: time.Now()}
	}
	err = m.followers.load(v)
	if errors.Is(err, store.ErrCorrupt) {
		m.cfg.Logger.Warn("not all followers that were known can be read: they are known again once they connect", "error", err)
		return nil
	}
	return err
}

// damaged is told by the scrub, and by reads, of keys that the store does not
// hold as it should. They are not sent to anyone: see serveSync.put.
func (m *Master) damaged(bad []mismatch, reading bool) {
	news := m.w.tree.noteBad(bad)
	m.scrub.met(len(news), reading)
	if len(news) == 0 {
		return
	}
	m.cfg.Logger.Error("the store does not hold keys as they were written: they are not sent to followers until they are written again", "keys", len(news), "first", news[0].what())
	if m.cfg.Observer.Damage != nil {
		named := make([]BadKey, len(news))
		for i, b := range news {
			named[i] = BadKey{b.key, b.what()}
		}
		m.cfg.Observer.Damage(named)
	}
}

// Ready is closed when the tree is built and followers are served.
func (m *Master) Ready() <-chan struct{} { return m.readyc }

// ready waits until the writer is there.
func (m *Master) ready(ctx context.Context) error {
	return waitReady(ctx, m.readyc, m.endedc, &m.life)
}

func waitReady(ctx context.Context, readyc, endedc <-chan struct{}, l *lifecycle) error {
	ended := func() error {
		if err := l.cause(); err != nil {
			return fmt.Errorf("%w: %w", ErrClosed, err)
		}
		return ErrClosed
	}
	select {
	case <-endedc:
		return ended()
	default:
	}
	select {
	case <-readyc:
		return nil
	default:
	}
	select {
	case <-readyc:
		return nil
	case <-endedc:
		return ended()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Put sets a key and returns the position of its commit, which is in the store
// by then and, with sync=always, on disk. Before the tree is built it waits.
// The slices may be used again once it has returned.
func (m *Master) Put(ctx context.Context, key, value []byte) (stream.Position, error) {
	return m.Write(ctx, []stream.Op{{Key: key, Value: value}})
}

// Delete removes a key. It is no error if there is none.
func (m *Master) Delete(ctx context.Context, key []byte) (stream.Position, error) {
	return m.Write(ctx, []stream.Op{{Key: key, Delete: true}})
}

// Write makes one commit of all ops, in order: everyone sees all of them or
// none. What breaks a limit of the store is refused before anything is
// written. If ctx ends before the writer has begun, nothing is written.
func (m *Master) Write(ctx context.Context, ops []stream.Op) (stream.Position, error) {
	if err := checkOps(ops, limitsOf(m.st)); err != nil {
		return stream.Position{}, err
	}
	if err := m.ready(ctx); err != nil {
		return stream.Position{}, err
	}
	return m.w.do(ctx, &request{ops: ops, size: stream.Size(ops)})
}

// Update runs fn on the writer's goroutine, where nothing else commits
// meanwhile, and makes one commit of what it wrote; if it wrote nothing there
// is no commit. If fn returns an error nothing is written and Update returns
// it. All writes wait for fn, so it should be quick and must not call methods
// of the Master. It may be called more than once, only its last call counts.
func (m *Master) Update(ctx context.Context, fn func(*Tx) error) (stream.Position, error) {
	if err := m.ready(ctx); err != nil {
		return stream.Position{}, err
	}
	return m.w.do(ctx, &request{fn: fn})
}

// Forget makes the master forget a follower that is not connected.
func (m *Master) Forget(ctx context.Context, id string) error {
	if err := m.ready(ctx); err != nil {
		return err
	}
	if err := m.followers.forget(id); err != nil {
		return err
	}
	return m.remember(ctx, id)
}

// accept takes connections until ctx ends.
func (m *Master) accept(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { m.cfg.Listener.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	handshakes := make(chan struct{}, maxHandshakes)
	var pause time.Duration
	for {
		nc, err := m.cfg.Listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				nc.Close()
			}
			return context.Cause(ctx)
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept followers: %w", err)
		case err != nil:
			// Out of file descriptors, most likely: those who are served keep
			// being served, and the next may find one.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			m.cfg.Logger.Warn("cannot accept a connection", "error", err, "pause", pause)
			sleep(ctx, pause)
			continue
		}
		pause = 0
		select {
		case handshakes <- struct{}{}:
		default:
			nc.Close()
			continue
		}
		var once sync.Once
		release := func() { once.Do(func() { <-handshakes }) }
		wg.Go(func() {
			defer release()
			m.serve(ctx, nc, release)
		})
	}
}

// serve speaks with one connection until it ends. A panic ends this connection
// and nothing else.
func (m *Master) serve(ctx context.Context, nc net.Conn, greeted func()) {
	conn := transport.NewConn(nc)
	defer conn.Close()
	defer func() {
		if p := recover(); p != nil {
			m.cfg.Logger.Error("BUG: panic in a session", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	h, err := m.greet(ctx, conn)
	greeted()
	if err != nil {
		m.cfg.Logger.Debug("no session", "address", conn.RemoteAddr(), "error", err)
		return
	}
	s := &session{m: m, id: h.id, viewc: make(chan view, 1)}
	w, refusal, err := m.admit(h, s, conn)
	if err != nil {
		refusal = &goodbye{CodeStore, "the master cannot read its store"}
		m.cfg.Logger.Error("cannot choose how to go on with a follower", "follower", h.id, "error", err)
	}
	if refusal != nil {
		m.cfg.Logger.Warn("refused a follower", "follower", h.id, "address", conn.RemoteAddr(), "code", refusal.code.String(), "reason", refusal.reason)
		if m.cfg.Observer.Refused != nil {
			m.cfg.Observer.Refused(h.id, conn.RemoteAddr(), refusal.code, refusal.reason)
		}
		refuse(ctx, conn, *refusal)
		return
	}
	defer m.leave(s)
	m.talk(ctx, s, w)
}

// greet reads the hello and checks what does not need the followers known.
func (m *Master) greet(ctx context.Context, conn *transport.Conn) (hello, error) {
	conn.SetReadDeadline(time.Now().Add(handshakeTime))
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	typ, body, err := conn.Read()
	if err != nil {
		var limit *transport.LimitError
		if errors.As(err, &limit) || errors.Is(err, transport.ErrChecksum) {
			refuse(ctx, conn, goodbye{CodeProtocol, "this is the port of an sdiff master: " + err.Error()})
		}
		return hello{}, err
	}
	if typ != frameHello {
		refuse(ctx, conn, goodbye{CodeProtocol, "the first frame must be a hello"})
		return hello{}, errors.New("no hello")
	}
	h, known, err := parseHello(body)
	switch {
	case err != nil:
		refuse(ctx, conn, goodbye{CodeProtocol, err.Error()})
		return hello{}, err
	case !known:
		refuse(ctx, conn, versionRefusal(h))
		return hello{}, errors.New("another protocol version")
	}
	conn.SetReadDeadline(time.Time{})
	return h, nil
}

// admit decides whether and how a follower is served, and notes its session.
func (m *Master) admit(h hello, s *session, conn *transport.Conn) (welcome, *goodbye, error) {
	pub := m.w.state.Load()
	if !h.dataset.IsZero() && h.dataset != pub.dataset {
		return welcome{}, &goodbye{CodeDataset, fmt.Sprintf("the follower holds dataset %v, this is the master of %v", h.dataset, pub.dataset)}, nil
	}
	if want := m.cfg.Hash.ID(); h.hash != want {
		return welcome{}, &goodbye{CodeHash, fmt.Sprintf("the follower computes item hashes with %s, this master with %s", h.hash, want)}, nil
	}
	w, refusal, err := m.choose(h)
	if err != nil {
		return welcome{}, nil, err
	}
	s.peer = newPeer(conn)
	s.peer.share = &m.share
	now := time.Now()
	if refusal == nil {
		refusal = m.followers.connect(h, w, s, conn.RemoteAddr(), now)
	} else {
		// A parked follower is known, and its master's operator is to see it.
		m.followers.park(h, conn.RemoteAddr(), refusal.reason, now)
	}
	s.cursor = w.start.Offset
	return w, refusal, nil
}

// talk runs a session from welcome to its end.
func (m *Master) talk(ctx context.Context, s *session, w welcome) {
	conn := s.peer.conn
	conn.SetLimit(inboundMaster)
	s.peer.send(frameWelcome, w.append())
	m.followers.note(s.id)
	m.cfg.Logger.Info("follower connected", "follower", s.id, "address", conn.RemoteAddr(), "from", w.start.Offset, "resume", w.resume, "why", w.why)
	s.why, s.moved = w.why, time.Now()
	s.setState(CatchingUp, w.why)
	m.share.peers.Add(1)
	defer m.share.peers.Add(-1)
	var wg sync.WaitGroup
	wg.Go(s.peer.run)
	err := m.guarded(ctx, s)
	s.peer.bye(farewell(err))
	wg.Wait()
	m.cfg.Logger.Info("follower gone", "follower", s.id, "reason", err)
	m.followers.update(s.id, func(e *entry) { e.Why = err.Error() })
}

// guarded runs the session's loop and turns a panic into an error, so that the
// connection's goroutines end as ever.
func (m *Master) guarded(ctx context.Context, s *session) (err error) {
	defer func() {
		if p := recover(); p != nil {
			m.cfg.Logger.Error("BUG: panic in a session", "follower", s.id, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("BUG: panic in the session: %v", p)
		}
	}()
	return s.loop(ctx)
}

// leave notes the end of a session.
func (m *Master) leave(s *session) {
	m.followers.update(s.id, func(e *entry) {
		e.session, e.Connected, e.InSync = nil, false, nil
		e.State = Disconnected
	})
	if m.cfg.Observer.Follower != nil {
		m.cfg.Observer.Follower(s.id, Disconnected, "")
	}
	m.followers.note(s.id)
}

// farewell is what the peer is told about the end of its session.
func farewell(err error) goodbye {
	if p, ok := errors.AsType[*protocolError](err); ok {
		return goodbye{p.code, p.reason}
	}
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, store.ErrPoisoned) {
		return goodbye{CodeStore, "the store failed"}
	}
	return goodbye{CodeEnding, "going down"}
}

// refuse sends a last frame and gives the peer a second to take it.
func refuse(ctx context.Context, conn *transport.Conn, g goodbye) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn.SetWriteDeadline(time.Now().Add(time.Second))
	if conn.Write(transport.Frame{Type: frameRefused, Body: g.append()}) == nil {
		conn.Shutdown(ctx)
	}
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
