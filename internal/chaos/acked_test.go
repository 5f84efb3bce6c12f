//go:build chaos

package chaos

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sdiff/sdiff/internal/control"
)

// A ledger knows every commit that was attempted on one dataset, what its
// writer was told, and where the commit was found later. Its commits are made
// so that a lost, torn, repeated or revived one shows:
//
//   - each puts the key of its writer, with its number: so it can be told from
//     all others;
//   - each puts or deletes all keys of one group: so the keys of a group always
//     hold values of the same commit, or none does;
//   - each value can be made again from the commit's number: so not a byte of it
//     goes unseen.
type ledger struct {
	seed uint64

	mu       sync.Mutex
	attempts [][]*attempt // by writer, then by number

	// Of the goroutine that checks.
	commits []*attempt // that were found: the first has offset 1
	epoch   string

	acked atomic.Int64 // commits that were acknowledged
}

// An attempt is one commit of a writer.
type attempt struct {
	commitID
	group  int
	keys   int  // of the group
	delete bool // delete the group instead of putting it
	size   int  // of each value of the group, bytes

	offset uint64 // that was acknowledged; 0 if none was
	epoch  string // likewise
	seen   uint64 // offset at which it was found; 0 if it was not
	sought bool   // it was looked for after a crash
	gone   bool   // and not found
}

// A commitID says which attempt it is.
type commitID struct{ writer, n uint32 }

func (id commitID) String() string { return fmt.Sprintf("commit %d of writer %d", id.n, id.writer) }

// sharedGroups is how many groups the writers share: few, so that they overwrite each
// other's.
const sharedGroups = 40

// fillGroups are groups of fillKeys keys of fillSize bytes each, which fill puts
// and no load touches: so a copy takes some time.
const (
	fillGroups = 6
	fillKeys   = 3000
	fillSize   = 400
)

func newLedger(seed uint64) *ledger { return &ledger{seed: seed} }

// next makes the next attempt of a writer. Values have up to size bytes.
func (l *ledger) next(writer int, r *rand.Rand, size int) *attempt {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.attempts) <= writer {
		l.attempts = append(l.attempts, nil)
	}
	g := r.IntN(sharedGroups)
	a := &attempt{
		commitID: commitID{uint32(writer), uint32(len(l.attempts[writer]))},
		group:    g, keys: 2 + g%7, delete: r.IntN(6) == 0, size: 8 + r.IntN(size),
	}
	l.attempts[writer] = append(l.attempts[writer], a)
	return a
}

// fill puts all keys of the groups that are there for their number.
func (l *ledger) fill(t testing.TB, p *process, writer int) {
	t.Helper()
	for g := range fillGroups {
		l.mu.Lock()
		for len(l.attempts) <= writer {
			l.attempts = append(l.attempts, nil)
		}
		a := &attempt{
			commitID: commitID{uint32(writer), uint32(len(l.attempts[writer]))},
			group:    sharedGroups + g, keys: fillKeys, size: fillSize,
		}
		l.attempts[writer] = append(l.attempts[writer], a)
		l.mu.Unlock()
		pos, err := p.Write(t.Context(), a.ops(l.seed))
		if err != nil {
			t.Fatalf("fill: %v\n%s", err, p.log)
		}
		a.offset, a.epoch = pos.Offset, pos.Epoch
		l.acked.Add(1)
	}
}

// ops returns the attempt's ops, in key order.
func (a *attempt) ops(seed uint64) []control.Op {
	ops := make([]control.Op, 0, a.keys+1)
	for i := range a.keys {
		op := control.Op{Key: fmt.Appendf(nil, "g%02d/%04d", a.group, i), Delete: a.delete}
		if !a.delete {
			op.Value = makeValue(seed, a.commitID, a.size)
		}
		ops = append(ops, op)
	}
	return append(ops, control.Op{Key: fmt.Appendf(nil, "writer%02d", a.writer), Value: makeValue(seed, a.commitID, 8)})
}

// makeValue makes the value of a commit: its number, and bytes that depend on that.
func makeValue(seed uint64, id commitID, size int) []byte {
	b := binary.BigEndian.AppendUint32(nil, id.writer)
	b = binary.BigEndian.AppendUint32(b, id.n)
	r := rand.New(rand.NewPCG(seed, uint64(id.writer)<<32|uint64(id.n)))
	for len(b) < size {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b[:size]
}

// parseValue returns the commit whose value it is, and whether it is one to the
// last byte.
func parseValue(seed uint64, v []byte) (commitID, bool) {
	if len(v) < 8 {
		return commitID{}, false
	}
	id := commitID{binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:])}
	return id, bytes.Equal(v, makeValue(seed, id, len(v)))
}

// A load is writers at work on one process.
type load struct {
	wg    sync.WaitGroup
	ended atomic.Bool
	acked atomic.Int64 // commits that were acknowledged
}

// start lets writers write, each one commit after the other, until end. The
// numbers of the writers begin with first. What a living process refuses fails
// the test.
func (l *ledger) start(t testing.TB, p *process, first, writers, size int) *load {
	ld := &load{}
	for i := range writers {
		w := first + i
		ld.wg.Go(func() {
			c := control.NewClient(p.dir)
			defer c.Close()
			l.mu.Lock()
			n := 0
			if w < len(l.attempts) {
				n = len(l.attempts[w])
			}
			l.mu.Unlock()
			r := rand.New(rand.NewPCG(l.seed, uint64(w)<<32|uint64(n)))
			for !ld.ended.Load() {
				a := l.next(w, r, size)
				pos, err := c.Write(t.Context(), a.ops(l.seed))
				switch {
				case err == nil:
					l.mu.Lock()
					a.offset, a.epoch = pos.Offset, pos.Epoch
					l.mu.Unlock()
					l.acked.Add(1)
					ld.acked.Add(1)
				case !ld.ended.Load():
					t.Errorf("%v was refused: %v\n%s", a.commitID, err, p.log)
					return
				default:
					return // nobody knows whether it is there
				}
			}
		})
	}
	return ld
}

// underway waits until some commits were acknowledged: a crash before that
// proves little.
func (ld *load) underway(t testing.TB) {
	t.Helper()
	eventually(t, func() string {
		if n := ld.acked.Load(); n < 8 && !t.Failed() {
			return fmt.Sprintf("only %d commits were acknowledged", n)
		}
		return ""
	})
}

// end tells the writers that errors are to be expected from now on and that
// what they are told is all there is. The caller ends the process and then
// calls wait.
func (ld *load) end() { ld.ended.Store(true) }

func (ld *load) wait() { ld.wg.Wait() }

// attempt returns the attempt with a number, if there was one.
func (l *ledger) attempt(id commitID) *attempt {
	l.mu.Lock()
	defer l.mu.Unlock()
	if int(id.writer) >= len(l.attempts) || int(id.n) >= len(l.attempts[id.writer]) {
		return nil
	}
	return l.attempts[id.writer][id.n]
}

// all returns all attempts, in no order.
func (l *ledger) all() []*attempt {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Concat(l.attempts...)
}

// A finding is what a check found after a crash.
type finding struct {
	head    uint64
	acked   int // acknowledged commits that were looked for
	lost    int // of these, not there; always 0 unless loss is allowed
	unacked int // commits that are there though nobody was told
}

// check holds what a master has after a crash against the ledger: its log, its
// items and its fingerprint. No writer may be at work. With mayLose the master
// may have lost the newest commits, all from some offset on, and may have begun
// a new epoch.
func (l *ledger) check(t testing.TB, p *process, mayLose bool) finding {
	t.Helper()
	s, err := p.Status(t.Context())
	if err != nil {
		t.Fatalf("status: %v\n%s", err, p.log)
	}
	if l.epoch != "" && l.epoch != s.Epoch && !mayLose {
		t.Fatalf("epoch %s before, %s after the crash, though nothing may be lost", l.epoch, s.Epoch)
	}
	l.epoch = s.Epoch
	from := uint64(len(l.commits)) + 1
	if mayLose {
		from, l.commits = 1, nil
	}
	l.readLog(t, p, from, s.Offset)
	f := l.settle(t, s.Offset, mayLose)
	l.checkItems(t, p)
	v, err := p.Verify(t.Context())
	if err != nil || !v.OK || v.Store != s.Fingerprint {
		t.Fatalf("verify: %+v, %v; status says %s\n%s", v, err, s.Fingerprint, p.log)
	}
	return f
}

// readLog reads the commits from an offset to head, which have to be there one
// after the other, and each once.
func (l *ledger) readLog(t testing.TB, p *process, from, head uint64) {
	t.Helper()
	if from > head {
		if from > head+1 {
			t.Fatalf("the master is at offset %d, but has been at %d", head, from-1)
		}
		return
	}
	next := from
	var ops []control.Op
	for c, err := range p.Watch(t.Context(), control.Watch{From: from}) {
		if err != nil {
			t.Fatalf("watch from %d: %v\n%s", from, err, p.log)
		}
		if c.Gap || c.Repair || c.Offset != next {
			t.Fatalf("watch: %+v where commit %d should come: a hole in the log", c, next)
		}
		ops = append(ops, control.Op{Key: c.Key, Value: c.Value, Delete: c.Delete})
		if !c.Last {
			continue
		}
		l.found(t, next, ops)
		next, ops = next+1, nil
		if next > head {
			return
		}
	}
	t.Fatalf("watch ended at offset %d of %d", next-1, head)
}

// found notes that a commit with these ops has an offset.
func (l *ledger) found(t testing.TB, offset uint64, ops []control.Op) {
	t.Helper()
	id, ok := parseValue(l.seed, ops[len(ops)-1].Value)
	a := l.attempt(id)
	if !ok || a == nil {
		t.Fatalf("offset %d is no commit that anyone attempted", offset)
	}
	same := func(x, y control.Op) bool {
		return bytes.Equal(x.Key, y.Key) && x.Delete == y.Delete && bytes.Equal(x.Value, y.Value)
	}
	switch {
	case !slices.EqualFunc(ops, a.ops(l.seed), same):
		t.Fatalf("offset %d: %v is torn: it has %d ops, or others than it was written with", offset, id, len(ops))
	case a.gone:
		t.Fatalf("offset %d: %v was not there after a crash and came back", offset, id)
	case a.seen != 0 && a.seen != offset:
		t.Fatalf("%v has the offsets %d and %d: it took effect twice", id, a.seen, offset)
	case a.offset != 0 && a.offset != offset:
		t.Fatalf("%v was acknowledged at offset %d and is at %d", id, a.offset, offset)
	}
	a.seen = offset
	l.commits = append(l.commits, a)
}

// settle counts what became of the attempts, now that the whole log was read,
// and fails the test for what must not be.
func (l *ledger) settle(t testing.TB, head uint64, mayLose bool) finding {
	t.Helper()
	f := finding{head: head}
	for _, a := range l.all() {
		if a.gone {
			continue
		}
		there := a.seen != 0 && a.seen <= head
		if !a.sought && a.offset != 0 {
			f.acked++
		}
		if !a.sought && a.offset == 0 && there {
			f.unacked++
		}
		if a.offset != 0 && !there {
			f.lost++
		}
		a.sought, a.gone = true, !there
		if a.gone && a.offset != 0 && (!mayLose || a.offset <= head) {
			t.Fatalf("LOST: %v was acknowledged at offset %d; the master is at %d", a.commitID, a.offset, head)
		}
	}
	return f
}

// checkItems holds all items against what the commits that were found make.
// It also looks at the groups by themselves, without the log.
func (l *ledger) checkItems(t testing.TB, p *process) {
	t.Helper()
	want := make(map[string]commitID)
	sizes := make(map[commitID]int)
	for _, a := range l.commits {
		for i := range a.keys {
			key := fmt.Sprintf("g%02d/%04d", a.group, i)
			if delete(want, key); !a.delete {
				want[key] = a.commitID
			}
		}
		want[fmt.Sprintf("writer%02d", a.writer)] = a.commitID
		sizes[a.commitID] = a.size
	}
	holds := make(map[string]commitID) // by group
	n := 0
	for item, err := range p.List(t.Context(), control.List{Values: true}) {
		if err != nil {
			t.Fatalf("list: %v\n%s", err, p.log)
		}
		n++
		key := string(item.Key)
		id, ok := parseValue(l.seed, item.Value)
		if !ok || want[key] != id || key[0] == 'g' && len(item.Value) != sizes[id] {
			t.Fatalf("%s holds the value of %v, whole: %v; by the log it is that of %v", key, id, ok, want[key])
		}
		if _, there := want[key]; !there {
			t.Fatalf("%s is there; by the log it is not", key)
		}
		if key[0] == 'g' {
			if before, ok := holds[key[:3]]; ok && before != id {
				t.Fatalf("TORN: group %s holds values of %v and %v", key[:3], before, id)
			}
			holds[key[:3]] = id
		}
	}
	if n != len(want) {
		t.Fatalf("there are %d keys; by the log there are %d", n, len(want))
	}
}
