package replica

import (
	"bytes"
	"context"
	"errors"
	"iter"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A reader reads a replica's items, and holds what the store gives against the
// tree: damage must not pass for absence, nor a damaged value for a value. At
// first it looks at the tree as it is, without waiting for anyone. If that does
// not agree, a commit may have come in between; then it asks the tree's owner
// for a view, where store and tree are of one moment, and that decides.
type reader struct {
	st    store.Store
	tree  *liveTree
	view  func(context.Context) (view, error)
	found func(context.Context, []mismatch) // told of damage
}

// get returns a key's value.
func (r *reader) get(ctx context.Context, key []byte) ([]byte, error) {
	for range 2 {
		value, err := getOnce(r.st, key)
		switch {
		case err == nil && r.tree.agrees(key, r.tree.hash.Hash(key, value), true):
			return value, nil
		case errors.Is(err, store.ErrNotFound) && r.tree.agrees(key, 0, false):
			return nil, err
		case err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrCorrupt):
			return nil, err
		}
	}
	v, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	defer v.store.Close()
	value, err := v.store.Get(key)
	bad, other := compareItem(v.tree, r.tree.hash, key, value, err)
	switch {
	case other != nil:
		return nil, other
	case bad != nil:
		r.found(ctx, []mismatch{*bad})
		return nil, &DamagedKeyError{bad.key, bad.what()}
	}
	if known := r.tree.knownAt(key, err == nil); known != nil {
		return nil, known
	}
	if err != nil {
		return nil, err
	}
	return append([]byte{}, value...), nil
}

// getOnce reads one key in a view of its own.
func getOnce(st store.Store, key []byte) ([]byte, error) {
	v, err := st.View()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	value, err := v.Get(key)
	if err != nil {
		return nil, err
	}
	return append([]byte{}, value...), nil
}

// Bounds of the pages in which Ascend reads, so that a slow caller pins no old
// versions of the database.
const (
	pageItems = 1000
	pageBytes = 1 << 20
)

// A page is some items of one moment.
type page struct {
	items []Item
	next  []byte         // where the next page begins; nil at the end
	sum   merkle.Summary // of the items
}

// ascend yields the items of a range page by page. Each page is one consistent
// state; a later page is that of a later moment.
func (r *reader) ascend(ctx context.Context, lo, hi []byte) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for {
			p, err := r.page(ctx, lo, hi)
			if err == nil && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				yield(Item{}, err)
				return
			}
			for _, item := range p.items {
				if !yield(item, nil) {
					return
				}
			}
			if lo = p.next; lo == nil {
				return
			}
		}
	}
}

// page reads a page from lo on.
func (r *reader) page(ctx context.Context, lo, hi []byte) (page, error) {
	v, err := r.st.View()
	if err != nil {
		return page{}, err
	}
	p, err := readPage(v, r.tree.hash, lo, hi)
	v.Close()
	switch {
	case err == nil && r.tree.agreesOver(lo, p.end(hi), p.sum):
		return p, nil
	case err != nil && !errors.Is(err, store.ErrCorrupt):
		return page{}, err
	}
	w, err := r.view(ctx)
	if err != nil {
		return page{}, err
	}
	defer w.store.Close()
	p, err = readPage(w.store, r.tree.hash, lo, hi)
	if err != nil {
		return page{}, err
	}
	if bad := p.compare(w.tree, r.tree.hash, lo, hi); len(bad) > 0 {
		r.found(ctx, bad)
		return page{}, &DamagedKeyError{bad[0].key, bad[0].what()}
	}
	if known := r.tree.known(lo, p.end(hi)); known != nil {
		return page{}, known
	}
	return p, nil
}

// end returns where the page ends, if hi is where its range does.
func (p *page) end(hi []byte) []byte {
	if p.next != nil {
		return p.next
	}
	return hi
}

// readPage reads up to a page from lo on.
func readPage(v store.View, hash merkle.Hasher, lo, hi []byte) (p page, err error) {
	n := 0
	err = v.Ascend(lo, hi, func(key, value []byte) bool {
		if len(p.items) == pageItems || n > pageBytes {
			p.next = bytes.Clone(key)
			return false
		}
		p.items = append(p.items, Item{bytes.Clone(key), append([]byte{}, value...)})
		p.sum = p.sum.Add(merkle.Summary{Count: 1, Sum: hash.Hash(key, value)})
		n += len(key) + len(value)
		return true
	})
	return p, err
}

// compare holds a page against the tree of the same moment and returns what
// does not agree, a thousand keys at most.
func (p *page) compare(t *merkle.Snapshot, hash merkle.Hasher, lo, hi []byte) (bad []mismatch) {
	i := 0
	extra := func() {
		it := p.items[i]
		bad = append(bad, mismatch{key: it.Key, have: hash.Hash(it.Key, it.Value), inStore: true})
		i++
	}
	t.Ascend(lo, p.end(hi), func(key []byte, want uint64) bool {
		for i < len(p.items) && bytes.Compare(p.items[i].Key, key) < 0 {
			extra()
		}
		if i == len(p.items) || !bytes.Equal(p.items[i].Key, key) {
			bad = append(bad, mismatch{key: bytes.Clone(key), want: want, inTree: true})
			return len(bad) < maxBadKeys
		}
		if have := hash.Hash(key, p.items[i].Value); have != want {
			bad = append(bad, mismatch{key: p.items[i].Key, want: want, have: have, inTree: true, inStore: true})
		}
		i++
		return true
	})
	for i < len(p.items) && len(bad) < maxBadKeys {
		extra()
	}
	return bad
}

// Get returns a key's value, or ErrNotFound. A key that the store does not hold
// as it was written is a *DamagedKeyError, never ErrNotFound. The slice is the
// caller's.
func (m *Master) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := m.ready(ctx); err != nil {
		return nil, err
	}
	return m.reads.get(ctx, key)
}

// Ascend yields the items from lo on, in byte order, up to but without hi (nil:
// to the end). It reads in pages of at most a thousand items, each one of a
// single moment, the later ones of later moments. An error is the last thing
// it yields: a *DamagedKeyError where keys are damaged or missing. The slices
// are the caller's.
func (m *Master) Ascend(ctx context.Context, lo, hi []byte) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		if err := m.ready(ctx); err != nil {
			yield(Item{}, err)
			return
		}
		m.reads.ascend(ctx, lo, hi)(yield)
	}
}

// Get returns a key's value, or ErrNotFound. A key that the store does not hold
// as it was written is a *DamagedKeyError, never ErrNotFound, and is repaired as
// the policy says. The slice is the caller's.
func (f *Follower) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := f.ready(ctx); err != nil {
		return nil, err
	}
	return f.reads.get(ctx, key)
}

// Ascend yields the items from lo on, in byte order, up to but without hi (nil:
// to the end), as Master.Ascend does.
func (f *Follower) Ascend(ctx context.Context, lo, hi []byte) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		if err := f.ready(ctx); err != nil {
			yield(Item{}, err)
			return
		}
		f.reads.ascend(ctx, lo, hi)(yield)
	}
}

// Verify reads the whole store at full speed and holds every item against the
// tree, chunk by chunk; writes go on meanwhile. The fingerprints of the report
// are therefore those of a moving dataset, unless nothing was written. It
// changes nothing.
func (m *Master) Verify(ctx context.Context) (VerifyReport, error) {
	if err := m.ready(ctx); err != nil {
		return VerifyReport{}, err
	}
	return m.scrub.verify(ctx)
}

// Verify reads the whole store at full speed and holds every item against the
// tree, chunk by chunk; the stream goes on meanwhile. What is found shows in
// the copy's fingerprint from then on, so that the next repair, at once by the
// default policy, mends it.
func (f *Follower) Verify(ctx context.Context) (VerifyReport, error) {
	if err := f.ready(ctx); err != nil {
		return VerifyReport{}, err
	}
	return f.scrub.verify(ctx)
}

// WaitAcked waits until at least n followers have acknowledged the position,
// or ctx ends.
func (m *Master) WaitAcked(ctx context.Context, pos stream.Position, n int) error {
	if err := m.ready(ctx); err != nil {
		return err
	}
	for {
		changed := m.acks.wait()
		if m.followers.acked(pos.Offset) >= n {
			return nil
		}
		select {
		case <-changed:
		case <-m.endedc:
			return ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
