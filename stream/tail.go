package stream

import (
	"fmt"
	"sort"
	"sync"
)

// A Tail keeps the newest records of a stream in memory: one writer appends,
// any number of readers follow with a cursor of their own, an offset. When the
// records come to more than the bound the oldest go, whoever still wants them;
// the newest always stays. So a Tail holds at most its bound and one record.
//
// A Tail is safe for concurrent use. No method waits for a reader.
type Tail struct {
	max int

	mu struct {
		sync.Mutex
		// ring holds n records from index head on, wrapping around; its length
		// is a power of two. They follow each other without gaps, and next is
		// the offset after the last one.
		ring    []Record
		head, n int
		next    uint64
		bytes   int           // cost of all n records
		changed chan struct{} // closed and dropped by a change; nil: nobody asked
	}
}

// recordBytes is what a record costs beside its body: its place in the ring,
// of which up to half is empty.
const recordBytes = 2 * 56

// cost returns what a record counts towards the bound. The capacity of the
// body counts, since that is what it keeps from being freed.
func cost(r Record) int { return cap(r.Body) + recordBytes }

// NewTail returns an empty Tail that keeps records of up to maxBytes, counting
// each as its body and 112 bytes. The first record must start at offset 1; see
// Reset for another start.
func NewTail(maxBytes int) *Tail {
	t := &Tail{max: maxBytes}
	t.mu.next = 1
	return t
}

// Append adds the record that follows the newest one. The body is the Tail's
// and its readers' from now on: nobody changes it again. It panics on a gap.
func (t *Tail) Append(r Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := &t.mu
	if r.First != m.next || r.Last < r.First {
		panic(fmt.Sprintf("BUG: stream: append of %d to %d to a tail that goes on at %d", r.First, r.Last, m.next))
	}
	for m.n > 0 && m.bytes+cost(r) > t.max {
		t.drop()
	}
	if m.n == len(m.ring) {
		t.grow()
	}
	m.ring[(m.head+m.n)&(len(m.ring)-1)] = r
	m.n++
	m.next = r.Last + 1
	m.bytes += cost(r)
	t.wake()
}

// drop removes the oldest record. The caller holds the lock.
func (t *Tail) drop() {
	m := &t.mu
	m.bytes -= cost(m.ring[m.head])
	m.ring[m.head] = Record{} // lets go of the body
	m.head = (m.head + 1) & (len(m.ring) - 1)
	m.n--
}

// grow doubles the ring. The caller holds the lock.
func (t *Tail) grow() {
	m := &t.mu
	ring := make([]Record, max(8, 2*len(m.ring)))
	for i := range m.n {
		ring[i] = *t.at(i)
	}
	m.ring, m.head = ring, 0
}

// at returns the i-th record from the oldest. The caller holds the lock.
func (t *Tail) at(i int) *Record {
	return &t.mu.ring[(t.mu.head+i)&(len(t.mu.ring)-1)]
}

// wake tells those that wait of a change. The caller holds the lock.
func (t *Tail) wake() {
	if t.mu.changed != nil {
		close(t.mu.changed)
		t.mu.changed = nil
	}
}

// Read returns the records that hold the commits from offset from on: at least
// one if there is any, and as many more as come to maxBytes of bodies together
// with it. The first one is cut so that it begins with from. Bodies are shared
// and not to be changed.
//
// Past the newest commit there is nothing: no records, true. If from is older
// than the oldest commit kept, the reader has fallen off the tail: ok is false
// and it must read the log.
func (t *Tail) Read(from uint64, maxBytes int) (recs []Record, ok bool) {
	recs, ok = t.read(from, maxBytes)
	if len(recs) == 0 {
		return nil, ok
	}
	// Cutting passes over the body, so it is done without the lock: records
	// in the ring are replaced, never changed.
	first, err := recs[0].From(from)
	if err != nil {
		panic("BUG: stream: a record in the tail is damaged: " + err.Error())
	}
	recs[0] = first
	return recs, true
}

// read is Read without the cut.
func (t *Tail) read(from uint64, maxBytes int) (recs []Record, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if from >= t.mu.next {
		return nil, true
	}
	if from < t.oldest() {
		return nil, false
	}
	i := sort.Search(t.mu.n, func(i int) bool { return t.at(i).Last >= from })
	end, bytes := i+1, len(t.at(i).Body)
	for end < t.mu.n && bytes+len(t.at(end).Body) <= maxBytes {
		bytes += len(t.at(end).Body)
		end++
	}
	recs = make([]Record, end-i)
	for k := range recs {
		recs[k] = *t.at(i + k)
	}
	return recs, true
}

// Changed returns a channel that is closed at the next Append or Reset. To
// wait for commits without missing one, take the channel first, then Read,
// and wait for the channel only if there was nothing.
func (t *Tail) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.changed == nil {
		t.mu.changed = make(chan struct{})
	}
	return t.mu.changed
}

// Reset empties the tail. The next record must start at offset next, which is
// not zero.
func (t *Tail) Reset(next uint64) {
	if next == 0 {
		panic("BUG: stream: reset of a tail to offset 0")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.ring, t.mu.head, t.mu.n, t.mu.bytes = nil, 0, 0, 0
	t.mu.next = next
	t.wake()
}

// Bounds returns the offsets of the oldest and the newest commit in the tail.
// In an empty tail the newest is the one before the next, and the oldest the
// next.
func (t *Tail) Bounds() (oldest, newest uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.oldest(), t.mu.next - 1
}

// oldest returns the offset of the oldest commit or, if there is none, of the
// next one. The caller holds the lock.
func (t *Tail) oldest() uint64 {
	if t.mu.n == 0 {
		return t.mu.next
	}
	return t.at(0).First
}
