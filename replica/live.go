package replica

import (
	"bytes"
	"errors"
	"slices"
	"sync"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

const (
	// lockedOps is how many ops change a liveTree under one lock: readers wait
	// for that long at most.
	lockedOps = 64
	// maxMarked bounds the keys that a replica remembers as damaged.
	maxMarked = 10_000
)

// A liveTree is the tree of a running replica. Its owner, the writer or the
// follower's loop, changes it by the methods here and reads it without a lock.
// Everyone else holds what he read from the store against it: a store that is
// damaged may take a key for absent, the tree does not.
//
// While a transaction is on its way to the store, the tree is ahead of it.
type liveTree struct {
	*merkle.Tree // the owner's
	hash         merkle.Hasher

	mu sync.RWMutex // the owner holds it while it changes the tree and what follows
	// gone are the keys deleted from the tree and not yet from the store.
	gone [][]byte
	// marked are the keys that the store is known not to hold as they were
	// written, with what is wrong; more says that there are others.
	marked map[string]string
	more   bool
	// corrects says that the tree is made to say what the store holds when that
	// is found to be damaged, as a follower's is, so that only the marks tell.
	corrects bool
}

// newLiveTree takes over a tree, and makes it keep a sketch.
func newLiveTree(t *merkle.Tree, hash merkle.Hasher, corrects bool) *liveTree {
	t.KeepSketch()
	return &liveTree{Tree: t, hash: hash, marked: map[string]string{}, corrects: corrects}
}

// An undo takes back one op's effect on the tree.
type undo struct {
	key    []byte
	hash   uint64
	had    bool
	marked string // what was wrong with the key before it was written
}

// apply applies ops, and appends to list what takes them back. Until settled or
// undo is called they are taken to be on their way to the store. It keeps the
// keys.
func (t *liveTree) apply(ops []stream.Op, list []undo) []undo {
	var hashes [lockedOps]uint64
	for len(ops) > 0 {
		n := min(len(ops), lockedOps)
		for i := range n {
			if op := &ops[i]; !op.Delete {
				hashes[i] = t.hash.Hash(op.Key, op.Value)
			}
		}
		list = t.applySome(ops[:n], hashes[:n], list)
		ops = ops[n:]
	}
	return list
}

func (t *liveTree) applySome(ops []stream.Op, hashes []uint64, list []undo) []undo {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range ops {
		op := &ops[i]
		u := undo{key: op.Key}
		if op.Delete {
			if u.hash, u.had = t.Tree.Delete(op.Key); u.had {
				t.gone = append(t.gone, op.Key)
			}
		} else {
			u.hash, u.had = t.Tree.Put(op.Key, hashes[i])
		}
		if len(t.marked) > 0 {
			u.marked = t.marked[string(op.Key)]
			delete(t.marked, string(op.Key))
		}
		list = append(list, u)
	}
	return list
}

// settled says that the store holds what was applied.
func (t *liveTree) settled() {
	if len(t.gone) == 0 { // which only the owner changes
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.gone)
	t.gone = t.gone[:0]
}

// undo takes back, newest first, what was applied and refused by the store.
func (t *liveTree) undo(list []undo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(list) - 1; i >= 0; i-- {
		u := &list[i]
		if u.had {
			t.Tree.Put(u.key, u.hash)
		} else {
			t.Tree.Delete(u.key)
		}
		if u.marked != "" {
			t.marked[string(u.key)] = u.marked
		}
	}
	clear(t.gone)
	t.gone = t.gone[:0]
}

// correct makes the tree say what the store holds for a key, and marks it: what
// is there is not what was written.
func (t *liveTree) correct(m mismatch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.inStore {
		t.Tree.Put(m.key, m.have)
	} else {
		t.Tree.Delete(m.key)
	}
	t.mark(m)
}

func (t *liveTree) mark(m mismatch) (news bool) {
	if _, ok := t.marked[string(m.key)]; ok {
		return false
	}
	if len(t.marked) >= maxMarked {
		t.more = true
		return true
	}
	t.marked[string(m.key)] = m.what()
	return true
}

// noteBad marks the keys that still are what they were when they were found not
// to be in the store so, and returns those that were not known before.
func (t *liveTree) noteBad(bad []mismatch) (news []mismatch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range bad {
		if h, ok := t.Tree.Get(m.key); ok == m.inTree && h == m.want && t.mark(m) {
			news = append(news, m)
		}
	}
	return news
}

// noteGood takes the marks off the keys of a range that were found to be as
// they should, which are all but bad, in key order.
func (t *liveTree) noteGood(lo, hi []byte, bad []mismatch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.marked) == 0 {
		return
	}
	still := make(map[string]bool, len(bad))
	for _, m := range bad {
		still[string(m.key)] = true
	}
	for k := range t.marked {
		if within([]byte(k), lo, hi) && !still[k] {
			delete(t.marked, k)
		}
	}
}

// noteAll says that a whole pass has found so many bad keys: if as many are
// marked, there are no others.
func (t *liveTree) noteAll(bad int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.more = t.more && len(t.marked) < bad
}

// clearMarks says that the copy was seen to be the master's. Only its owner
// marks the keys of a tree that corrects.
func (t *liveTree) clearMarks() {
	if len(t.marked) == 0 && !t.more {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.marked)
	t.more = false
}

// marks returns how many keys are marked, and the names of up to max of them.
func (t *liveTree) marks(max int) (n int, more bool, named []BadKey) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for k, what := range t.marked {
		if len(named) == max {
			break
		}
		named = append(named, BadKey{[]byte(k), what})
	}
	return len(t.marked), t.more, named
}

// agrees reports whether what the store had for a key a moment ago is what the
// tree has now. It costs a way down the tree. False means nothing yet: a commit
// may have come in between.
func (t *liveTree) agrees(key []byte, hash uint64, there bool) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if _, bad := t.marked[string(key)]; t.corrects && (bad || t.more) {
		return false // the owner of the tree decides
	}
	h, ok := t.Tree.Get(key)
	if there {
		return ok && h == hash
	}
	return !ok && !slices.ContainsFunc(t.gone, func(k []byte) bool { return bytes.Equal(k, key) })
}

// agreesOver is agrees for all keys of a range, by their summary.
func (t *liveTree) agreesOver(lo, hi []byte, sum merkle.Summary) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.Tree.Range(lo, hi) != sum || slices.ContainsFunc(t.gone, func(k []byte) bool { return within(k, lo, hi) }) {
		return false
	}
	return t.knownIn(lo, hi) == nil
}

// known returns what is known to be wrong with the keys of a range although
// the tree has it, too; nil if nothing is.
func (t *liveTree) known(lo, hi []byte) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.knownIn(lo, hi)
}

// knownAt is known for one key, as the store has it.
func (t *liveTree) knownAt(key []byte, there bool) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	what, bad := t.marked[string(key)]
	switch {
	case !t.corrects:
		return nil
	case bad:
		return &DamagedKeyError{bytes.Clone(key), what}
	case t.more && !there:
		return errManyDamaged
	}
	return nil
}

func (t *liveTree) knownIn(lo, hi []byte) error {
	if !t.corrects {
		return nil
	}
	var first []byte
	for k := range t.marked {
		if within([]byte(k), lo, hi) && (first == nil || k < string(first)) {
			first = []byte(k)
		}
	}
	switch {
	case first != nil:
		return &DamagedKeyError{first, t.marked[string(first)]}
	case t.more:
		return errManyDamaged
	}
	return nil
}

// within reports whether lo <= key < hi; a nil hi is no upper bound.
func within(key, lo, hi []byte) bool {
	return bytes.Compare(key, lo) >= 0 && (hi == nil || bytes.Compare(key, hi) < 0)
}

// compareItem holds what a store gave for a key, value and error, against the
// tree of the same moment. It returns nil if they agree, and an error of the
// store that is no damage.
func compareItem(tree interface{ Get([]byte) (uint64, bool) }, hash merkle.Hasher, key, value []byte, err error) (*mismatch, error) {
	m := mismatch{key: bytes.Clone(key)}
	switch {
	case err == nil:
		m.inStore, m.have = true, hash.Hash(key, value)
	case errors.Is(err, store.ErrCorrupt):
		m.unreadable = true
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	m.want, m.inTree = tree.Get(key)
	if m.inTree == m.inStore && m.want == m.have && !m.unreadable {
		return nil, nil
	}
	return &m, nil
}
