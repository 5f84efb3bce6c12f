package replica

import (
	"bytes"
	"context"
	"iter"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// get reads one key in a view of its own.
func get(st store.Store, key []byte) ([]byte, error) {
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

// ascend yields the items of a range page by page. Each page is one consistent
// state; a later page is that of a later moment.
func ascend(ctx context.Context, st store.Store, lo, hi []byte) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for {
			page, next, err := readPage(st, lo, hi)
			if err == nil && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				yield(Item{}, err)
				return
			}
			for _, item := range page {
				if !yield(item, nil) {
					return
				}
			}
			if lo = next; next == nil {
				return
			}
		}
	}
}

// readPage reads up to a page from lo on, and where the next one begins.
func readPage(st store.Store, lo, hi []byte) (page []Item, next []byte, err error) {
	v, err := st.View()
	if err != nil {
		return nil, nil, err
	}
	defer v.Close()
	n := 0
	err = v.Ascend(lo, hi, func(key, value []byte) bool {
		if len(page) == pageItems || n > pageBytes {
			next = bytes.Clone(key)
			return false
		}
		page = append(page, Item{bytes.Clone(key), append([]byte{}, value...)})
		n += len(key) + len(value)
		return true
	})
	return page, next, err
}

// Get returns a key's value, or ErrNotFound. The slice is the caller's.
func (m *Master) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := m.ready(ctx); err != nil {
		return nil, err
	}
	return get(m.st, key)
}

// Ascend yields the items from lo on, in byte order, up to but without hi (nil:
// to the end). It reads in pages of at most a thousand items, each one of a
// single moment, the later ones of later moments. An error is the last thing
// it yields. The slices are the caller's.
func (m *Master) Ascend(ctx context.Context, lo, hi []byte) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		if err := m.ready(ctx); err != nil {
			yield(Item{}, err)
			return
		}
		ascend(ctx, m.st, lo, hi)(yield)
	}
}

// Get returns a key's value, or ErrNotFound. The slice is the caller's.
func (f *Follower) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := f.ready(ctx); err != nil {
		return nil, err
	}
	return get(f.st, key)
}

// Ascend yields the items from lo on, in byte order, up to but without hi (nil:
// to the end), as Master.Ascend does.
func (f *Follower) Ascend(ctx context.Context, lo, hi []byte) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		if err := f.ready(ctx); err != nil {
			yield(Item{}, err)
			return
		}
		ascend(ctx, f.st, lo, hi)(yield)
	}
}

// Verify reads the whole store and holds every item against the tree, at one
// moment; writes go on meanwhile. It changes nothing.
func (m *Master) Verify(ctx context.Context) (VerifyReport, error) {
	if err := m.ready(ctx); err != nil {
		return VerifyReport{}, err
	}
	v, err := m.w.view(ctx)
	if err != nil {
		return VerifyReport{}, err
	}
	return verify(ctx, v, m.cfg.Hash)
}

// Verify reads the whole store and holds every item against the tree, at one
// moment; the stream goes on meanwhile. It changes nothing.
func (f *Follower) Verify(ctx context.Context) (VerifyReport, error) {
	if err := f.ready(ctx); err != nil {
		return VerifyReport{}, err
	}
	v, err := f.view(ctx)
	if err != nil {
		return VerifyReport{}, err
	}
	return verify(ctx, v, f.cfg.Hash)
}

// maxBadKeys bounds the keys that a report names.
const maxBadKeys = 1000

// verify walks the store's items and the tree's side by side. It closes v.
func verify(ctx context.Context, v view, hash merkle.Hasher) (VerifyReport, error) {
	defer v.store.Close()
	began := time.Now()
	rep := VerifyReport{Tree: v.tree.Summary().String()}
	bad := func(key []byte, what string) {
		rep.Bad++
		if len(rep.Keys) < maxBadKeys {
			rep.Keys = append(rep.Keys, BadKey{bytes.Clone(key), what})
		}
	}
	next, stop := iter.Pull2(func(yield func([]byte, uint64) bool) {
		v.tree.Ascend(nil, nil, yield)
	})
	defer stop()
	want, wantHash, more := next()
	var found merkle.Summary
	err := v.store.Ascend(nil, nil, func(key, value []byte) bool {
		for more && bytes.Compare(want, key) < 0 {
			bad(want, "missing")
			want, wantHash, more = next()
		}
		h := hash.Hash(key, value)
		found = found.Add(merkle.Summary{Count: 1, Sum: h})
		switch {
		case !more || !bytes.Equal(want, key):
			bad(key, "extra")
		case h != wantHash:
			bad(key, "changed")
			fallthrough
		default:
			want, wantHash, more = next()
		}
		return found.Count%1024 != 0 || ctx.Err() == nil
	})
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return VerifyReport{}, err
	}
	for ; more; want, wantHash, more = next() {
		bad(want, "missing")
	}
	rep.Items, rep.Store = found.Count, found.String()
	rep.OK = rep.Bad == 0
	rep.Took = time.Since(began)
	return rep, nil
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
