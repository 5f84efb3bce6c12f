package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A Follower is a copy of a master's dataset. It follows the master's stream
// and repairs whatever differs. It serves reads all the time, connected or
// not. All methods are safe for concurrent use; those that need the tree wait
// until Run has built it.
type Follower struct {
	// immutable
	st  store.Store
	cfg FollowerConfig
	lim store.Limits

	readyc chan struct{} // closed when the tree is built
	endedc chan struct{} // closed when Run has ended
	ran    atomic.Bool

	askc    chan *ask
	cancelc chan *ask
	takenc  chan pair
	badc    chan scrubbed
	viewc   chan viewAsk
	state   atomic.Pointer[standing]
	moved   signal // after every change of state
	heads   clockwork
	life    lifecycle
	feed    feed
	scrub   *scrubber // set before readyc is closed
	reads   reader

	// owned by loop
	tree    *liveTree
	heap    treeSize
	meta    store.Meta
	batch   batch
	storing *storing // on its way to the store; only while frames are received
	link    *link
	head    stream.Position
	contact time.Time
	// progress is when the position last moved, or was last confirmed.
	progress time.Time
	dial     dialer
	sync     *followSync
	syncs    uint64     // comparisons asked for, each by its number
	asks     []*ask     // waiting for the sync under way
	drift    driftState // what is to be done about a difference
	last     *Report
	doubt    string // found at open
	readOnly string // why the store refused the last write; empty if it took it
	wg       sync.WaitGroup
}

// A standing is where a follower stands, as others may know without asking
// the loop.
type standing struct {
	pos      stream.Position
	own      merkle.Summary
	head     stream.Position
	dataset  stream.ID
	complete bool
	served   bool // ever had a master
	history  []stream.Position
	contact  time.Time
	progress time.Time
	treeHeap int64
	address  string
	// connected says that there is a session by which head is known.
	connected bool
	last      *Report
}

// NewFollower returns a follower over a store, which stays the caller's to
// close once Run has ended. It starts nothing and reads nothing.
func NewFollower(st store.Store, cfg FollowerConfig) (*Follower, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	f := &Follower{
		st: st, cfg: cfg.withDefaults(), lim: st.Limits(),
		readyc: make(chan struct{}), endedc: make(chan struct{}),
		askc: make(chan *ask), cancelc: make(chan *ask), takenc: make(chan pair), badc: make(chan scrubbed), viewc: make(chan viewAsk),
	}
	f.life.init(f.cfg.Observer)
	f.feed.init()
	return f, nil
}

// Run opens the store, builds the tree, which takes a pass over the data, and
// then follows the master until ctx ends, connecting again whenever the
// connection is lost. It returns the cause, and when it returns nothing it
// started is alive. It ends by itself only if the store fails, or if the
// master refuses the follower for what it is before it ever served it: then
// the error is a *PeerError. It runs once.
func (f *Follower) Run(ctx context.Context) (err error) {
	if f.ran.Swap(true) {
		return errors.New("a follower runs once")
	}
	defer close(f.endedc)
	defer func() { f.life.end(err) }()
	o, err := openFollower(ctx, f.st, f.cfg)
	if err != nil {
		return err
	}
	f.tree, f.meta, f.doubt = newLiveTree(o.tree, f.cfg.Hash, true), o.meta, o.doubt
	if o.doubt != "" {
		f.cfg.Logger.Warn("the store does not hold what it should: the next repair mends it", "found", o.doubt)
	}
	f.scrub = newScrubber(f.tree, f.cfg.Scrub, f.view, f.tellScrub)
	f.reads = reader{st: f.st, tree: f.tree, view: f.view, found: f.tellRead}
	f.progress = time.Now() // of this Run, none yet
	f.publish()
	close(f.readyc)
	ctx, cancel := context.WithCancelCause(ctx)
	if f.cfg.Scrub > 0 {
		f.wg.Go(func() { f.scrub.run(ctx) })
	}
	err = f.loop(ctx)
	cancel(err)
	f.wg.Wait()
	f.dial.discard()
	f.feed.end()
	f.moved.broadcast()
	return err
}

// Ready is closed when the tree is built.
func (f *Follower) Ready() <-chan struct{} { return f.readyc }

func (f *Follower) ready(ctx context.Context) error {
	return waitReady(ctx, f.readyc, f.endedc, &f.life)
}

// loop owns the follower: tree, position, store and session.
func (f *Follower) loop(ctx context.Context) error {
	tick := time.NewTicker(f.cfg.Heartbeat)
	defer tick.Stop()
	defer f.drop(errors.New("the follower is ending"))
	f.dial.init(f.cfg.ID)
	defer f.dial.timer.Stop()
	f.connect(ctx)
	for {
		var in chan frame
		if f.link != nil {
			in = f.link.peer.in
		}
		var err error
		select {
		case fr, ok := <-in:
			err = f.receive(fr, ok)
		case l := <-f.dial.donec:
			err = f.dialed(ctx, l)
		case <-f.dial.timer.C:
			f.connect(ctx)
		case a := <-f.viewc:
			sv, err := f.st.View()
			a.c <- view{tree: f.tree.Snapshot(), store: sv, pos: f.meta.Position, err: err}
		case a := <-f.askc:
			f.asked(ctx, a)
		case a := <-f.cancelc:
			f.cancelAsk(a)
		case p := <-f.takenc:
			f.taken(p)
		case s := <-f.badc:
			err = f.correct(s)
			close(s.donec)
		case now := <-tick.C:
			err = f.beat(now)
		case <-f.sync.workc():
			err = f.sync.work()
		case <-ctx.Done():
			return f.close(context.Cause(ctx))
		}
		if err != nil {
			if fatal, ok := errors.AsType[*fatalError](err); ok {
				return fatal.err
			}
			f.drop(err)
			if _, ok := errors.AsType[*misfitError](err); ok {
				f.dial.parked, f.dial.pause = err.Error(), maxPause
			}
			f.dial.later(f)
		}
		f.express()
	}
}

// A fatalError ends the follower; any other error of the loop ends the
// session only.
type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }

// A misfitError is a commit that this store cannot take, today or tomorrow: the
// follower parks, and tries again rarely.
type misfitError struct{ err error }

func (e *misfitError) Error() string { return e.err.Error() }

// close ends a follower that is asked to end.
func (f *Follower) close(cause error) error {
	meta := f.meta
	meta.Clean = true
	tx := store.Txn{Meta: meta}
	if err := f.write(&tx); err != nil {
		return fmt.Errorf("write the clean stop: %w", err)
	}
	return cause
}

// publish lets others see where the follower stands.
func (f *Follower) publish() { f.publishAs(f.tree.Summary()) }

// publishAs is publish of a copy with that summary.
func (f *Follower) publishAs(own merkle.Summary) {
	s := &standing{
		pos: f.meta.Position, own: own, head: f.head,
		dataset: f.meta.Dataset, complete: f.meta.Complete, served: !f.meta.Position.IsZero(),
		history: f.meta.History, contact: f.contact, progress: f.progress,
		treeHeap: f.heap.of(f.tree.Tree), last: f.last,
	}
	if f.link != nil {
		s.address = f.link.peer.conn.RemoteAddr()
		s.connected = !f.link.look
	}
	if s.head.Offset < s.pos.Offset {
		s.head = s.pos
	}
	f.state.Store(s)
	f.moved.broadcast()
}

// express derives the state that others see from what is going on.
func (f *Follower) express() {
	switch {
	case f.dial.parked != "" && (f.link == nil || f.link.look):
		f.life.set(Parked, f.dial.parked)
	case f.link == nil && f.readOnly != "":
		f.life.set(ReadOnly, f.readOnly)
	case f.link == nil:
		f.life.set(Connecting, f.dial.why)
	case f.sync.stalled(2 * f.cfg.Silence):
		f.life.set(Stalled, "the comparison has made no progress since "+f.sync.heard.Format(time.RFC3339))
	case !f.meta.Complete:
		why := f.link.why
		switch {
		case f.drift.found:
			why = f.drift.why
		case f.sync == nil && f.cfg.Repair.Manual:
			why += "; repairs are manual, none was verified yet"
		}
		f.life.set(Initializing, why)
	case f.sync != nil:
		f.life.set(f.sync.state(), f.sync.rep.Why)
	case f.drift.found:
		f.life.set(Drifted, f.drift.why)
	case f.meta.Position.Offset < f.head.Offset && time.Since(f.progress) > 2*f.cfg.Silence:
		f.life.set(Stalled, fmt.Sprintf("no commit arrived since %v", f.progress.Format(time.RFC3339)))
	case f.meta.Position.Offset < f.head.Offset && f.link.catching:
		f.life.set(CatchingUp, "")
	default:
		f.life.set(Streaming, "")
	}
}

// view asks the loop for a view between two transactions.
func (f *Follower) view(ctx context.Context) (view, error) {
	c := make(chan view, 1)
	select {
	case f.viewc <- viewAsk{c: c}:
	case <-f.endedc:
		return view{}, ErrClosed
	case <-ctx.Done():
		return view{}, context.Cause(ctx)
	}
	v := <-c
	return v, v.err
}

// WaitFor waits until the copy holds everything up to the position, such as
// Put returned on the master: read your own writes. While the base is
// incomplete it keeps waiting, whatever the stream brings. A position of a
// history that the copy does not follow is ErrUnknownEpoch at once. The zero
// position is there as soon as the base is complete.
func (f *Follower) WaitFor(ctx context.Context, pos stream.Position) error {
	if err := f.ready(ctx); err != nil {
		return err
	}
	for {
		moved := f.moved.wait()
		s := f.state.Load()
		switch {
		case s.served && !pos.IsZero() && !s.follows(pos):
			return ErrUnknownEpoch
		case s.complete && s.pos.Offset >= pos.Offset:
			return nil
		}
		select {
		case <-moved:
		case <-f.endedc:
			return ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// follows reports whether a position lies in the history that the copy
// follows: in its epoch, or in an earlier one before that ended.
func (s *standing) follows(pos stream.Position) bool {
	if pos.Epoch == s.pos.Epoch {
		return true
	}
	for _, end := range s.history {
		if end.Epoch == pos.Epoch {
			return pos.Offset <= end.Offset
		}
	}
	return false
}
