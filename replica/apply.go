package replica

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// maxFrames bounds the frames handled in one turn of the loop, so that
// everything else gets its turn under load.
const maxFrames = 64

// A batch is what was applied to the follower's tree and not stored yet.
type batch struct {
	ops   []stream.Op
	undo  []undo
	bytes int
	pos   stream.Position // after the newest commit of the batch
	feed  []fed
	unfed bool // some of the batch is not in feed: nobody watched yet
	drift *driftAt
}

// A driftAt is where the copy was first seen to differ.
type driftAt struct {
	pos stream.Position
	own merkle.Summary
}

// receive takes a frame and all that wait behind it. Commits are gathered and
// stored together; whatever else comes finds them stored. While a chunk of a
// repair is on its way to the store, the next is prepared; when receive returns,
// nothing is.
func (f *Follower) receive(fr frame, ok bool) error {
	err := f.receiveAll(fr, ok)
	if err2 := f.settle(); err2 != nil {
		return err2
	}
	return err
}

func (f *Follower) receiveAll(fr frame, ok bool) error {
	for n := 0; ; n++ {
		if !ok {
			if err := f.flush(); err != nil {
				return err
			}
			return fmt.Errorf("connection lost: %w", f.link.peer.cause())
		}
		if err := f.receiveOne(fr); err != nil {
			return err
		}
		if f.link == nil || n == maxFrames {
			return f.flush()
		}
		var more bool
		var err error
		if fr, ok, more, err = f.nextFrame(); err != nil {
			return err
		}
		if !more {
			return f.flush()
		}
	}
}

func (f *Follower) receiveOne(fr frame) error {
	if fr.typ != frameItems {
		if err := f.settle(); err != nil {
			return err
		}
	}
	if fr.typ == frameCommits {
		return f.addCommits(fr.body)
	}
	if err := f.flush(); err != nil {
		return err
	}
	return f.handle(fr)
}

// nextFrame returns a frame that waits, or that comes while a transaction is on
// its way to the store; and what peer.in says. There may be no more.
func (f *Follower) nextFrame() (fr frame, ok, more bool, err error) {
	select {
	case fr, ok = <-f.link.peer.in:
		return fr, ok, true, nil
	default:
	}
	if f.storing == nil {
		return fr, false, false, nil
	}
	select {
	case fr, ok = <-f.link.peer.in:
		return fr, ok, true, nil
	case err = <-f.storing.endc:
		return fr, false, false, f.settled(err)
	}
}

// addCommits applies the commits of a frame to the tree and adds them to the
// batch. A commit that the copy has already is passed over; one that leaves a
// gap is the master's mistake.
func (f *Follower) addCommits(body []byte) error {
	if f.link.look {
		return nil
	}
	b := &f.batch
	if b.pos.IsZero() {
		b.pos = f.meta.Position
	}
	d := stream.NewDecoder(body)
	var c stream.Commit
	for d.Next(&c) {
		if c.Offset <= b.pos.Offset {
			continue
		}
		if c.Offset != b.pos.Offset+1 {
			return protocolErrorf("commit %d came after %d", c.Offset, b.pos.Offset)
		}
		ops := c.Ops
		if f.cfg.Fault != nil {
			// What the master wrote is the master's, applied or not (R4).
			f.touch(ops)
			ops = f.cfg.Fault(ops)
		}
		size := stream.Size(ops)
		if err := checkOps(ops, f.lim); err != nil && len(ops) > 0 {
			return &misfitError{fmt.Errorf("the master's commit %d does not fit this store: %w", c.Offset, err)}
		}
		if len(b.ops)+len(ops) > f.lim.CommitOps || b.bytes+size > f.lim.CommitBytes {
			if err := f.flush(); err != nil {
				return err
			}
		}
		b.pos = stream.Position{Epoch: f.meta.Position.Epoch, Offset: c.Offset, Fingerprint: c.Fingerprint}
		f.applyOps(ops)
		b.bytes += size
		if own := f.tree.Summary(); own != c.Fingerprint && b.drift == nil {
			b.drift = &driftAt{b.pos, own}
		} else if own == c.Fingerprint {
			b.drift = nil // what differed was overwritten meanwhile
		}
		b.unfed = b.unfed || !f.feed.wanted()
		if f.feed.wanted() {
			b.feed = append(b.feed, fed{pos: b.pos, ops: cloneOps(ops)})
		}
	}
	if err := d.Err(); err != nil {
		return protocolErrorf("bad commits frame: %v", err)
	}
	return nil
}

// applyOps applies ops to the tree. The batch keeps them: they are parts of a
// frame, which nobody changes.
func (f *Follower) applyOps(ops []stream.Op) {
	b := &f.batch
	b.undo = f.tree.apply(ops, b.undo)
	f.touch(ops)
	b.ops = append(b.ops, ops...)
}

// touch tells a comparison under way which keys the stream writes.
func (f *Follower) touch(ops []stream.Op) {
	if f.sync == nil {
		return
	}
	for i := range ops {
		f.sync.touch(ops[i].Key)
	}
}

// flush stores the batch: data, position and summary in one transaction. Then
// the master is told, and so is whoever watches.
func (f *Follower) flush() error {
	b := &f.batch
	if b.pos.Offset <= f.meta.Position.Offset {
		return nil
	}
	tx := store.Txn{Ops: b.ops, Meta: f.meta}
	tx.Meta.Position = b.pos
	if own := f.tree.Summary(); tx.Meta.Complete && own == b.pos.Fingerprint {
		// Equal fingerprints at the same offset, as after a repair (R9).
		tx.Meta.Verified, tx.Meta.Deleted = own.Count, 0
	}
	if err := f.write(&tx); err != nil {
		f.undoBatch()
		return err
	}
	f.tree.settled()
	if f.tree.Summary() == f.meta.Position.Fingerprint {
		f.tree.clearMarks()
	}
	drift := b.drift
	if b.unfed {
		// Whoever has begun to watch since then has missed some of it.
		f.feed.gap(b.pos)
	} else {
		f.feed.add(b.feed)
	}
	f.emptyBatch()
	now := time.Now()
	f.contact, f.progress = now, now
	if f.head.Offset < f.meta.Position.Offset {
		f.head = f.meta.Position
		f.heads.note(f.head.Offset, now)
	}
	f.heads.forget(f.meta.Position.Offset)
	f.publish()
	f.ack()
	if drift != nil {
		f.noticeDrift(*drift)
	}
	return nil
}

// undoBatch takes back what was applied to the tree and not stored.
func (f *Follower) undoBatch() {
	f.tree.undo(f.batch.undo)
	f.emptyBatch()
}

func (f *Follower) emptyBatch() {
	b := &f.batch
	clear(b.ops)
	clear(b.undo)
	*b = batch{ops: b.ops[:0], undo: b.undo[:0]}
}

// handle takes any frame but commits. The batch is stored.
func (f *Follower) handle(fr frame) error {
	f.contact = time.Now()
	switch fr.typ {
	case frameHead:
		h, err := parseHead(fr.body)
		if err != nil {
			return err
		}
		return f.gotHead(h)
	case frameBye:
		g, err := parseGoodbye(fr.body)
		if err != nil {
			return err
		}
		return &PeerError{g.code, g.reason}
	case frameSyncQueued, frameSyncStart, frameCompare, frameItems, frameKeys, frameSyncDone:
		if f.sync == nil {
			return nil // of a comparison that has ended meanwhile
		}
		return f.sync.handle(fr)
	}
	return protocolErrorf("a master sends no frame of type %d", fr.typ)
}

// gotHead takes the master's heartbeat. An idle pair notices drift by it (P3).
func (f *Follower) gotHead(h head) error {
	if f.link.look {
		return nil
	}
	if h.pos.Offset < f.meta.Position.Offset {
		return protocolErrorf("the master's head is %d, but it has sent %d", h.pos.Offset, f.meta.Position.Offset)
	}
	f.head = h.pos
	f.heads.note(h.pos.Offset, f.contact)
	if h.pos.Offset == f.meta.Position.Offset {
		f.progress, f.link.catching = f.contact, false
		if own := f.tree.Summary(); own != h.pos.Fingerprint {
			f.noticeDrift(driftAt{h.pos, own})
		} else {
			f.tree.clearMarks()
			if f.drift.found && f.sync == nil {
				f.drift = driftState{} // healed by what was written since
			}
		}
	}
	f.publish()
	return nil
}

// beat sends the follower's heartbeat, drops a master that says nothing, and
// begins repairs whose time has come.
func (f *Follower) beat(now time.Time) error {
	l := f.link
	if l == nil {
		return nil
	}
	if d := l.peer.silent(now); d > f.cfg.Silence {
		return &protocolError{CodeSilent, fmt.Sprintf("nothing was heard from the master for %v", d.Round(time.Millisecond))}
	}
	f.ack()
	f.repairWhenDue(now)
	return f.sync.tired(now)
}

// ack tells the master where the copy stands.
func (f *Follower) ack() {
	if f.link == nil {
		return
	}
	state, _, _ := f.life.get()
	if f.link.look {
		// The master is not told of a position that it cannot confirm.
		f.link.peer.send(frameAck, ack{summary: f.tree.Summary(), state: string(state)}.append())
		return
	}
	f.link.peer.send(frameAck, ack{
		offset: f.meta.Position.Offset, summary: f.tree.Summary(),
		complete: f.meta.Complete, state: string(state),
	}.append())
}

// applyRepair stores a piece of a repair in a transaction of its own, with the
// summary after it. The position stays.
func (f *Follower) applyRepair(ops []stream.Op, change func(*store.Meta)) error {
	if err := f.startRepair(ops, change, func() {}); err != nil {
		return err
	}
	return f.settle()
}

// startRepair begins to store a piece of a repair.
func (f *Follower) startRepair(ops []stream.Op, change func(*store.Meta), then func()) error {
	if len(f.batch.undo) > 0 {
		return &fatalError{errors.New("BUG: a repair over a batch that is not stored")}
	}
	undone := f.tree.apply(ops, f.batch.undo)
	defer func() {
		clear(undone)
		f.batch.undo = undone[:0]
	}()
	tx := store.Txn{Ops: ops, Meta: f.meta}
	if change != nil {
		change(&tx.Meta)
	}
	own := f.tree.Summary()
	err := f.start(&tx, func() {
		f.tree.settled()
		if f.feed.wanted() && len(ops) > 0 {
			f.feed.add([]fed{{pos: f.meta.Position, ops: cloneOps(ops), repair: true}})
		}
		f.publishAs(own) // the tree may be ahead
		then()
	})
	if err != nil {
		f.tree.undo(undone)
	}
	return err
}

func cloneOps(ops []stream.Op) []stream.Op {
	c := make([]stream.Op, len(ops))
	for i, op := range ops {
		c[i] = stream.Op{Key: bytes.Clone(op.Key), Value: bytes.Clone(op.Value), Delete: op.Delete}
	}
	return c
}
