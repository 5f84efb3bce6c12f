package replica_test

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A ledger is the truth that copies are held against: every commit that the
// master's store took, by epoch. It is filled from the transactions, before
// anybody can be told of them. Safe for concurrent use.
type ledger struct {
	mu     sync.Mutex
	epochs map[stream.Epoch]*history
	now    *history
}

// A history is one epoch's commits, and those of its predecessors up to where
// it began.
type history struct {
	epoch   stream.Epoch
	commits []commit // by offset-1
	keys    map[string][]version
}

type commit struct {
	ops []stream.Op
	sum merkle.Summary
}

// A version is what a key was from an offset on.
type version struct {
	offset uint64
	value  string
	there  bool
}

func newLedger() *ledger { return &ledger{epochs: map[stream.Epoch]*history{}} }

// record notes a transaction of the master's store.
func (l *ledger) record(tx *store.Txn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pos := tx.Meta.Position
	if l.now == nil || l.now.epoch != pos.Epoch {
		at := pos.Offset
		if tx.Log != nil {
			at = tx.Log.First - 1
		}
		l.begin(pos.Epoch, at)
	}
	if tx.Log == nil {
		return
	}
	d := stream.NewDecoder(slices.Clone(tx.Log.Body))
	for {
		var c stream.Commit // its ops are kept
		if !d.Next(&c) {
			break
		}
		l.now.add(c)
	}
}

// begin begins an epoch at an offset of the one before.
func (l *ledger) begin(e stream.Epoch, offset uint64) {
	h := &history{epoch: e, keys: map[string][]version{}}
	if l.now != nil {
		for i, c := range l.now.commits[:offset] {
			h.add(stream.Commit{Offset: uint64(i + 1), Fingerprint: c.sum, Ops: c.ops})
		}
	}
	l.epochs[e], l.now = h, h
}

func (h *history) add(c stream.Commit) {
	if c.Offset != uint64(len(h.commits)+1) {
		panic(fmt.Sprintf("L3: commit %d follows %d", c.Offset, len(h.commits)))
	}
	h.commits = append(h.commits, commit{c.Ops, c.Fingerprint})
	for _, op := range c.Ops {
		h.keys[string(op.Key)] = append(h.keys[string(op.Key)], version{c.Offset, string(op.Value), !op.Delete})
	}
}

// at returns what a key was after a commit.
func (h *history) at(key string, offset uint64) version {
	versions := h.keys[key]
	if i := sort.Search(len(versions), func(i int) bool { return versions[i].offset > offset }); i > 0 {
		return versions[i-1]
	}
	return version{}
}

// contents returns the dataset after the newest commit.
func (l *ledger) contents() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]string{}
	for key, versions := range l.now.keys {
		if v := versions[len(versions)-1]; v.there {
			all[key] = v.value
		}
	}
	return all
}

// A masterStore tells the ledger of what a master writes, and counts how often
// a session reads the log.
type masterStore struct {
	store.Store
	l     *ledger
	c     *counts
	fault storeFault
}

func (s *masterStore) Write(tx *store.Txn) error {
	before, after := s.fault.take()
	if before != nil {
		return before
	}
	if err := s.Store.Write(tx); err != nil {
		return err
	}
	s.l.record(tx)
	return after
}

// A storeFault makes one Write fail, with or without effect. The zero
// storeFault makes none fail. Safe for concurrent use.
type storeFault struct {
	mu            sync.Mutex
	before, after error
}

func (f *storeFault) set(before, after error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

func (f *storeFault) take() (before, after error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, after = f.before, f.after
	f.before, f.after = nil, nil
	return before, after
}

func (s *masterStore) View() (store.View, error) {
	v, err := s.Store.View()
	return &masterView{v, s.c}, err
}

type masterView struct {
	store.View
	c *counts
}

func (v *masterView) Log(from uint64, fn func(stream.Record) bool) error {
	var pcs [4]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	if f, _ := frames.Next(); strings.Contains(f.Function, "readLog") {
		v.c.add("log read behind the tail")
	}
	return v.View.Log(from, fn)
}

// A counts counts how often something happened. Safe for concurrent use.
type counts struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counts) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[what]++
}

func (c *counts) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(c.n)) {
		fmt.Fprintf(&b, "%s: %d\n", k, c.n[k])
	}
	return b.String()
}

// A copyStore is a follower's store that holds every transaction against the
// ledger, the moment it is written:
//
//   - one that moves the position holds exactly the commits in between, in
//     order and whole;
//   - a piece of a repair holds the master's state of the very position (R2),
//     and deletes nothing that the master holds there (R4);
//   - no key goes back in time within an epoch (R3): what it was, one after the
//     other, is a subsequence of what it was at the master;
//   - the position does not go back within an epoch, and the summary is that of
//     the data.
//
// What a test did to the copy behind its back is told by inject, and is no
// offence.
type copyStore struct {
	store.Store
	t  tester
	id string
	l  *ledger
	c  *counts

	fault storeFault

	mu      sync.Mutex
	items   map[string]string
	sum     merkle.Summary
	seen    map[string]int // by key: which of the master's versions it was last
	pos     stream.Position
	garbled bool // the fault changed commits of the transaction to come
	hidden  bool // something was injected that the follower cannot know of yet
}

func newCopyStore(t tester, st store.Store, id string, l *ledger, c *counts) *copyStore {
	return &copyStore{Store: st, t: t, id: id, l: l, c: c, items: map[string]string{}, seen: map[string]int{}}
}

func (s *copyStore) Write(tx *store.Txn) error {
	before, after := s.fault.take()
	if before != nil {
		return before
	}
	if err := s.Store.Write(tx); err != nil {
		return err
	}
	s.check(tx)
	return after
}

func (s *copyStore) check(tx *store.Txn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	pos := tx.Meta.Position
	h := s.l.epochs[pos.Epoch]
	if h == nil && !pos.IsZero() {
		s.t.Errorf("%s: stands in an epoch that no master had", s.id)
		return
	}
	s.checkPosition(h, pos)
	switch {
	case len(tx.Ops) == 0:
	case pos.Offset != s.pos.Offset && s.garbled:
		s.c.add("garbled transaction")
	case pos.Offset != s.pos.Offset:
		s.checkCommits(h, pos, tx.Ops)
	default:
		s.checkRepair(h, pos, tx.Ops)
	}
	s.apply(h, tx.Ops)
	if s.sum == tx.Meta.Summary {
		s.hidden = false
	} else if !s.hidden {
		s.t.Errorf("%s: at %d the summary says %v, the transactions add up to %v", s.id, pos.Offset, tx.Meta.Summary, s.sum)
	}
	s.pos, s.garbled = pos, false
}

func (s *copyStore) checkPosition(h *history, pos stream.Position) {
	if pos.Epoch != s.pos.Epoch {
		clear(s.seen)
		return
	}
	if pos.Offset < s.pos.Offset {
		s.t.Errorf("%s: the position went from %d to %d within an epoch", s.id, s.pos.Offset, pos.Offset)
	}
	if pos.Offset > 0 && h.commits[pos.Offset-1].sum != pos.Fingerprint {
		s.t.Errorf("%s: stands at %d with fingerprint %v, the commit carried %v", s.id, pos.Offset, pos.Fingerprint, h.commits[pos.Offset-1].sum)
	}
}

// checkCommits holds the ops of a transaction against the commits it stands
// for.
func (s *copyStore) checkCommits(h *history, pos stream.Position, ops []stream.Op) {
	var want []stream.Op
	for _, c := range h.commits[s.pos.Offset:pos.Offset] {
		want = append(want, c.ops...)
	}
	same := func(a, b stream.Op) bool {
		return string(a.Key) == string(b.Key) && a.Delete == b.Delete && string(a.Value) == string(b.Value)
	}
	if !slices.EqualFunc(want, ops, same) {
		s.t.Errorf("%s: from %d to %d it applied %d ops, which are not the %d of the commits", s.id, s.pos.Offset, pos.Offset, len(ops), len(want))
	}
}

// checkRepair holds a piece of a repair against the master's state at the
// position.
func (s *copyStore) checkRepair(h *history, pos stream.Position, ops []stream.Op) {
	s.c.add("chunk of a repair")
	for _, op := range ops {
		switch v := h.at(string(op.Key), pos.Offset); {
		case op.Delete && v.there:
			s.t.Errorf("R4: %s: at %d a repair deleted %q, which the master holds", s.id, pos.Offset, op.Key)
		case !op.Delete && (!v.there || v.value != string(op.Value)):
			s.t.Errorf("R2: %s: at %d a repair put %q = %.20q, the master has %.20q (%v)", s.id, pos.Offset, op.Key, op.Value, v.value, v.there)
		}
	}
}

// apply keeps track of what the copy holds, and looks for keys that go back in
// time.
func (s *copyStore) apply(h *history, ops []stream.Op) {
	before := map[string]version{}
	for _, op := range ops {
		key := string(op.Key)
		if _, ok := before[key]; !ok {
			value, there := s.items[key]
			before[key] = version{value: value, there: there}
		}
		s.set(key, version{value: string(op.Value), there: !op.Delete})
	}
	for key, was := range before {
		value, there := s.items[key]
		if now := (version{value: value, there: there}); now != was && !s.garbled {
			s.checkTime(h, key, now)
		}
	}
}

func (s *copyStore) checkTime(h *history, key string, now version) {
	versions := h.keys[key]
	for i := s.seen[key]; i <= len(versions); i++ {
		v := version{} // before the first
		if i > 0 {
			v = versions[i-1]
		}
		if v.there == now.there && (!v.there || v.value == now.value) {
			s.seen[key] = i
			return
		}
	}
	s.t.Errorf("R3: %s: %q went back in time, to %.20q (%v)", s.id, key, now.value, now.there)
}

// set changes what the copy is known to hold.
func (s *copyStore) set(key string, v version) {
	sum := func(value string) merkle.Summary {
		return merkle.Summary{Count: 1, Sum: merkle.XXH64().Hash([]byte(key), []byte(value))}
	}
	if old, ok := s.items[key]; ok {
		s.sum = s.sum.Sub(sum(old))
		delete(s.items, key)
	}
	if v.there {
		s.items[key] = v.value
		s.sum = s.sum.Add(sum(v.value))
	}
}

// garble is told that the fault changed the next transaction.
func (s *copyStore) garble() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.garbled = true
}

// inject is told of an item that was changed behind the copy's back.
func (s *copyStore) inject(key string, v version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(key, v)
	s.hidden = true
}

// reopen is told that the store was opened again, as it was some transactions
// ago if it lost any.
func (s *copyStore) reopen(st store.Store, lost int) {
	items := contents(s.t, st)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Store, s.garbled, s.hidden = st, false, false
	if lost == 0 {
		return
	}
	for key := range s.items {
		s.set(key, version{})
	}
	for key, value := range items {
		s.set(key, version{value: value, there: true})
	}
	clear(s.seen)
	s.pos = stream.Position{}
	if v, err := st.View(); err == nil {
		if m, err := v.Meta(); err == nil {
			s.pos = m.Position
		}
		v.Close()
	}
}
