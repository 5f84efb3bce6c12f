package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// Bounds of a comparison on the master's side.
const (
	chunkWindow   = 2       // chunks sent and not yet acknowledged: one under way, one to follow
	chunkSmallest = 8 << 10 // bytes of a chunk, which follow the measured link
	chunkFirst    = 16 << 10
	chunkLargest  = 1 << 20
	chunkItems    = 20_000
	chunkTook     = 50 * time.Millisecond // what a chunk should take, so that the window takes twice that
	// maxFindings bounds what was found and not sent; beyond it the comparison
	// waits for the repair.
	maxFindings  = 50_000
	findingBytes = 4 << 20 // of keys
	// maxInbox bounds the comparison messages that wait meanwhile: acks of all
	// that is under way, and as many pieces of the follower's next level.
	maxInbox = 2 * diff.DefaultWindow
	// syncPatience is how long a comparison may make no progress before the
	// follower is dropped, so that it cannot hold a place for ever.
	syncPatience = 2 * time.Minute
)

// A serveSync is the master's side of one comparison and repair.
//
// What differs is found between the two snapshots at one offset h. What is
// sent about it is the master's state at the position p where it is sent (R2):
// each chunk is read from a view of its own and queued right behind the
// commits up to that view. A key whose item at p is not the one that was
// compared at h was touched in between, and the stream has told better.
type serveSync struct {
	s    *session
	id   uint64
	dry  bool
	slot bool
	want func(view) error // what the view that was asked for is for

	started bool
	opening diff.Message     // that came with the ask, if any did
	asked   uint64           // what the follower had acknowledged then
	equal   bool             // what it held was what it should hold
	snap    *merkle.Snapshot // at h
	diff    *diff.Session
	inbox   []diff.Message
	outbox  []diff.Message // what was said and not queued: for want of room
	todo    []diff.Finding // found and not sent; of the first, what lies before from is sent
	waiting int            // bytes of keys in todo
	from    []byte

	seq, acked uint64
	sent       [chunkWindow]time.Time // when, by seq
	lastAck    time.Time
	size       int
	unsendable uint64
	done       bool
	progress   time.Time
}

// beginSync takes a follower's request. An earlier comparison is over: the
// follower runs one at a time.
func (s *session) beginSync(a syncAsk) error {
	s.stopSync()
	y := &serveSync{s: s, id: a.id, dry: a.dryRun, asked: s.last, size: chunkFirst, progress: time.Now()}
	if len(a.opening) > 0 {
		m, err := diff.Parse(a.opening)
		if _, ok := m.Opens(); err != nil || !ok {
			return protocolErrorf("a request for a comparison with what is no opening: %v", err)
		}
		y.opening = m
	}
	s.sync = y
	select {
	case s.m.slots <- struct{}{}:
		y.slot = true
	default:
		s.slotc = s.m.slots
		s.peer.send(frameSyncQueued, pair{a.id, uint64(s.m.cfg.MaxRepairs)}.append())
	}
	return nil
}

// stopSync drops the comparison, if there is one, and gives its place up.
func (s *session) stopSync() {
	if s.sync == nil {
		return
	}
	s.sync.giveUpSlot()
	s.sync, s.slotc = nil, nil
}

func (y *serveSync) giveUpSlot() {
	if y.slot {
		<-y.s.m.slots
		y.slot = false
	}
}

// pushSync does what can be done for the comparison without waiting.
func (s *session) pushSync(ctx context.Context) error {
	y := s.sync
	if y == nil || !y.slot || s.viewing || s.barrier != nil || !s.peer.room() {
		return nil
	}
	ask := func(f func(view) error, sketch bool) {
		y.want = f
		s.askView(ctx, sketch)
	}
	if !y.started {
		y.started = true
		y.equal = y.wasEqual()
		ask(y.start, !y.equal)
		return nil
	}
	if err := y.stepInbox(); err != nil {
		return err
	}
	switch {
	case len(y.todo) > 0 && y.seq-y.acked < chunkWindow:
		if y.dry {
			y.sendKeys()
			notify(s.peer.drainedc) // there may be more
			return nil
		}
		ask(y.sendItems, false)
	case len(y.todo) == 0 && y.diff != nil && y.diff.Done() && len(y.inbox)+len(y.outbox) == 0 && y.acked == y.seq && !y.done:
		// What was not acknowledged may have been lost: the follower would take
		// silence for the word that we do not hold a key (R4).
		y.done = true
		ask(y.finish, false)
	}
	return nil
}

func (y *serveSync) gotView(v view) error {
	f := y.want
	y.want = nil
	if f == nil {
		// Asked for by a comparison that was replaced by this one.
		v.store.Close()
		return nil
	}
	return f(v)
}

// start takes the snapshot at h and queues the word for the follower to take
// its own at the same offset.
func (y *serveSync) start(v view) error {
	v.store.Close()
	y.snap = v.tree
	y.diff = y.s.m.making.compare(v)
	p := syncStart{y.id, v.pos, y.answers(v.pos.Offset)}
	if p.answered {
		y.inbox = append(y.inbox, y.opening)
	}
	body := p.append()
	y.s.barrier = &barrier{v.pos.Offset, func() { y.s.peer.send(frameSyncStart, body) }}
	return nil
}

// finish queues the word that everything found has been sent.
func (y *serveSync) finish(v view) error {
	v.store.Close()
	body := syncDone{id: y.id, pos: v.pos, unsendable: y.unsendable, left: y.diff.Left(), why: y.diff.Stats().Why}.append()
	y.s.barrier = &barrier{v.pos.Offset, func() {
		y.s.peer.send(frameSyncDone, body)
		y.giveUpSlot()
	}}
	return nil
}

func (y *serveSync) handle(f frame) error {
	switch f.typ {
	case frameCompare:
		c, err := parseCompare(f.body)
		if err != nil || c.id != y.id {
			return err
		}
		if y.diff == nil {
			return protocolErrorf("a comparison message before the comparison began")
		}
		m, err := diff.Parse(c.msg)
		if err != nil {
			return protocolErrorf("%v", err)
		}
		if len(y.inbox) == maxInbox {
			return protocolErrorf("comparison messages beyond the window")
		}
		y.inbox = append(y.inbox, m)
		y.progress = time.Now()
	case frameChunkAck:
		a, err := parsePair("chunk ack", f.body)
		if err != nil || a.id != y.id {
			return err
		}
		return y.chunkAcked(a.n)
	case frameSyncResult:
		r, err := parseSyncResult(f.body)
		if err != nil || r.id != y.id {
			return err
		}
		y.s.m.cfg.Logger.Info("comparison ended", "follower", y.s.id, "outcome", r.outcome, "reason", r.reason)
		y.s.stopSync()
	}
	return nil
}

// stepInbox steps the comparison, unless so much was found already that the
// repair has to catch up first, or what it said still waits for room.
func (y *serveSync) stepInbox() error {
	for y.flush() && len(y.inbox) > 0 && !y.backlog() {
		m := y.inbox[0]
		y.inbox = y.inbox[1:]
		out, err := y.s.m.making.step(y.diff, m)
		if err != nil {
			return protocolErrorf("%v", err)
		}
		y.outbox = append(y.outbox, out...)
		y.findings()
	}
	if y.diff != nil {
		y.findings()
	}
	return nil
}

// flush queues what the comparison said while there is room, so that commits,
// which are queued first, have at most that before them (R1). It reports whether
// that was all and there still is room.
func (y *serveSync) flush() bool {
	for y.s.peer.room() {
		if len(y.outbox) == 0 {
			y.outbox = nil
			return true
		}
		y.s.peer.send(frameCompare, compare{y.id, y.outbox[0].Append(nil)}.append())
		y.outbox[0] = diff.Message{}
		y.outbox = y.outbox[1:]
	}
	return false
}

// findings takes over what the comparison has found.
func (y *serveSync) findings() {
	for !y.backlog() {
		more := y.diff.Findings()
		if len(more) == 0 {
			return
		}
		for _, f := range more {
			y.waiting += size(f)
			y.todo = append(y.todo, f)
		}
	}
}

// backlog reports whether so much was found already that the repair has to
// catch up first.
func (y *serveSync) backlog() bool {
	return len(y.todo) >= maxFindings || y.waiting >= findingBytes
}

// pop drops the first finding: it is dealt with.
func (y *serveSync) pop() {
	y.waiting -= size(y.todo[0])
	y.todo[0] = diff.Finding{}
	y.todo, y.from = y.todo[1:], nil
}

// size is what a finding counts while it waits.
func size(f diff.Finding) int { return len(f.Key) + len(f.Lo) + len(f.Hi) }

func (y *serveSync) chunkAcked(seq uint64) error {
	if seq != y.acked+1 || seq > y.seq {
		return protocolErrorf("chunk %d acknowledged, %d of %d were", seq, y.acked, y.seq)
	}
	now := time.Now()
	began := y.sent[seq%chunkWindow]
	if y.lastAck.After(began) {
		began = y.lastAck // it waited behind the one before
	}
	switch took := now.Sub(began); {
	case took < chunkTook/2:
		y.size = min(2*y.size, chunkLargest)
	case took > chunkTook*3/2:
		y.size = max(y.size/2, chunkSmallest)
	}
	y.acked, y.lastAck, y.progress = seq, now, now
	return nil
}

// patience returns an error when the follower lets the comparison hang.
func (y *serveSync) patience(now time.Time) error {
	if y.slot && !y.done && now.Sub(y.progress) > syncPatience {
		return &protocolError{CodeSilent, fmt.Sprintf("the comparison made no progress for %v", syncPatience)}
	}
	if !y.slot {
		y.progress = now
	}
	return nil
}

// sendItems builds a chunk of the master's state in v and queues it at v's
// position.
func (y *serveSync) sendItems(v view) error {
	c := newChunkWriter(y.size)
	err := y.fill(c, v)
	v.store.Close()
	if err != nil {
		return err
	}
	if c.items == 0 {
		return nil // everything was touched meanwhile
	}
	y.seq++
	seq, body := y.seq, c.body(y.id, y.seq, v.pos.Offset, 2)
	y.s.barrier = &barrier{v.pos.Offset, func() {
		y.sent[seq%chunkWindow] = time.Now()
		y.s.peer.send(frameItems, body)
	}}
	return nil
}

func (y *serveSync) fill(c *chunkWriter, v view) error {
	for len(y.todo) > 0 && c.w.Len() < y.size && c.items < chunkItems {
		f := y.todo[0]
		if f.Key == nil {
			more, err := y.fillRange(c, v, f)
			if err != nil {
				return err
			}
			if more {
				continue
			}
		} else if h, ok := v.tree.Get(f.Key); ok && h == f.Hash {
			value, err := v.store.Get(f.Key)
			if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrCorrupt) {
				return err
			}
			y.put(c, f.Key, value, h, err == nil)
		}
		y.pop()
	}
	return nil
}

// put adds an item to a chunk if the store holds what the tree says, and the
// word that it cannot be sent otherwise (R8).
func (y *serveSync) put(c *chunkWriter, key, value []byte, hash uint64, there bool) {
	if there && y.s.m.cfg.Hash.Hash(key, value) == hash {
		c.item(key, value)
		return
	}
	c.unsendable(key)
	y.unsendable++
	bad := mismatch{key: bytes.Clone(key), want: hash, inTree: true, inStore: there}
	if there {
		bad.have = y.s.m.cfg.Hash.Hash(key, value)
	}
	y.s.m.damaged([]mismatch{bad}, true)
}

// Bounds of what is looked at of a range in one go: items, and bytes of keys,
// with which a chunk may end up beyond its size if the store has lost them all.
const (
	rangeBatch = 4096
	rangeBytes = 256 << 10
)

// fillRange adds the next items of a range that the follower holds nothing of.
// It goes by the tree and holds the store against it, so that a key the store
// has lost is told, not skipped. more says that the range has not ended.
func (y *serveSync) fillRange(c *chunkWriter, v view, f diff.Finding) (more bool, err error) {
	lo := f.Lo
	if y.from != nil {
		lo = y.from
	}
	var keys [][]byte
	var hashes []uint64
	var end []byte
	slab := make([]byte, 0, rangeBatch*24)
	v.tree.Ascend(lo, f.Hi, func(key []byte, hash uint64) bool {
		if len(keys) == rangeBatch || len(slab) > rangeBytes {
			end = bytes.Clone(key)
			return false
		}
		slab = append(slab, key...)
		keys = append(keys, slab[len(slab)-len(key):len(slab):len(slab)])
		hashes = append(hashes, hash)
		return true
	})
	hi := f.Hi
	if end != nil {
		hi = end
	}
	i, full := 0, false
	err = v.store.Ascend(lo, hi, func(key, value []byte) bool {
		for i < len(keys) && bytes.Compare(keys[i], key) < 0 {
			y.putAlone(c, v, keys[i], hashes[i])
			i++
		}
		if full = c.w.Len() >= y.size || c.items >= chunkItems; full {
			return false
		}
		if i < len(keys) && bytes.Equal(keys[i], key) {
			y.put(c, key, value, hashes[i], true)
			i++
		}
		return true
	})
	if err != nil && !errors.Is(err, store.ErrCorrupt) {
		return false, fmt.Errorf("read a range to send: %w", err)
	}
	if err != nil {
		// What the damage hides of these is told key by key (R8).
		i += y.fillOneByOne(c, v, keys[i:], hashes[i:])
		full = true
	}
	if full && i < len(keys) {
		y.from = bytes.Clone(keys[i])
		return true, nil
	}
	for ; i < len(keys); i++ {
		y.putAlone(c, v, keys[i], hashes[i])
	}
	y.from = end
	return end != nil, nil
}

// fillOneByOne adds keys that an iteration could not reach, as far as the chunk
// has room, and returns how many.
func (y *serveSync) fillOneByOne(c *chunkWriter, v view, keys [][]byte, hashes []uint64) int {
	for i, key := range keys {
		if i > 0 && (c.w.Len() >= y.size || c.items >= chunkItems) {
			return i
		}
		y.putAlone(c, v, key, hashes[i])
	}
	return len(keys)
}

// putAlone adds a key that an iteration of the store did not meet.
func (y *serveSync) putAlone(c *chunkWriter, v view, key []byte, hash uint64) {
	value, err := v.store.Get(key)
	y.put(c, key, value, hash, err == nil)
}

// sendKeys queues a chunk of the keys found, for a comparison that is to
// change nothing.
func (y *serveSync) sendKeys() {
	c := newChunkWriter(y.size)
	for len(y.todo) > 0 && c.w.Len() < y.size && c.items < chunkItems {
		f := y.todo[0]
		if f.Key != nil {
			c.key(f.Key)
			y.pop()
			continue
		}
		lo := f.Lo
		if y.from != nil {
			lo = y.from
		}
		var next []byte
		y.snap.Ascend(lo, f.Hi, func(key []byte, _ uint64) bool {
			if c.w.Len() >= y.size || c.items >= chunkItems {
				next = bytes.Clone(key)
				return false
			}
			c.key(key)
			return true
		})
		if y.from = next; next == nil {
			y.pop()
		}
	}
	y.seq++
	y.sent[y.seq%chunkWindow] = time.Now()
	y.s.peer.send(frameKeys, c.body(y.id, y.seq, 0, 1))
}

// position is where the master stands, for messages.
func (m *Master) position() stream.Position { return m.w.state.Load().pos }
