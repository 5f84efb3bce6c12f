package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// ErrIncomplete is returned by Promote and Restore for a copy that was never
// verified, or is in doubt: it may lack anything.
var ErrIncomplete = errors.New("the copy is not complete")

// Promote makes a follower's store a master's. It is for a store that nobody
// runs: open it, promote it, and run a master over it. The dataset keeps its
// id; its history goes on in a new epoch from the follower's position, so that
// the other followers find back by resuming or by repair, and one that is
// ahead of it parks. It costs a pass over the data.
//
// A copy that is incomplete, that differs from what its master held at its
// position, or whose store does not hold what it should, is refused with an
// error that wraps ErrIncomplete, unless anyway is true.
func Promote(st store.Store, hash merkle.Hasher, anyway bool) (stream.Position, error) {
	o, err := open(context.Background(), st, store.Follower, hash, false)
	if err != nil {
		return stream.Position{}, err
	}
	m := o.meta
	switch {
	case o.fresh || m.Dataset.IsZero():
		return stream.Position{}, fmt.Errorf("%w: it never followed a master", ErrIncomplete)
	case !anyway:
		if err := o.incomplete(); err != nil {
			return stream.Position{}, err
		}
	}
	becomeMaster(&m, o.tree.Summary())
	m.Sync = st.Info().Sync
	tx := store.Txn{Meta: m}
	if o.incomplete() != nil {
		tx.Records = []store.Record{lossBegins(m.Position.Epoch)}
	}
	if err := st.Write(&tx); err != nil {
		return stream.Position{}, err
	}
	return m.Position, nil
}

// incomplete says why a follower's copy cannot be taken for the truth, nil if
// it can.
func (o *opened) incomplete() error {
	switch {
	case o.doubt != "":
		return fmt.Errorf("%w: %s", ErrIncomplete, o.doubt)
	case !o.meta.Complete:
		return fmt.Errorf("%w: no repair of it was ever verified, or a repair was cut off", ErrIncomplete)
	case o.meta.Summary != o.meta.Position.Fingerprint:
		return fmt.Errorf("%w: it holds %v, but its master held %v at its position", ErrIncomplete, o.meta.Summary, o.meta.Position.Fingerprint)
	}
	return nil
}

// becomeMaster begins a new epoch at the position of m, whose dataset is now
// what summary says. The log begins there.
func becomeMaster(m *store.Meta, summary merkle.Summary) {
	newEpoch(m)
	m.Role = store.Master
	m.Position.Fingerprint, m.Summary = summary, summary
	m.LogStart, m.LogBytes = m.Position, 0
	m.Complete, m.Verified, m.Deleted = true, summary.Count, 0
	m.Clean = true
}

// Restore makes a master's store hold what a follower's store holds, and takes
// that as the truth: for a master that has lost data which a follower still
// has. Both are stores that nobody runs. The dataset keeps its id, in a new
// epoch that begins after the newer of the two positions, so that no offset is
// given out twice. The follower's store is only read. It returns what was
// changed. If it is cut off, it can be started again.
//
// A master's store that was emptied or never was sdiff's becomes a master of
// the follower's dataset; one of another dataset is an *IdentityError.
//
// A copy that is incomplete, that differs from what its master held at its
// position, whose store does not hold what it should, or that stands before the
// master, is refused with an error that wraps ErrIncomplete,
// unless anyway is true: the master would lose what the copy lacks.
func Restore(ctx context.Context, master, follower store.Store, hash merkle.Hasher, anyway bool) (Report, error) {
	return restore(ctx, master, follower, hash, anyway, false)
}

// RestoreDryRun compares as Restore does, and changes nothing: the report has
// what would be missing, extra and changed. It refuses what Restore refuses.
func RestoreDryRun(ctx context.Context, master, follower store.Store, hash merkle.Hasher, anyway bool) (Report, error) {
	return restore(ctx, master, follower, hash, anyway, true)
}

func restore(ctx context.Context, master, follower store.Store, hash merkle.Hasher, anyway, dry bool) (Report, error) {
	from, err := open(ctx, follower, store.Follower, hash, false)
	if err != nil {
		return Report{}, fmt.Errorf("the follower: %w", err)
	}
	if from.fresh || from.meta.Dataset.IsZero() {
		return Report{}, fmt.Errorf("the follower: %w: it never followed a master", ErrIncomplete)
	}
	if err := from.incomplete(); err != nil && !anyway {
		return Report{}, fmt.Errorf("the follower: %w", err)
	}
	to, err := open(ctx, master, store.Master, hash, true)
	if err != nil {
		return Report{}, fmt.Errorf("the master: %w", err)
	}
	if to.fresh {
		to.meta = store.Meta{Dataset: from.meta.Dataset, Role: store.Master, Hash: hash.ID()}
	}
	if to.meta.Dataset != from.meta.Dataset {
		return Report{}, &IdentityError{"dataset", to.meta.Dataset.String(), from.meta.Dataset.String()}
	}
	if here, there := from.meta.Position.Offset, to.meta.Position.Offset; here < there && !anyway {
		return Report{}, fmt.Errorf("the follower: %w: it stands at offset %d, the master at %d", ErrIncomplete, here, there)
	}
	r := restorer{ctx: ctx, master: master, follower: follower, hash: hash, from: from, to: to, lim: master.Limits()}
	r.rep.DryRun = dry
	r.rep.Start, r.rep.Before = time.Now(), to.tree.Summary().String()
	if err := r.run(); err != nil {
		return r.rep, err
	}
	return r.rep, nil
}

// A restorer copies what differs, in bounded transactions.
type restorer struct {
	ctx              context.Context
	master, follower store.Store
	hash             merkle.Hasher
	from, to         opened
	lim              store.Limits
	rep              Report

	ops   []stream.Op
	bytes int
}

func (r *restorer) run() error {
	v, err := r.follower.View()
	if err != nil {
		return err
	}
	defer v.Close()
	have, stop := iter.Pull2(func(yield func([]byte, uint64) bool) {
		r.to.tree.Snapshot().Ascend(nil, nil, yield)
	})
	defer stop()
	key, hash, more := have()
	drop := func() error {
		r.rep.Extra++
		err := r.add(stream.Op{Key: bytes.Clone(key), Delete: true})
		key, hash, more = have()
		return err
	}
	var bad error
	err = v.Ascend(nil, nil, func(k, value []byte) bool {
		for more && bytes.Compare(key, k) < 0 && bad == nil {
			bad = drop()
		}
		want, _ := r.from.tree.Get(k)
		same := more && bytes.Equal(key, k)
		switch {
		case bad != nil:
		case r.hash.Hash(k, value) != want:
			bad = fmt.Errorf("the follower: %w: a value is not what it was when the tree was built", store.ErrCorrupt)
		case same && hash == want:
		case same:
			r.rep.Changed++
			bad = r.add(stream.Op{Key: bytes.Clone(k), Value: bytes.Clone(value)})
		default:
			r.rep.Missing++
			bad = r.add(stream.Op{Key: bytes.Clone(k), Value: bytes.Clone(value)})
		}
		if same {
			key, hash, more = have()
		}
		return bad == nil && r.ctx.Err() == nil
	})
	if err = errors.Join(err, bad, r.ctx.Err()); err != nil {
		return err
	}
	for more {
		if err := drop(); err != nil {
			return err
		}
	}
	return r.finish()
}

// add makes the op part of the next transaction, and stores the one before it
// when it is full. The master's tree is kept in step.
func (r *restorer) add(op stream.Op) error {
	n := stream.Size([]stream.Op{op})
	if len(r.ops) > 0 && (len(r.ops) == r.lim.CommitOps || r.bytes+n > r.lim.CommitBytes) {
		if err := r.store(r.to.meta); err != nil {
			return err
		}
	}
	r.ops = append(r.ops, op)
	r.bytes += n
	return nil
}

func (r *restorer) store(meta store.Meta) error {
	if r.rep.DryRun {
		r.ops, r.bytes = nil, 0
		return nil
	}
	tree := r.to.tree
	for _, op := range r.ops {
		if op.Delete {
			tree.Delete(op.Key)
			r.rep.Deleted++
			continue
		}
		h, _ := r.from.tree.Get(op.Key)
		tree.Put(op.Key, h)
		r.rep.Put++
	}
	// Until the end, a master refuses the store: it is neither what it was nor
	// what it is to be.
	meta.Summary, meta.Complete, meta.Clean = tree.Summary(), false, false
	tx := store.Txn{Ops: r.ops, Meta: meta}
	if err := r.master.Write(&tx); err != nil {
		return err
	}
	r.to.meta = tx.Meta
	r.ops, r.bytes = nil, 0
	return nil
}

// finish stores the rest and begins the new epoch.
func (r *restorer) finish() error {
	want := r.from.tree.Summary()
	if r.rep.DryRun {
		r.compared(want)
		return nil
	}
	if err := r.store(r.to.meta); err != nil {
		return err
	}
	if got := r.to.tree.Summary(); got != want {
		return fmt.Errorf("%w: after the restore the master has fingerprint %v, the follower %v", ErrDamaged, got, want)
	}
	// As where a person takes a damaged store for the truth: records that the
	// meta knows nothing of would mix with those to come.
	if err := dropLog(r.master); err != nil {
		return fmt.Errorf("drop the log of the old epoch: %w", err)
	}
	m := r.to.meta
	if f := r.from.meta; f.Position.Offset >= m.Position.Offset {
		// The follower's history is the longer one, and becomes the master's.
		m.History, m.Position = f.History, f.Position
	}
	becomeMaster(&m, want)
	m.Sync = r.master.Info().Sync
	tx := store.Txn{Meta: m}
	was := r.to.meta
	switch {
	case r.from.incomplete() != nil:
		tx.Records = []store.Record{lossBegins(m.Position.Epoch)}
	case r.to.unknownLoss != nil:
		// The follower's copy may be of the time after it: who is of an earlier
		// time than the copy may hold more.
		loss := r.from.meta.Position.Epoch
		if !knows(&m, loss) {
			loss = m.Position.Epoch
		}
		tx.Records = []store.Record{lossBegins(loss)}
	case beforeLoss(was.History, was.Position.Epoch, r.to.loss, r.from.meta.Position.Epoch):
		tx.Records = []store.Record{lossBegins(stream.Epoch{})} // it is made good
	}
	if err := r.master.Write(&tx); err != nil {
		return err
	}
	r.rep.Outcome, r.rep.Offset = Repaired, m.Position.Offset
	if r.rep.Put+r.rep.Deleted == 0 {
		r.rep.Outcome = Same
	}
	r.rep.After, r.rep.Master = want.String(), want.String()
	r.rep.Took = time.Since(r.rep.Start)
	return nil
}

// compared ends a dry run.
func (r *restorer) compared(want merkle.Summary) {
	r.rep.Outcome, r.rep.Offset = Same, r.from.meta.Position.Offset
	if r.rep.Missing+r.rep.Extra+r.rep.Changed > 0 {
		r.rep.Outcome = Different
	}
	r.rep.After, r.rep.Master = r.rep.Before, want.String()
	r.rep.Took = time.Since(r.rep.Start)
}
