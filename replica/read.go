package replica

import (
	"bytes"
	"context"
	"iter"

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
