package replica

import (
	"errors"
	"fmt"

	"github.com/sdiff/sdiff/replica/store"
)

// A storing is a transaction of a follower on its way to the store. Until it is
// there the tree is ahead, by the next one too if that is prepared meanwhile, and
// nobody is told.
type storing struct {
	endc chan error
	then func() // what is to be done once it is stored
}

// write stores a transaction. What the store refuses ends the session, what it
// may or may not have stored ends the follower.
func (f *Follower) write(tx *store.Txn) error {
	if err := f.settle(); err != nil {
		return err
	}
	tx.Meta.Summary = f.tree.Summary()
	return f.accepted(tx, f.st.Write(tx))
}

// start begins to store a transaction, and waits for the one before. An error is
// that of either, as write returns it, and then this one is not stored.
func (f *Follower) start(tx *store.Txn, then func()) error {
	tx.Meta.Summary = f.tree.Summary()
	st := &storing{make(chan error, 1), then}
	err := store.Start(f.st, tx, st.endc)
	if before := f.settle(); before != nil {
		return before
	}
	if err = f.accepted(tx, err); err == nil {
		f.storing = st
	}
	return err
}

// accepted deals with what a store says that is to take a transaction.
func (f *Follower) accepted(tx *store.Txn, err error) error {
	switch {
	case err == nil:
		f.meta = tx.Meta
		// A store takes what is small also where it has no room for data.
		if f.readOnly != "" && (len(tx.Ops) > 0 || store.Room(f.st) == nil) {
			f.readOnly = ""
		}
		return nil
	case errors.Is(err, store.ErrRefused):
		f.readOnly = "the store refuses writes: " + err.Error()
		f.cfg.Logger.Warn("the store refuses writes", "reason", err)
		return fmt.Errorf("the store refuses writes: %w", err)
	}
	return unknown(err)
}

func unknown(err error) error { return &fatalError{fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)} }

// settle waits for what is on its way to the store.
func (f *Follower) settle() error {
	if f.storing == nil {
		return nil
	}
	return f.settled(<-f.storing.endc)
}

// settled takes the end of what was on its way.
func (f *Follower) settled(err error) error {
	st := f.storing
	f.storing = nil
	if err != nil {
		// The tree stays ahead: whether of the store nobody knows, until the next
		// start reads that. The follower ends, and nobody is sent an ack.
		return unknown(err)
	}
	st.then()
	return nil
}
