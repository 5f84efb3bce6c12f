package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sdiff/sdiff/internal/wire"
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
	hash merkle.Hasher
	lim  store.Limits
	log  *slog.Logger
	tail *stream.Tail
	ages *clockwork

	// shared
	reqc  chan *request
	viewc chan chan<- view
	trimc chan trim
	room  *semaphore.Weighted
	state atomic.Pointer[published]
	donec chan struct{} // closed when the loop has ended

	// owned by loop
	tree     *merkle.Tree
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
	readOnly string // why the last write was refused by the store; empty if it was not
}

// A view is a tree snapshot, a store transaction and a position that belong
// together. Whoever gets one closes its store view.
type view struct {
	tree  *merkle.Snapshot
	store store.View
	pos   stream.Position
	err   error
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

// A group is what goes into one store transaction.
type group struct {
	reqs    []*request
	ops     []stream.Op
	records []store.Record
	undo    []undo
	body    *wire.Writer
	first   uint64
	pos     stream.Position // after the newest commit of the group
	bytes   int
	view    store.View           // for Update, opened when first needed
	overlay map[string]stream.Op // what the group changed, kept from the first Update on
}

// An undo takes back one op's effect on the tree.
type undo struct {
	key  []byte
	hash uint64
	had  bool
}

func newWriter(st store.Store, cfg MasterConfig, o opened, ages *clockwork) *writer {
	w := &writer{
		st: st, hash: cfg.Hash, lim: st.Limits(), log: cfg.Logger,
		tail:  stream.NewTail(cfg.TailBytes),
		ages:  ages,
		reqc:  make(chan *request, queuedRequests),
		viewc: make(chan chan<- view),
		trimc: make(chan trim),
		room:  semaphore.NewWeighted(queuedBytes),
		donec: make(chan struct{}),
		tree:  o.tree,
		meta:  o.meta,
	}
	w.tail.Reset(o.meta.Position.Offset + 1)
	w.publish(time.Now(), "")
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
func (w *writer) view(ctx context.Context) (view, error) {
	c := make(chan view, 1)
	select {
	case w.viewc <- c:
	case <-w.donec:
		return view{}, ErrClosed
	case <-ctx.Done():
		return view{}, context.Cause(ctx)
	}
	v := <-c
	return v, v.err
}

func (w *writer) takeView() view {
	sv, err := w.st.View()
	return view{tree: w.tree.Snapshot(), store: sv, pos: w.meta.Position, err: err}
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
			case c := <-w.viewc:
				c <- w.takeView()
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
			case c := <-w.viewc:
				c <- w.takeView()
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

// group stores the request and all that wait behind it, as far as they fit one
// transaction. It answers every one of them; an error means that the store is
// poisoned.
func (w *writer) group(first *request) error {
	g := &w.g
	*g = group{
		reqs: g.reqs[:0], ops: g.ops[:0], undo: g.undo[:0],
		first: w.meta.Position.Offset + 1, pos: w.meta.Position,
	}
	if w.add(first) {
		w.addWaiting()
	}
	if g.view != nil {
		g.view.Close()
	}
	err := w.commit()
	// The group's slices belong to the callers once they are answered.
	clear(g.ops)
	for _, r := range g.reqs {
		if err != nil && r.err == nil {
			r.pos, r.err = stream.Position{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
		close(r.done)
	}
	clear(g.reqs)
	return err
}

func (w *writer) addWaiting() {
	for len(w.g.reqs) < queuedRequests {
		select {
		case r := <-w.reqc:
			if !w.add(r) {
				return
			}
		default:
			return
		}
	}
}

// add makes the request part of the group. If it does not fit, it is held for
// the next one and add returns false.
func (w *writer) add(r *request) bool {
	g := &w.g
	if len(g.reqs) > 0 && (!g.fits(len(r.ops), r.size, w.lim) || len(g.records)+len(r.records) > groupRecords) {
		w.held = r
		return false
	}
	if !r.taken.Swap(true) || w.isHeld(r) {
		return w.apply(r)
	}
	return true
}

// fits reports whether a commit of so many ops and bytes has room in the group.
func (g *group) fits(ops, size int, lim store.Limits) bool {
	return len(g.ops)+ops <= lim.CommitOps && g.bytes+size+commitOverhead <= lim.CommitBytes
}

// isHeld reports whether the request was taken for an earlier group already
// and did not fit there after all, as an Update may.
func (w *writer) isHeld(r *request) bool { return r.pos.Offset == heldOffset }

// heldOffset marks a request that was taken before and is tried again.
const heldOffset = ^uint64(0)

func (w *writer) apply(r *request) bool {
	g := &w.g
	r.pos, r.err = stream.Position{}, nil
	switch {
	case r.records != nil:
		g.records = append(g.records, r.records...)
		g.reqs = append(g.reqs, r)
		return true
	case r.fn != nil:
		if r.ops, r.err = w.runTx(r.fn); r.err != nil || len(r.ops) == 0 {
			r.pos = g.pos
			if r.err != nil {
				r.pos = stream.Position{}
			}
			g.reqs = append(g.reqs, r)
			return true
		}
		r.size = stream.Size(r.ops)
		if len(g.ops) > 0 && !g.fits(len(r.ops), r.size, w.lim) {
			r.pos.Offset = heldOffset
			w.held = r
			return false
		}
	}
	w.applyOps(r.ops)
	g.bytes += r.size + commitOverhead
	g.pos = stream.Position{Epoch: w.meta.Position.Epoch, Offset: g.pos.Offset + 1, Fingerprint: w.tree.Summary()}
	if g.body == nil {
		g.body = wire.NewWriter(make([]byte, 0, r.size+2*commitOverhead))
	}
	stream.AppendCommit(g.body, &stream.Commit{Offset: g.pos.Offset, Time: millis(time.Now()), Fingerprint: g.pos.Fingerprint, Ops: r.ops})
	g.ops = append(g.ops, r.ops...)
	r.pos = g.pos
	g.reqs = append(g.reqs, r)
	return true
}

func (w *writer) applyOps(ops []stream.Op) {
	g := &w.g
	for i := range ops {
		op := &ops[i]
		var u undo
		if op.Delete {
			u.hash, u.had = w.tree.Delete(op.Key)
		} else {
			u.hash, u.had = w.tree.Put(op.Key, w.hash.Hash(op.Key, op.Value))
		}
		u.key = op.Key
		g.undo = append(g.undo, u)
		if g.overlay != nil {
			g.overlay[string(op.Key)] = *op
		}
	}
}

// commit stores the group. A store that refuses leaves everything as it was,
// and every caller gets the refusal.
func (w *writer) commit() error {
	g := &w.g
	if len(g.ops) == 0 && len(g.records) == 0 {
		return nil
	}
	tx := store.Txn{Ops: g.ops, Records: g.records, Meta: w.meta}
	if g.pos.Offset >= g.first {
		body := g.body.Out()
		if cap(body) > len(body)+len(body)/4 {
			body = bytes.Clone(body) // the tail keeps it, and counts its capacity
		}
		tx.Log = &stream.Record{First: g.first, Last: g.pos.Offset, Body: body}
		tx.Meta.Position, tx.Meta.Summary = g.pos, g.pos.Fingerprint
		tx.Meta.LogBytes += uint64(len(tx.Log.Body))
	}
	err := w.st.Write(&tx)
	switch {
	case errors.Is(err, store.ErrRefused):
		undoOps(w.tree, g.undo)
		for _, r := range g.reqs {
			if r.err == nil {
				r.pos, r.err = stream.Position{}, err
			}
		}
		w.log.Warn("the store refuses writes", "reason", err)
		w.publish(w.state.Load().at, err.Error())
		return nil
	case err != nil:
		return err
	}
	w.meta = tx.Meta
	if tx.Log != nil {
		now := time.Now()
		w.publish(now, "")
		w.ages.note(g.pos.Offset, now)
		w.tail.Append(*tx.Log)
	}
	return nil
}

// undoOps takes back, newest first, what a group did to the tree.
func undoOps(t *merkle.Tree, list []undo) {
	for i := len(list) - 1; i >= 0; i-- {
		if u := list[i]; u.had {
			t.Put(u.key, u.hash)
		} else {
			t.Delete(u.key)
		}
	}
}

func (w *writer) publish(at time.Time, readOnly string) {
	w.state.Store(&published{
		pos: w.meta.Position, logStart: w.meta.LogStart, logBytes: w.meta.LogBytes,
		history: w.meta.History, dataset: w.meta.Dataset, at: at,
		keys: w.tree.Summary().Count, treeHeap: w.heap.of(w.tree), readOnly: readOnly,
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
			return nil
		}
		return err
	}
	w.meta = tx.Meta
	w.trimming = t.start.Offset + 1
	w.publish(w.state.Load().at, w.state.Load().readOnly)
	return nil
}

func (w *writer) continueTrim() error {
	more, err := w.st.Trim(w.trimming)
	if !more || err != nil {
		w.trimming = 0
	}
	if errors.Is(err, store.ErrRefused) {
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
