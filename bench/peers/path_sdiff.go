package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/stream"
	"github.com/sdiff/sdiff/transport"
)

// waitLimit bounds how long anything is waited for.
const waitLimit = 10 * time.Minute

// commitOps is how many ops a commit of the master has.
const commitOps = 1000

// A sdiffMaster is a master over Badger that leaves syncing to the system, like
// the others.
type sdiffMaster struct {
	memory bool // nothing is to be on disk
	st     store.Store
	m      *replica.Master
	stop   func() error
	pos    stream.Position
}

// openStore opens a store of Badger, or one in memory.
func openStore(dir string, memory bool) (store.Store, error) {
	if memory {
		return store.NewMemory(), nil
	}
	return badgerstore.Open(dir, badgerstore.Options{NoSync: true})
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

func (m *sdiffMaster) open(dir string) (addr, note string, err error) {
	if m.st, err = openStore(dir, m.memory); err != nil {
		return "", "", err
	}
	l, err := transport.Listen("127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	if m.m, err = replica.NewMaster(m.st, replica.MasterConfig{Listener: l}); err != nil {
		return "", "", err
	}
	m.stop = background(m.m.Run)
	<-m.m.Ready()
	if m.memory {
		return l.Addr().String(), "", nil
	}
	note = fmt.Sprintf("sdiff: Badger at both ends, synced by the system only, with tree, sketch, log and scrub; commits of %d.", commitOps)
	return l.Addr().String(), note, nil
}

func (m *sdiffMaster) load(l load) (mark string, err error) {
	ops := make([]stream.Op, 0, commitOps)
	err = newWorkload(l.seed).each(l.n, commitOps, func(pairs []pair) (err error) {
		ops = ops[:0]
		for _, p := range pairs {
			ops = append(ops, stream.Op{Key: p.key, Value: p.value})
		}
		m.pos, err = m.m.Write(context.Background(), ops)
		return err
	})
	return m.pos.String(), err
}

func (m *sdiffMaster) cpu() time.Duration { return 0 }

func (m *sdiffMaster) close() error {
	if m.stop == nil {
		return nil
	}
	return errors.Join(m.stop(), m.st.Close())
}

// A sdiffReplica is a follower over Badger.
type sdiffReplica struct {
	memory    bool
	dir, addr string
	st        store.Store
	f         *replica.Follower
	stop      func() error
}

func (r *sdiffReplica) open(dir, addr string) (err error) {
	r.dir, r.addr = dir, addr
	if r.st, err = openStore(dir, r.memory); err != nil {
		return err
	}
	if r.f, err = replica.NewFollower(r.st, replica.FollowerConfig{ID: "peers", Dial: transport.DialTCP(addr)}); err != nil {
		return err
	}
	r.stop = background(r.f.Run)
	return nil
}

func (r *sdiffReplica) wait(mark string) error {
	pos, err := stream.ParsePosition(mark)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	return r.f.WaitFor(ctx, pos)
}

func (r *sdiffReplica) each(fn func(key, value []byte)) error {
	for it, err := range r.f.Ascend(context.Background(), nil, nil) {
		if err != nil {
			return err
		}
		fn(it.Key, it.Value)
	}
	return nil
}

func (r *sdiffReplica) get(key []byte) ([]byte, error) {
	value, err := r.f.Get(context.Background(), key)
	if errors.Is(err, replica.ErrNotFound) || errors.Is(err, replica.ErrDamaged) {
		return nil, nil
	}
	return value, err
}

// harm stops the follower and changes its database with Badger's own library.
func (r *sdiffReplica) harm(pairs []pair) (wrong int, note string, err error) {
	if err := r.close(); err != nil {
		return 0, "", err
	}
	opt := badger.DefaultOptions(r.dir).WithLogger(nil).WithValueThreshold(1 << 20)
	db, err := badger.Open(opt)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	batch := db.NewWriteBatch()
	for _, h := range harms(pairs) {
		if h.value == nil {
			err = batch.Delete(h.key)
		} else {
			err = batch.Set(h.key, h.value)
		}
		if err != nil {
			batch.Cancel()
			return 0, "", err
		}
	}
	if err := batch.Flush(); err != nil {
		return 0, "", err
	}
	wrong, err = countWrong(func(key []byte) ([]byte, error) { return badgerGet(db, key) }, pairs)
	note = "sdiff's corruption: the follower was stopped, one half of the keys changed and one deleted in its Badger " +
		"with Badger's own library, and started again; the seconds are those since that start, with opening and " +
		"checking the database and building the tree."
	return wrong, note, err
}

func badgerGet(db *badger.DB, key []byte) (value []byte, err error) {
	err = db.View(func(txn *badger.Txn) error {
		it, err := txn.Get(key)
		if err == nil {
			value, err = it.ValueCopy(nil)
		}
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	return value, err
}

func (r *sdiffReplica) resume() error { return r.open(r.dir, r.addr) }

func (r *sdiffReplica) cpu() time.Duration { return 0 }

func (r *sdiffReplica) close() error {
	if r.stop == nil {
		return nil
	}
	err := errors.Join(r.stop(), r.st.Close())
	r.stop = nil
	return err
}
