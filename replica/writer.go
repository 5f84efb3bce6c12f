package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

const (
	// queuedRequests and queuedBytes bound the writes that wait for the
	// writer; a caller beyond them waits outside, until its ctx ends.
	queuedRequests = 1024
	queuedBytes    = 64 << 20
	// commitOverhead is what a commit of a group counts beyond its ops, so
	// that a group of many small commits still fits one record and one frame.
	commitOverhead = 64
	// groupRecords bounds the records of a group, well below what a store takes.
	groupRecords = 500
)

// A writer owns a master's tree, offsets and the write side of its store. Its
// loop takes all the writes that wait at once, applies them to the tree
// keeping an undo list, and stores them in one transaction: group commit.
type writer struct {
	// immutable
	st   store.Store
	lim  store.Limits
	log  *slog.Logger
	tail *stream.Tail
	ages *clockwork
	wall func() time.Time // the machine's clock, for commits

	// shared
	reqc  chan *request
	viewc chan viewAsk
	trimc chan trim
	room  *semaphore.Weighted
	state atomic.Pointer[published]
	donec chan struct{}  // closed when the loop has ended
	found func(mismatch) // told of damage that an Update meets
	pulse pulse
	// turned is told when the store takes no writes any more, or takes them
	// again, and trimmed of where the log begins now and began before.
	turned  func()
	trimmed func(start, before uint64)

	// owned by loop
	tree     *liveTree
	sketched time.Time // until when the sketches that were taken are paid for
	meta     store.Meta
	held     *request // did not fit the last group
	trimming uint64   // log records before it are to be removed; 0 is none
	g        group
	heap     treeSize
}

// published is what others may know of the writer without asking it.
type published struct {
	pos      stream.Position
	logStart stream.Position
	logBytes uint64
	history  []stream.Position
	dataset  stream.ID
	at       time.Time // of the newest commit, or of the start
	keys     uint64
	treeHeap int64
}

// A view is a tree snapshot, a store transaction and a position that belong
// together. Whoever gets one closes its store view.
type view struct {
	tree  *merkle.Snapshot
	store store.View
	pos   stream.Position
	err   error
	// sketch is of the same items, if it was asked for: the writes that follow
	// have to copy what it shares with the tree.
	sketch *merkle.Sketch
}

// A viewAsk asks the owner of a tree for a view.
type viewAsk struct {
	c      chan<- view
	sketch bool
}

// A trim says that the log begins after start from now on.
type trim struct {
	start stream.Position
	bytes uint64 // what that removes
}

// A request is one commit on its way through the writer.
type request struct {
	ops     []stream.Op
	size    int             // what it counts of queuedBytes
	fn      func(*Tx) error // instead of ops
	records []store.Record  // instead of either: no commit at all

	// taken is set by whoever comes first: the writer, or the caller whose
	// context has ended. The loser leaves the request alone.
	taken atomic.Bool

	pos  stream.Position
	err  error
	done chan struct{}
}

func newWriter(st store.Store, cfg MasterConfig, o opened, ages *clockwork) *writer {
	w := &writer{
		st: st, lim: limitsOf(st), log: cfg.Logger,
		tail:  stream.NewTail(cfg.TailBytes),
		ages:  ages,
		wall:  cfg.wall,
		reqc:  make(chan *request, queuedRequests),
		viewc: make(chan viewAsk),
		trimc: make(chan trim),
		room:  semaphore.NewWeighted(queuedBytes),
		donec: make(chan struct{}),
		tree:  newLiveTree(o.tree, cfg.Hash, false),
		found: func(mismatch) {}, turned: func() {}, trimmed: func(_, _ uint64) {},
		meta: o.meta,
	}
	w.tail.Reset(o.meta.Position.Offset + 1)
	w.publish(time.Now())
	return w
}

// do queues a request and waits for its end. A request whose caller gave up
// before the writer took it has no effect.
func (w *writer) do(ctx context.Context, r *request) (stream.Position, error) {
	r.done = make(chan struct{})
	weight := int64(min(r.size+256, queuedBytes))
	if err := w.room.Acquire(ctx, weight); err != nil {
		return stream.Position{}, context.Cause(ctx)
	}
	defer w.room.Release(weight)
	select {
	case w.reqc <- r:
	case <-w.donec:
		return stream.Position{}, ErrClosed
	case <-ctx.Done():
		return stream.Position{}, context.Cause(ctx)
	}
	select {
	case <-r.done:
		return r.pos, r.err
	case <-w.donec:
	case <-ctx.Done():
		if r.taken.CompareAndSwap(false, true) {
			return stream.Position{}, context.Cause(ctx)
		}
	}
	// The writer has it, and answers everything it has taken before it ends.
	select {
	case <-r.done:
		return r.pos, r.err
	case <-w.donec:
	}
	select {
	case <-r.done:
		return r.pos, r.err
	default:
		return stream.Position{}, ErrClosed
	}
}

// view asks the loop for a view between two groups.
func (w *writer) view(ctx context.Context) (view, error) { return w.viewWith(ctx, false) }

// viewWith is view with a sketch, if it is to be.
func (w *writer) viewWith(ctx context.Context, sketch bool) (view, error) {
	c := make(chan view, 1)
	select {
	case w.viewc <- viewAsk{c, sketch}:
	case <-w.donec:
		return view{}, ErrClosed
	case <-ctx.Done():
		return view{}, context.Cause(ctx)
	}
	v := <-c
	return v, v.err
}

func (w *writer) takeView(a viewAsk) {
	sv, err := w.st.View()
	v := view{tree: w.tree.Snapshot(), store: sv, pos: w.meta.Position, err: err}
	if a.sketch {
		v.sketch = w.takeSketch(time.Now())
	}
	a.c <- v
}

// What is shared with a sketch is copied by the writes that follow, so there are
// no more than so many bytes of sketches in a second, but for a few at once. Who
// gets none compares ranges.
const (
	sketchRate  = 256 << 20
	sketchBurst = 4
)

func (w *writer) takeSketch(now time.Time) *merkle.Sketch {
	_, cells := w.tree.Counters()
	takes := time.Duration(cells) * merkle.SketchParts * 16 * time.Second / sketchRate
	if w.sketched.Sub(now) > (sketchBurst-1)*takes {
		return nil
	}
	if w.sketched.Before(now) {
		w.sketched = now
	}
	w.sketched = w.sketched.Add(takes)
	return w.tree.Sketch()
}

// loop runs until ctx ends or the store fails. It is the only goroutine that
// writes to the store.
func (w *writer) loop(ctx context.Context) error {
	defer close(w.donec)
	for {
		var err error
		idle := closedc // taken only while there is trimming to do and nothing else
		if w.trimming == 0 {
			idle = nil
		}
		if r := w.held; r != nil {
			// More writes wait than fit one group. Whoever else waits has its
			// turn between two groups all the same.
			select {
			case a := <-w.viewc:
				w.takeView(a)
			case t := <-w.trimc:
				err = w.startTrim(t)
			case <-ctx.Done():
				return w.close(context.Cause(ctx))
			default:
				w.held = nil
				err = w.group(r)
			}
		} else {
			select {
			case r := <-w.reqc:
				err = w.group(r)
			case a := <-w.viewc:
				w.takeView(a)
			case t := <-w.trimc:
				err = w.startTrim(t)
			case <-idle:
				err = w.continueTrim()
			case <-ctx.Done():
				return w.close(context.Cause(ctx))
			}
		}
		if err != nil {
			w.abandon(fmt.Errorf("%w: %w", ErrClosed, err))
			return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
	}
}

// closedc is always ready to receive from.
var closedc = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (w *writer) publish(at time.Time) {
	w.state.Store(&published{
		pos: w.meta.Position, logStart: w.meta.LogStart, logBytes: w.meta.LogBytes,
		history: w.meta.History, dataset: w.meta.Dataset, at: at,
		keys: w.tree.Summary().Count, treeHeap: w.heap.of(w.tree.Tree),
	})
}

// startTrim writes down where the log begins before anything is removed, so
// that what is removed is never missed.
func (w *writer) startTrim(t trim) error {
	if t.start.Offset <= w.meta.LogStart.Offset || t.start.Offset > w.meta.Position.Offset {
		return nil
	}
	meta := w.meta
	meta.LogStart, meta.LogBytes = t.start, meta.LogBytes-min(meta.LogBytes, t.bytes)
	tx := store.Txn{Meta: meta}
	if err := w.st.Write(&tx); err != nil {
		if errors.Is(err, store.ErrRefused) {
			w.refused(err)
			return nil
		}
		return err
	}
	before := w.meta.LogStart.Offset
	w.meta = tx.Meta
	w.trimming = t.start.Offset + 1
	w.tookSmall()
	w.publish(w.state.Load().at)
	w.trimmed(t.start.Offset, before)
	return nil
}

// refused notes that the store refused a write, or with nil that it took one.
// The log is told once: who writes is told each time.
func (w *writer) refused(err error) {
	news := w.pulse.refused(err)
	switch {
	case err == nil:
	case news:
		w.log.Warn("the store refuses writes", "reason", err)
	default:
		w.log.Debug("the store refuses a write", "reason", err)
	}
	if news {
		w.turned()
	}
}

// tookSmall is called after a transaction without data, which a store takes also
// where it has no room for data: whether it does, the store is asked.
func (w *writer) tookSmall() {
	if _, why := w.pulse.get(); why != "" {
		w.refused(store.Room(w.st))
	}
}

func (w *writer) continueTrim() error {
	more, err := w.st.Trim(w.trimming)
	if !more || err != nil {
		w.trimming = 0
	}
	if errors.Is(err, store.ErrRefused) || errors.Is(err, store.ErrCorrupt) {
		w.log.Warn("cannot trim the log", "error", err)
		return nil
	}
	return err
}

// close ends a writer that is asked to end: what waits is refused, and the
// store is told that this was a clean stop.
func (w *writer) close(cause error) error {
	w.abandon(ErrClosed)
	meta := w.meta
	meta.Clean = true
	ranges := store.Record{Name: rangesRecord, Value: appendRanges(w.tree.Snapshot(), meta.Position.Offset)}
	if err := w.st.Write(&store.Txn{Meta: meta, Records: []store.Record{ranges}}); err != nil {
		return fmt.Errorf("write the clean stop: %w", err)
	}
	return cause
}

// abandon answers everything that still waits.
func (w *writer) abandon(err error) {
	fail := func(r *request) {
		if !r.taken.Swap(true) || w.isHeld(r) {
			r.pos, r.err = stream.Position{}, err
			close(r.done)
		}
	}
	if w.held != nil {
		fail(w.held)
		w.held = nil
	}
	for {
		select {
		case r := <-w.reqc:
			fail(r)
		default:
			return
		}
	}
}
