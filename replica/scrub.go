package replica

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
)

// Bounds of a scrub.
const (
	// scrubChunk is how many items are read in one view, scrubKeys how many
	// bytes of keys at most. Every view makes the next touch of each leaf copy
	// it, so few large chunks cost a busy replica less than many small ones.
	scrubChunk = 50_000
	scrubKeys  = 2 << 20
	// scrubBytes is how many bytes of values are read in one view at most,
	// and an item, so that the view is soon closed.
	scrubBytes = 64 << 20
	// scrubPause is the least time between two chunks, scrubRest that between
	// two passes.
	scrubPause = 5 * time.Millisecond
	scrubRest  = time.Minute
	// maxBadKeys bounds the keys that a report names.
	maxBadKeys = 1000
)

// A mismatch is a key whose stored item is not the one that the tree has.
type mismatch struct {
	key        []byte
	want, have uint64 // item hashes; meaningless where there is none
	inTree     bool
	inStore    bool
	unreadable bool // the store says that it is damaged there
}

func (m mismatch) what() string {
	switch {
	case m.unreadable:
		return "unreadable"
	case !m.inStore:
		return "missing"
	case !m.inTree:
		return "extra"
	}
	return "changed"
}

// A passed is what one chunk of a scrub has come to.
type passed struct {
	found merkle.Summary // of the items read
	bad   []mismatch
	next  []byte // where the next chunk begins; nil at the end
	bytes int    // of the items read
	// rank is how many of the tree's keys lie before next, of total.
	rank, total uint64
}

// scrubItems reads the store's items from lo on and holds them against the
// tree's, up to max of the tree's. It goes by the tree, so that a store that
// has lost keys, or whose iterator ends early, is seen through. It keeps the
// view open.
func scrubItems(v view, hash merkle.Hasher, lo []byte, max int) (p passed, err error) {
	var keys [][]byte
	var hashes []uint64
	var slab []byte
	v.tree.Ascend(lo, nil, func(key []byte, h uint64) bool {
		if len(keys) == max || len(slab) > scrubKeys {
			p.next = bytes.Clone(key)
			return false
		}
		slab = append(slab, key...)
		keys = append(keys, slab[len(slab)-len(key):len(slab):len(slab)])
		hashes = append(hashes, h)
		return true
	})
	i, read, size := 0, 0, 0
	missing := func() {
		p.bad = append(p.bad, mismatch{key: keys[i], want: hashes[i], inTree: true})
		i++
	}
	err = v.store.Ascend(lo, p.next, func(key, value []byte) bool {
		for i < len(keys) && bytes.Compare(keys[i], key) < 0 {
			missing()
		}
		h := hash.Hash(key, value)
		p.found = p.found.Add(merkle.Summary{Count: 1, Sum: h})
		switch {
		case i == len(keys) || !bytes.Equal(keys[i], key):
			p.bad = append(p.bad, mismatch{key: bytes.Clone(key), have: h, inStore: true})
		case hashes[i] != h:
			p.bad = append(p.bad, mismatch{key: keys[i], want: hashes[i], have: h, inTree: true, inStore: true})
			i++
		default:
			i++
		}
		// Many keys that the tree knows nothing of end the chunk early.
		size += len(value)
		p.bytes += len(key) + len(value)
		if read++; read == 2*max || size > scrubBytes {
			p.next = append(bytes.Clone(key), 0)
			return false
		}
		return true
	})
	if errors.Is(err, store.ErrCorrupt) {
		// What lies behind the damage is looked at key by key.
		err = p.oneByOne(v, hash, keys[i:], hashes[i:])
		return p, err
	}
	if err != nil {
		return passed{}, err
	}
	for i < len(keys) && (p.next == nil || bytes.Compare(keys[i], p.next) < 0) {
		missing()
	}
	return p, nil
}

// oneByOne adds what the store has for keys that an iteration could not reach.
func (p *passed) oneByOne(v view, hash merkle.Hasher, keys [][]byte, hashes []uint64) error {
	for i, key := range keys {
		value, err := v.store.Get(key)
		bad, err := compareItem(v.tree, hash, key, value, err)
		switch {
		case err != nil:
			return err
		case bad != nil:
			p.bad = append(p.bad, *bad)
		default:
			p.found = p.found.Add(merkle.Summary{Count: 1, Sum: hashes[i]})
		}
	}
	return nil
}

func newScrubber(t *liveTree, share float64, view func(context.Context) (view, error), found func(context.Context, []mismatch)) *scrubber {
	return &scrubber{tree: t, share: share, view: view, found: found, kickc: make(chan struct{}, 1)}
}

// A scrubber re-reads a store and holds it against the tree: in the background
// at a share of a core, and on demand at full speed. What it finds goes to the
// replica's own goroutine.
type scrubber struct {
	tree  *liveTree
	share float64 // of a core, for run
	view  func(context.Context) (view, error)
	found func(context.Context, []mismatch) // called for each chunk that has any
	kickc chan struct{}                     // begin the next pass now; capacity one

	mu     sync.Mutex
	status ScrubStatus
}

// run scrubs again and again until ctx ends, at a share of one core.
func (s *scrubber) run(ctx context.Context) error {
	for {
		s.begin()
		_, err := s.pass(ctx, func(took time.Duration, p passed) {
			s.note(func(st *ScrubStatus) { st.advance(p, time.Now()) })
			sleep(ctx, max(scrubPause, time.Duration(float64(took)*(1/s.share-1))))
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.end(err)
		rest := time.NewTimer(scrubRest)
		select {
		case <-rest.C:
		case <-s.kickc:
			sleep(ctx, scrubPause) // damage is rarely alone
		case <-ctx.Done():
		}
		rest.Stop()
	}
}

func (s *scrubber) begin() {
	s.note(func(st *ScrubStatus) {
		st.Running, st.Share, st.Began, st.ETA = true, s.share, new(time.Now()), nil
		st.Items, st.Bytes, st.Progress = 0, 0, 0
	})
}

// advance notes what a chunk has come to.
func (st *ScrubStatus) advance(p passed, now time.Time) {
	st.Items += p.found.Count
	st.Bytes += uint64(p.bytes)
	st.Progress = 1
	if p.total > 0 && p.next != nil {
		st.Progress = min(1, float64(p.rank)/float64(p.total))
	}
	took := now.Sub(*st.Began)
	if s := took.Seconds(); s > 0 {
		st.ItemsPerSecond, st.BytesPerSecond = float64(st.Items)/s, float64(st.Bytes)/s
	}
	st.ETA = nil
	if st.Progress > 0 {
		st.ETA = new(st.Began.Add(time.Duration(float64(took) / st.Progress)))
	}
}

func (s *scrubber) end(err error) {
	s.note(func(st *ScrubStatus) {
		st.Running, st.ETA = false, nil
		if err != nil {
			st.Error = err.Error()
			return
		}
		now := time.Now()
		st.Error = ""
		st.Passes++
		st.Last, st.TookSeconds = &now, now.Sub(*st.Began).Seconds()
	})
}

// pass walks everything once, each chunk in a view of its own, and calls after
// for each.
func (s *scrubber) pass(ctx context.Context, after func(time.Duration, passed)) (tree merkle.Summary, err error) {
	bad := 0
	for lo := []byte(nil); ; {
		if ctx.Err() != nil {
			return tree, context.Cause(ctx)
		}
		began := time.Now()
		v, err := s.view(ctx)
		if err != nil {
			return tree, err
		}
		p, err := scrubItems(v, s.tree.hash, lo, scrubChunk)
		tree = v.tree.Summary()
		p.total, p.rank = tree.Count, v.tree.Rank(p.next)
		v.store.Close()
		if err != nil {
			return tree, err
		}
		if !s.tree.corrects {
			s.tree.noteGood(lo, p.next, p.bad)
		}
		if len(p.bad) > 0 {
			s.found(ctx, p.bad)
		}
		after(time.Since(began), p)
		bad += len(p.bad)
		if lo = p.next; lo == nil {
			if !s.tree.corrects {
				s.tree.noteAll(bad)
			}
			return tree, nil
		}
	}
}

// met counts keys that were found and not known before, and has the next pass
// begin if it was not a pass that found them.
func (s *scrubber) met(n int, reading bool) {
	s.note(func(st *ScrubStatus) { st.Found += uint64(n) })
	if reading {
		notify(s.kickc)
	}
}

func (s *scrubber) note(f func(*ScrubStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.status)
}

// namedBad bounds the bad keys that status names.
const namedBad = 20

func (s *scrubber) get() ScrubStatus {
	s.mu.Lock()
	st := s.status
	s.mu.Unlock()
	var n int
	n, st.More, st.Keys = s.tree.marks(namedBad)
	st.Bad = uint64(n)
	return st
}

// verify makes one pass at full speed and reports it.
func (s *scrubber) verify(ctx context.Context) (VerifyReport, error) {
	began := time.Now()
	var rep VerifyReport
	var found merkle.Summary
	tree, err := s.pass(ctx, func(_ time.Duration, p passed) {
		found = found.Add(p.found)
		rep.Bad += uint64(len(p.bad))
		for _, m := range p.bad {
			if len(rep.Keys) < maxBadKeys {
				rep.Keys = append(rep.Keys, BadKey{m.key, m.what()})
			}
		}
	})
	if err != nil {
		return VerifyReport{}, err
	}
	rep.Items, rep.Store, rep.Tree = found.Count, found.String(), tree.String()
	rep.OK = rep.Bad == 0
	rep.Took = time.Since(began)
	return rep, nil
}

// A scrubbed is what a scrub found, or a read, on its way to the follower's loop.
type scrubbed struct {
	bad     []mismatch
	reading bool
	donec   chan struct{} // closed when the loop has dealt with it
}

// tellScrub hands what a scrub found to the loop and waits until the tree says
// so: whoever reads the fingerprint after Verify reads the truth.
func (f *Follower) tellScrub(ctx context.Context, bad []mismatch) { f.tellBad(ctx, bad, false) }

// tellRead is tellScrub for a read.
func (f *Follower) tellRead(ctx context.Context, bad []mismatch) { f.tellBad(ctx, bad, true) }

func (f *Follower) tellBad(ctx context.Context, bad []mismatch, reading bool) {
	s := scrubbed{bad, reading, make(chan struct{})}
	select {
	case f.badc <- s:
	case <-f.endedc:
		return
	case <-ctx.Done():
		return
	}
	<-s.donec
}

// correct makes the follower's tree say what the store holds, where a scrub or
// a read found that it does not. From then on the copy's fingerprint tells the
// truth, and the repair follows from its being different; reads of these keys
// fail until then. A key that was written meanwhile is left alone.
func (f *Follower) correct(s scrubbed) error {
	v, err := f.st.View()
	if err != nil {
		return err
	}
	defer v.Close()
	var named []BadKey
	for _, m := range s.bad {
		if h, ok := f.tree.Get(m.key); ok != m.inTree || ok && h != m.want {
			continue
		}
		value, err := v.Get(m.key)
		switch {
		case err == nil && m.inStore && f.cfg.Hash.Hash(m.key, value) == m.have:
			f.tree.correct(m)
		case err != nil && !m.inStore && m.inTree:
			f.tree.correct(m)
		default:
			continue
		}
		named = append(named, BadKey{m.key, m.what()})
	}
	f.scrub.met(len(named), s.reading)
	if len(named) == 0 {
		return nil
	}
	f.cfg.Logger.Warn("the store does not hold keys as they were written", "keys", len(named), "first", named[0].What)
	if f.cfg.Observer.Damage != nil {
		f.cfg.Observer.Damage(named)
	}
	if err := f.write(&store.Txn{Meta: f.meta}); err != nil {
		return err
	}
	// What was changed behind the back no watcher has seen.
	f.feed.gap(f.meta.Position)
	f.publish()
	f.ack()
	if own := f.tree.Summary(); own != f.meta.Position.Fingerprint {
		f.noticeDrift(driftAt{f.meta.Position, own})
	}
	return nil
}
