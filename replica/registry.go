package replica

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A registry is what a master knows of its followers, connected or not. Those
// that ever connected are kept in the store until forgotten. It is safe for
// concurrent use; each session writes its own entry only.
type registry struct {
	max int

	mu      sync.Mutex
	byID    map[string]*entry
	evicted []string            // whose records are still in the store
	news    map[string]struct{} // whose coming or going is not in the store
	newsc   chan struct{}       // there are some; capacity one
}

type entry struct {
	FollowerStatus
	epoch   stream.Epoch
	session *session // nil while not connected
	dirty   bool     // the store remembers something else
}

func newRegistry(max int) *registry {
	return &registry{max: max, byID: make(map[string]*entry), news: map[string]struct{}{}, newsc: make(chan struct{}, 1)}
}

const followerRecord = "follower/"

// maxAddress bounds the address in a record, in bytes.
const maxAddress = 200

// load reads the followers that the store remembers. Those that cannot be read
// are left out, and the error then wraps store.ErrCorrupt: a follower that comes
// back is remembered anew.
func (r *registry) load(v store.View) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var bad error
	err := v.Records(followerRecord, func(name string, value []byte) bool {
		e, err := parseEntry(strings.TrimPrefix(name, followerRecord), value)
		if err != nil {
			bad = fmt.Errorf("%w: record %s: %w", store.ErrCorrupt, name, err)
			return true
		}
		r.byID[e.ID] = e
		return true
	})
	return cmp.Or(err, bad)
}

// connect notes that a follower's session begins. It refuses a second one of
// the same id and one too many.
func (r *registry) connect(h hello, w welcome, s *session, addr string, now time.Time) *goodbye {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byID[h.id]
	if e != nil && e.session != nil {
		return &goodbye{CodeDuplicate, fmt.Sprintf("a follower with the id %q is connected from %s: give each follower an id of its own", h.id, e.Address)}
	}
	connected := 0
	for _, e := range r.byID {
		if e.session != nil {
			connected++
		}
	}
	if connected >= r.max {
		return &goodbye{CodeFull, fmt.Sprintf("%d followers are connected, which is the limit", connected)}
	}
	if e == nil {
		if len(r.byID) >= maxKnown && !r.evict() {
			return &goodbye{CodeFull, "too many followers are known: forget some"}
		}
		e = &entry{FollowerStatus: FollowerStatus{ID: h.id}}
		r.byID[h.id] = e
	}
	e.session, e.epoch = s, h.pos.Epoch
	e.Connected, e.Address, e.Durable = true, addr, h.durable
	// What a hello claims counts only where the log confirms it.
	e.Acked, e.Complete, e.InSync = h.pos.Offset, h.complete && w.resume, nil
	e.dirty = true
	e.State, e.Since, e.Why, e.LastContact = Connecting, now, "", now
	return nil
}

// maxKnown bounds the followers remembered; beyond it the one not seen for the
// longest makes room.
const maxKnown = 10_000

func (r *registry) evict() bool {
	var oldest *entry
	for _, e := range r.byID {
		if e.session == nil && (oldest == nil || e.LastContact.Before(oldest.LastContact)) {
			oldest = e
		}
	}
	if oldest != nil {
		delete(r.byID, oldest.ID)
		r.evicted = append(r.evicted, oldest.ID)
	}
	return oldest != nil
}

// update changes a follower's entry under the lock, and returns whether its
// state did.
func (r *registry) update(id string, f func(*entry)) (State, string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byID[id]
	if e == nil {
		return "", "", false
	}
	state, why := e.State, e.Why
	f(e)
	e.dirty = true
	if e.State != state {
		e.Since = time.Now()
	}
	return e.State, e.Why, e.State != state || e.Why != why
}

// note says that the store is to know what became of a follower.
func (r *registry) note(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.news[id] = struct{}{}
	notify(r.newsc)
}

// noted returns the entries of those noted as the store is to remember them, at
// most a group of them, and forgets the notes.
func (r *registry) noted() (recs []store.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.news {
		if len(recs) >= groupRecords {
			break
		}
		delete(r.news, id)
		if r.byID[id] != nil { // of those who made room andEvicted knows
			recs = append(recs, r.recordOf(id))
		}
	}
	return r.andEvicted(recs)
}

// unstored takes it back that the store remembers records.
func (r *registry) unstored(recs []store.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range recs {
		id := strings.TrimPrefix(rec.Name, followerRecord)
		if e := r.byID[id]; e != nil {
			e.dirty = true
		} else if len(r.evicted) < maxKnown {
			r.evicted = append(r.evicted, id)
		}
	}
}

// record returns the entry as the store remembers it.
func (r *registry) record(id string) []store.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.andEvicted([]store.Record{r.recordOf(id)})
}

// recordOf returns an entry's record. The caller holds mu.
func (r *registry) recordOf(id string) store.Record {
	rec := store.Record{Name: followerRecord + id}
	if e := r.byID[id]; e != nil {
		rec.Value = e.append()
		e.dirty = false
	}
	return rec
}

// andEvicted adds to records that those who made room are forgotten, up to a
// group. The caller holds mu.
func (r *registry) andEvicted(recs []store.Record) []store.Record {
	for len(r.evicted) > 0 && len(recs) < groupRecords {
		if id := r.evicted[0]; r.byID[id] == nil {
			recs = append(recs, store.Record{Name: followerRecord + id})
		}
		r.evicted = r.evicted[1:]
	}
	return recs
}

// dirty returns the entries that the store remembers otherwise, at most a group
// of them.
func (r *registry) dirty() (recs []store.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, e := range r.byID {
		if e.dirty && len(recs) < groupRecords {
			e.dirty = false
			recs = append(recs, store.Record{Name: followerRecord + id, Value: e.append()})
		}
	}
	return recs
}

// forget removes a follower that is not connected.
func (r *registry) forget(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byID[id]
	switch {
	case e == nil:
		return fmt.Errorf("follower %q: %w", id, ErrNotFound)
	case e.session != nil:
		return fmt.Errorf("follower %q: %w", id, ErrConnected)
	}
	delete(r.byID, id)
	return nil
}

// list returns all followers by id, with their lags behind the head.
func (r *registry) list(head uint64, c *clockwork, now time.Time) []FollowerStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]FollowerStatus, 0, len(r.byID))
	for _, e := range r.byID {
		s := e.FollowerStatus
		if s.Acked < head {
			s.LagCommits = head - s.Acked
			s.LagSeconds = c.behind(s.Acked, now).Seconds()
		}
		if e.session != nil {
			s.BytesIn, s.BytesOut = e.session.peer.conn.Traffic()
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b FollowerStatus) int { return strings.Compare(a.ID, b.ID) })
	return all
}

func (e *entry) append() []byte {
	w := wire.NewWriter(nil)
	w.Array(6)
	w.Bytes(e.epoch[:])
	w.Uint(e.Acked)
	w.Bool(e.Durable)
	w.Bool(e.Complete)
	w.Uint(millis(e.LastContact))
	w.String(clipTo(e.Address, maxAddress))
	return w.Out()
}

func parseEntry(id string, b []byte) (*entry, error) {
	r := newReader(b)
	e := &entry{FollowerStatus: FollowerStatus{ID: id, State: Disconnected, Why: "not seen since the master started"}}
	r.ArrayN(6)
	copy(e.epoch[:], r.BytesN(16))
	e.Acked = r.Uint()
	e.Durable, e.Complete = r.Bool(), r.Bool()
	e.LastContact = time.UnixMilli(int64(r.UintMax(1 << 50)))
	e.Since = e.LastContact
	e.Address = r.StringMax(maxAddress)
	if err := r.Close(); err != nil {
		return nil, err
	}
	return e, nil
}

// park notes that a follower was turned away until a person decides.
func (r *registry) park(h hello, addr, why string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byID[h.id]
	if e == nil {
		if len(r.byID) >= maxKnown && !r.evict() {
			return
		}
		e = &entry{FollowerStatus: FollowerStatus{ID: h.id}}
		r.byID[h.id] = e
	}
	if e.session != nil {
		return
	}
	if e.State != Parked {
		e.Since = now
	}
	e.epoch, e.Address, e.State, e.Why, e.LastContact = h.pos.Epoch, addr, Parked, why, now
	e.Acked, e.Complete, e.InSync = h.pos.Offset, h.complete, nil
}

// below returns the followers that had what the log began with at before, and
// lack something that is gone now that it begins at start: a thousand at most.
func (r *registry) below(start, before uint64) (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, e := range r.byID {
		if e.Acked >= before && e.Acked < start && len(ids) < maxBadKeys {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// acked counts the connected followers with a complete base that have
// acknowledged an offset.
func (r *registry) acked(offset uint64) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.byID {
		if e.session != nil && e.Complete && e.Acked >= offset {
			n++
		}
	}
	return n
}
