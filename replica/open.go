package replica

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// opened is what a replica finds in its store before it begins.
type opened struct {
	meta  store.Meta
	fresh bool // the store had no meta
	tree  *merkle.Tree
	// doubt says in a sentence why the store does not hold what it should;
	// empty if it does.
	doubt string
	// lost says that something is missing, rather than foreign or changed, and
	// where is what is known of the place.
	lost  bool
	where string
	// older says that the store is whole, but as it was some transactions
	// before the newest that was recorded.
	older bool
	loss  stream.Epoch // of a master, the epoch that began with an accepted loss
	// unknownLoss is why the record of it cannot be read; nil if it can.
	unknownLoss error
}

// doubtLoss makes a loss that cannot be told a doubt of the store.
func (o *opened) doubtLoss() {
	o.doubt = fmt.Sprintf("%v: which followers still hold what was lost is not known", o.unknownLoss)
	o.lost, o.where = true, ""
}

// open reads the store whole: it rebuilds the tree from the items and holds
// its summary against the one stored with the data and against the head that
// the store keeps elsewhere. It takes one pass over the data. It writes
// nothing. If ctx ends meanwhile it returns the cause.
func open(ctx context.Context, st store.Store, role store.Role, hash merkle.Hasher, adopt bool) (opened, error) {
	v, err := st.View()
	if err != nil {
		return opened{}, err
	}
	defer v.Close()
	var o opened
	o.meta, err = v.Meta()
	switch {
	case errors.Is(err, store.ErrNotFound):
		o.fresh = true
	case err != nil:
		return opened{}, fmt.Errorf("read the store's meta: %w", err)
	case o.meta.Role != role:
		return opened{}, &IdentityError{"role", o.meta.Role.String(), role.String()}
	case o.meta.Hash != hash.ID():
		return opened{}, &IdentityError{"item hash", o.meta.Hash, hash.ID()}
	}
	var misfit error // what is there that could not have been written
	lim := limitsOf(st)
	o.tree, err = buildTree(ctx, v, hash, o.meta.Summary.Count, func(key, value []byte) {
		switch {
		case misfit != nil:
		case role == store.Master:
			misfit = checkItem(key, value, lim)
		case o.fresh:
			misfit = checkKey(key, lim) // a value can be replaced
		}
	})
	if err != nil {
		return opened{}, fmt.Errorf("build the tree: %w", err)
	}
	if misfit != nil {
		return opened{}, fmt.Errorf("the store holds an item that cannot be replicated: %w", misfit)
	}
	found, headAt := o.tree.Summary(), st.Info().Head
	switch {
	case o.fresh && headAt != nil:
		o.lost = true
		o.doubt = fmt.Sprintf("the database is new, but %v transactions were recorded beside it", headAt.Seq)
	case o.fresh && found.Count > 0 && !adopt:
		return opened{}, fmt.Errorf("%w: %d of them", ErrNotEmpty, found.Count)
	case o.fresh:
	case headAt != nil && headAt.Seq > o.meta.Seq:
		o.lost = true
		o.older = found == o.meta.Summary
		o.doubt = fmt.Sprintf("the database is at transaction %d, but %d were recorded beside it: its newest writes are lost", o.meta.Seq, headAt.Seq)
	case headAt != nil && headAt.Seq == o.meta.Seq && headAt.Summary != o.meta.Summary:
		o.doubt = fmt.Sprintf("the database says %v at transaction %d, but %v was recorded beside it: it is another database", o.meta.Summary, o.meta.Seq, headAt.Summary)
	case headAt != nil && role == store.Master && !headAt.Position.Epoch.IsZero() && !knows(&o.meta, headAt.Position.Epoch):
		o.doubt = fmt.Sprintf("epoch %v was recorded beside the database, which knows nothing of it: it is another database", headAt.Position.Epoch)
	case role == store.Master && !o.meta.Complete:
		o.lost = true
		o.doubt = "a restore was cut off: run it again to its end"
	case found != o.meta.Summary:
		o.lost = found.Count < o.meta.Summary.Count
		o.doubt = fmt.Sprintf("the store holds %d keys with fingerprint %016x, but should hold %d with %016x", found.Count, found.Sum, o.meta.Summary.Count, o.meta.Summary.Sum)
	}
	if role == store.Master {
		if o.loss, err = readLoss(v); err != nil && !errors.Is(err, store.ErrCorrupt) {
			return opened{}, err
		}
		o.unknownLoss = err
	}
	switch {
	case role != store.Master:
	case o.doubt != "":
		o.where = whereDamaged(v, o.tree, o.meta.Position.Offset)
	case o.unknownLoss != nil:
		o.doubtLoss()
	}
	return o, nil
}

// knows reports whether an epoch is the newest one of a master's history, or an
// earlier one.
func knows(m *store.Meta, e stream.Epoch) bool {
	return e == m.Position.Epoch || slices.ContainsFunc(m.History, func(p stream.Position) bool { return p.Epoch == e })
}

// openMaster opens a store as a master's and writes what changes by that: a new
// dataset's identity, or a new epoch after a stop that may have lost what was
// acknowledged.
func openMaster(ctx context.Context, st store.Store, cfg MasterConfig) (opened, error) {
	o, err := open(ctx, st, store.Master, cfg.Hash, cfg.Adopt)
	if err != nil {
		return opened{}, err
	}
	m := &o.meta
	durable := st.Info().Sync
	if o.older && !m.Sync {
		// That the newest writes may be lost is what writing without sync means;
		// the new epoch below says so to the followers.
		cfg.Logger.Warn("the newest writes are lost, they were not synced", "found", o.doubt)
		o.doubt = ""
		if o.unknownLoss != nil {
			o.doubtLoss()
		}
	}
	var tx store.Txn
	accepted := o.lost && cfg.AcceptDataLoss || !o.lost && cfg.AcceptStore
	switch {
	case o.doubt != "" && !accepted:
		return opened{}, &DamageError{Found: o.doubt, Where: o.where, Lost: o.lost}
	case o.doubt != "" && !o.fresh:
		// A person has taken the store as it is. In a new epoch, and without
		// the log of the old one, no follower takes it for what it was.
		cfg.Logger.Warn("going on with a store that does not hold what it should", "found", o.doubt, "where", o.where)
		if err := dropLog(st); err != nil {
			return opened{}, fmt.Errorf("drop the log of the old epoch: %w", err)
		}
		becomeMaster(m, o.tree.Summary())
		o.loss = m.Position.Epoch
		tx.Records = []store.Record{lossBegins(o.loss)}
	case o.fresh:
		sum := o.tree.Summary()
		*m = store.Meta{Dataset: stream.NewID(), Role: store.Master, Hash: cfg.Hash.ID(), Complete: true, Verified: sum.Count}
		m.Position = stream.Position{Epoch: stream.NewEpoch(), Fingerprint: sum}
		m.LogStart = m.Position
		m.Summary = sum
		if o.unknownLoss != nil {
			tx.Records = []store.Record{lossBegins(stream.Epoch{})}
		}
	case !durable || !m.Clean && !m.Sync:
		// Acknowledged commits may be gone, and followers may hold them. In a
		// new epoch their positions are not mistaken for ours. Without sync
		// every start is one: a crash may lose all that came since a clean stop,
		// and with it the word that there was anything.
		newEpoch(m)
	}
	m.Clean, m.Sync = false, durable
	tx.Meta = *m
	if err := st.Write(&tx); err != nil {
		return opened{}, fmt.Errorf("write the store's meta: %w", err)
	}
	return o, nil
}

// dropLog removes the whole log: damage may have left records of commits that
// the meta knows nothing of, which would mix with those to come.
func dropLog(st store.Store) error {
	for {
		if more, err := st.Trim(math.MaxUint64); !more || err != nil {
			return err
		}
	}
}

// newEpoch ends the epoch at its newest commit and begins another there.
func newEpoch(m *store.Meta) {
	m.History = append(m.History, m.Position)
	if n := len(m.History) - maxEpochs; n > 0 {
		m.History = m.History[n:]
	}
	m.Position.Epoch = stream.NewEpoch()
}

// maxEpochs bounds the ends of earlier epochs that a master remembers. A
// follower that was away for more of them is parked.
const maxEpochs = 256

// openFollower opens a store as a follower's. A store that does not hold what
// it should is not refused: its base is no longer complete, and the sentence
// why is returned.
func openFollower(ctx context.Context, st store.Store, cfg FollowerConfig) (opened, error) {
	o, err := open(ctx, st, store.Follower, cfg.Hash, cfg.Adopt)
	if err != nil {
		return opened{}, err
	}
	m := &o.meta
	if o.fresh && o.tree.Summary().Count > 0 && !cfg.Adopt {
		return opened{}, fmt.Errorf("%w: %d of them", ErrNotEmpty, o.tree.Summary().Count)
	}
	if o.fresh {
		*m = store.Meta{Role: store.Follower, Hash: cfg.Hash.ID(), Verified: o.tree.Summary().Count}
	}
	if o.doubt != "" || (!m.Clean && !m.Sync && !o.fresh) {
		if o.doubt == "" {
			// Nothing contradicts the store; the comparison of fingerprints
			// with the master, at the very position, decides.
			cfg.Logger.Info("the last stop was not clean and writes were not synced")
		} else {
			m.Complete = false
		}
	}
	m.Summary = o.tree.Summary()
	m.Clean, m.Sync = false, st.Info().Sync
	if err := st.Write(&store.Txn{Meta: *m}); err != nil {
		return opened{}, fmt.Errorf("write the store's meta: %w", err)
	}
	return o, nil
}
