package replica

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A Tx is one atomic commit in the making, as Update hands it out. It reads
// what was committed before it and its own writes. Nothing else commits while
// it runs, so what it read still holds when it commits.
//
// A Tx is valid during the call only and not safe for concurrent use. Its
// slices belong to the caller after the call; what was given to Put and Delete
// must not be changed before Update has returned.
type Tx struct {
	lim   store.Limits
	view  store.View
	tree  *liveTree // that of the view, but for the keys in under
	found func(mismatch)
	under map[string]stream.Op // what the group changed before
	own   map[string]stream.Op
	ops   []stream.Op
	bytes int
}

// Put sets a key. Beyond the commit's bounds it returns a *LimitError.
func (t *Tx) Put(key, value []byte) error {
	return t.add(stream.Op{Key: key, Value: value})
}

// Delete removes a key. Removing an absent key is no error.
func (t *Tx) Delete(key []byte) error {
	return t.add(stream.Op{Key: key, Delete: true})
}

func (t *Tx) add(op stream.Op) error {
	if t.own == nil {
		return errTxOver
	}
	one := [1]stream.Op{op}
	if err := checkOps(one[:], t.lim); err != nil {
		return err
	}
	n := t.bytes + stream.Size(one[:])
	switch {
	case len(t.ops) == t.lim.CommitOps:
		return &LimitError{"commit ops", len(t.ops) + 1, t.lim.CommitOps}
	case n > t.lim.CommitBytes:
		return &LimitError{"commit bytes", n, t.lim.CommitBytes}
	}
	t.bytes = n
	t.ops = append(t.ops, op)
	t.own[string(op.Key)] = op
	return nil
}

// Get returns a key's value, or ErrNotFound, or a *DamagedKeyError as Master.Get
// does. The slice is valid during the call of Update and must not be changed.
func (t *Tx) Get(key []byte) ([]byte, error) {
	for _, layer := range []map[string]stream.Op{t.own, t.under} {
		if op, ok := layer[string(key)]; ok {
			if op.Delete {
				return nil, ErrNotFound
			}
			return op.Value, nil
		}
	}
	value, err := t.view.Get(key)
	if errors.Is(err, errTxOver) {
		return nil, err
	}
	bad, other := compareItem(t.tree, t.tree.hash, key, value, err)
	switch {
	case other != nil:
		return nil, other
	case bad != nil:
		return nil, t.damaged(*bad)
	}
	return value, err
}

// damaged notes what was found, and returns it as an error.
func (t *Tx) damaged(m mismatch) error {
	t.found(m)
	return &DamagedKeyError{m.key, m.what()}
}

// Ascend calls fn for every key from lo on, in byte order, up to but without
// hi (nil: to the end), until fn returns false. Where a key is damaged or
// missing it ends with a *DamagedKeyError. The slices are valid during the call
// only. fn must not write to the Tx.
func (t *Tx) Ascend(lo, hi []byte, fn func(key, value []byte) bool) error {
	changed := t.changed(lo, hi)
	goOn := true
	// emit passes on what was changed up to but without key.
	emit := func(key []byte) {
		for goOn && len(changed) > 0 && (key == nil || bytes.Compare(changed[0].Key, key) < 0) {
			if op := changed[0]; !op.Delete {
				goOn = fn(op.Key, op.Value)
			}
			changed = changed[1:]
		}
	}
	walk := t.walk(lo, hi)
	defer walk.stop()
	var bad error
	err := t.view.Ascend(lo, hi, func(key, value []byte) bool {
		if t.touched(key) {
			emit(key)
			return goOn // it is emitted before the next key, in its new state
		}
		if bad = walk.meet(key, value); bad != nil {
			return false
		}
		if emit(key); goOn {
			goOn = fn(key, value)
		}
		return goOn
	})
	if err = cmp.Or(bad, err); err == nil && goOn {
		err = walk.end()
	}
	if err != nil {
		return err
	}
	emit(nil)
	return nil
}

// touched reports whether the group or the Tx has changed a key.
func (t *Tx) touched(key []byte) bool {
	_, own := t.own[string(key)]
	_, under := t.under[string(key)]
	return own || under
}

// A treeWalk goes through a tree's keys beside an iteration of a store, so that
// a key which the store has lost is missed when the next one comes. Keys that
// the Tx or its group has changed are none of its business.
type treeWalk struct {
	t    *Tx
	next func() ([]byte, uint64, bool)
	stop func()
	key  []byte
	hash uint64
	ok   bool
}

func (t *Tx) walk(lo, hi []byte) *treeWalk {
	if t.tree == nil {
		return &treeWalk{stop: func() {}}
	}
	w := &treeWalk{t: t}
	w.next, w.stop = iter.Pull2(func(yield func([]byte, uint64) bool) { t.tree.Ascend(lo, hi, yield) })
	w.step()
	return w
}

// step goes to the next key that was not changed.
func (w *treeWalk) step() {
	for w.key, w.hash, w.ok = w.next(); w.ok && w.t.touched(w.key); {
		w.key, w.hash, w.ok = w.next()
	}
}

// meet takes the next item of the store, whose key was not changed.
func (w *treeWalk) meet(key, value []byte) error {
	have := w.t.tree.hash.Hash(key, value)
	switch {
	case w.ok && bytes.Compare(w.key, key) < 0:
		return w.end() // it should have come before this one
	case !w.ok || !bytes.Equal(w.key, key):
		return w.t.damaged(mismatch{key: bytes.Clone(key), have: have, inStore: true})
	case have != w.hash:
		return w.t.damaged(mismatch{key: bytes.Clone(key), want: w.hash, have: have, inTree: true, inStore: true})
	}
	w.step()
	return nil
}

// end is called when the store has nothing more.
func (w *treeWalk) end() error {
	if !w.ok {
		return nil
	}
	return w.t.damaged(mismatch{key: bytes.Clone(w.key), want: w.hash, inTree: true})
}

// changed returns the newest op of every key in a range that the group or the
// Tx has changed, in key order.
func (t *Tx) changed(lo, hi []byte) []stream.Op {
	all := maps.Clone(t.own)
	for k, op := range t.under {
		if _, ok := all[k]; !ok {
			all[k] = op
		}
	}
	maps.DeleteFunc(all, func(k string, _ stream.Op) bool {
		return k < string(lo) || hi != nil && k >= string(hi)
	})
	return slices.SortedFunc(maps.Values(all), func(a, b stream.Op) int { return bytes.Compare(a.Key, b.Key) })
}

// runTx runs the function of an Update on the writer's goroutine.
func (w *writer) runTx(fn func(*Tx) error) (ops []stream.Op, err error) {
	g := &w.g
	if g.view == nil {
		if g.view, err = w.st.View(); err != nil {
			g.view = nil
			return nil, err
		}
	}
	if g.overlay == nil {
		g.overlay = make(map[string]stream.Op, len(g.ops))
		for _, op := range g.ops {
			g.overlay[string(op.Key)] = op
		}
	}
	t := &Tx{lim: w.lim, view: g.view, tree: w.tree, found: w.found, under: g.overlay, own: make(map[string]stream.Op)}
	defer func() {
		if p := recover(); p != nil {
			ops, err = nil, fmt.Errorf("panic in the function of Update: %v", p)
		}
		t.view, t.tree, t.ops, t.own, t.under = closedView{}, nil, nil, nil, nil
	}()
	if err := fn(t); err != nil {
		return nil, err
	}
	return t.ops, nil
}

// closedView answers a Tx that was kept beyond its call.
type closedView struct{ store.View }

var errTxOver = errors.New("the transaction is over")

func (closedView) Get([]byte) ([]byte, error)                         { return nil, errTxOver }
func (closedView) Ascend(_, _ []byte, _ func(_, _ []byte) bool) error { return errTxOver }
