package replica

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

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

// group stores the request and all that wait behind it, as far as they fit one
// transaction. It answers every one of them; an error means that the store is
// poisoned.
func (w *writer) group(first *request) error {
	g := &w.g
	w.pulse.setBusy(time.Now())
	defer w.pulse.setBusy(time.Time{})
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
	stream.AppendCommit(g.body, &stream.Commit{Offset: g.pos.Offset, Time: millis(w.wall()), Fingerprint: g.pos.Fingerprint, Ops: r.ops})
	g.ops = append(g.ops, r.ops...)
	r.pos = g.pos
	g.reqs = append(g.reqs, r)
	return true
}

func (w *writer) applyOps(ops []stream.Op) {
	g := &w.g
	g.undo = w.tree.apply(ops, g.undo)
	if g.overlay != nil {
		for i := range ops {
			g.overlay[string(ops[i].Key)] = ops[i]
		}
	}
}

// commit stores the group. A store that refuses leaves everything as it was,
// and every caller gets the refusal.
func (w *writer) commit() error {
	g := &w.g
	if len(g.ops) == 0 && len(g.records) == 0 {
		w.tookSmall()
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
		w.tree.undo(g.undo)
		for _, r := range g.reqs {
			if r.err == nil {
				r.pos, r.err = stream.Position{}, err
			}
		}
		w.refused(err)
		return nil
	case err != nil:
		return err
	}
	w.meta = tx.Meta
	w.tree.settled()
	if tx.Log == nil {
		w.tookSmall()
	} else {
		w.refused(nil)
		now := time.Now()
		w.publish(now)
		w.ages.note(g.pos.Offset, now)
		shareFrame(tx.Log)
		w.tail.Append(*tx.Log)
	}
	return nil
}
