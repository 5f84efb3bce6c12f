package store

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/sdiff/sdiff/stream"
)

// A Memory is a Store that keeps everything in memory. It keeps every promise
// that a Store can keep until the process ends, and it can be told to break
// them: fail, lose and change things behind the replica's back, as disks,
// operators and bugs do.
//
// A Memory stands for one opening of a store. [Memory.Reopen] gives the next.
type Memory struct {
	disk *disk
}

// MemoryConfig configures a Memory. The zero MemoryConfig is the default.
type MemoryConfig struct {
	// NoSync makes a store that does not promise durability: Info says so, and
	// Crash can lose writes.
	NoSync bool
	// Keep is how many transactions Crash and Rollback can take back; if zero,
	// none, or 256 with NoSync. Each write copies a little more with it.
	Keep int
	// Limits are the store's limits. Fields that are zero have their defaults:
	// keys of 65,000 bytes, values of 1 MiB less 4 KiB, and the bounds of a
	// commit.
	Limits Limits
}

// defaultLimits are those of a Memory, and of a Badger store with no prefix.
var defaultLimits = Limits{
	Key:         65_000,
	Value:       1<<20 - 4096,
	CommitBytes: stream.MaxCommitBytes,
	CommitOps:   stream.MaxOps,
}

// NewMemory returns an empty store with the default configuration.
func NewMemory() *Memory { return NewMemoryWith(MemoryConfig{}) }

// NewMemoryWith returns an empty store.
func NewMemoryWith(cfg MemoryConfig) *Memory {
	l := &cfg.Limits
	for _, f := range []struct{ v, def *int }{
		{&l.Key, &defaultLimits.Key},
		{&l.Value, &defaultLimits.Value},
		{&l.CommitBytes, &defaultLimits.CommitBytes},
		{&l.CommitOps, &defaultLimits.CommitOps},
	} {
		if *f.v == 0 {
			*f.v = *f.def
		}
	}
	if cfg.Keep == 0 && cfg.NoSync {
		cfg.Keep = 256
	}
	m := &Memory{disk: &disk{cfg: cfg}}
	m.disk.open = m
	return m
}

// A disk is what outlives the closing of a Memory.
type disk struct {
	cfg MemoryConfig

	mu    sync.Mutex
	open  *Memory // the one that is not closed, or nil
	found *Head   // at the last opening
	now   state
	undo  []state // before each of the last transactions, newest last
	head  *Head   // as if written beside the database
	notes []string

	failed    bool // a write's outcome is unknown
	failNext  error
	failAfter error
	failReads error
}

// A state is everything a store holds at one moment. Copies of a state made by
// snapshot share what neither of them changes.
type state struct {
	data    btree
	records btree
	log     []stream.Record // ascending; only ever appended to in place
	meta    *Meta
}

func (s *state) snapshot() state {
	c := *s
	c.data, c.records = s.data.snapshot(), s.records.snapshot()
	c.log = slices.Clip(s.log) // so that two histories never append to one array
	return c
}

var _ Store = (*Memory)(nil)

// lock locks the store, or reports that it is closed.
func (m *Memory) lock() error {
	m.disk.mu.Lock()
	if m.disk.open != m {
		m.disk.mu.Unlock()
		return ErrClosed
	}
	return nil
}

// Limits returns the configured limits.
func (m *Memory) Limits() Limits { return m.disk.cfg.Limits }

// Write applies a transaction.
func (m *Memory) Write(tx *Txn) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.disk.mu.Unlock()
	return m.disk.write(tx)
}

func (d *disk) write(tx *Txn) error {
	if d.failed {
		return ErrPoisoned
	}
	if err := d.cfg.Limits.Check(tx); err != nil {
		return err
	}
	if err := d.failNext; err != nil {
		d.failNext = nil
		d.failed = !refused(err)
		return err
	}
	if d.cfg.Keep > 0 {
		if len(d.undo) == d.cfg.Keep {
			d.undo = slices.Delete(d.undo, 0, 1)
		}
		d.undo = append(d.undo, d.now.snapshot())
	}
	d.now.apply(tx)
	m := d.now.meta
	d.head = &Head{Seq: m.Seq, Position: m.Position, Summary: m.Summary}
	if err := d.failAfter; err != nil {
		d.failAfter, d.failed = nil, true
		return err
	}
	return nil
}

// apply makes the changes of a transaction and sets its meta's Seq.
func (s *state) apply(tx *Txn) {
	for i := range tx.Ops {
		op := &tx.Ops[i]
		if op.Delete {
			s.data.delete(op.Key)
			continue
		}
		s.data.set(op.Key, op.Value)
	}
	for _, r := range tx.Records {
		if r.Value == nil {
			s.records.delete([]byte(r.Name))
			continue
		}
		s.records.set([]byte(r.Name), r.Value)
	}
	if tx.Log != nil {
		s.appendLog(stream.Record{First: tx.Log.First, Last: tx.Log.Last, Body: bytes.Clone(tx.Log.Body)})
	}
	tx.Meta.Seq = 1
	if s.meta != nil {
		tx.Meta.Seq = s.meta.Seq + 1
	}
	m := tx.Meta
	m.History = slices.Clone(m.History)
	s.meta = &m
}

// appendLog puts a record where its first offset belongs: nearly always at the
// end.
func (s *state) appendLog(r stream.Record) {
	i := sort.Search(len(s.log), func(i int) bool { return s.log[i].First >= r.First })
	switch {
	case i == len(s.log):
		s.log = append(s.log, r)
	case s.log[i].First == r.First:
		s.log = slices.Clone(s.log)
		s.log[i] = r
	default:
		s.log = slices.Insert(slices.Clone(s.log), i, r)
	}
}

// View returns a view of everything written so far, in constant time.
func (m *Memory) View() (View, error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.disk.mu.Unlock()
	return &memoryView{m: m, state: m.disk.now.snapshot()}, nil
}

// Trim removes old log records.
func (m *Memory) Trim(before uint64) (more bool, err error) {
	if err := m.lock(); err != nil {
		return false, err
	}
	defer m.disk.mu.Unlock()
	if m.disk.failed {
		return false, ErrPoisoned
	}
	log := m.disk.now.log
	n := 0
	for n < len(log) && log[n].Last < before {
		n++
	}
	const most = 1000
	more = n > most
	// A new array, or the bodies that were trimmed would stay in memory.
	m.disk.now.log = slices.Clone(log[min(n, most):])
	return more, nil
}

// Info describes the store.
func (m *Memory) Info() Info {
	d := m.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	size := d.now.data.bytes + d.now.records.bytes
	for _, r := range d.now.log {
		size += len(r.Body)
	}
	return Info{Path: "memory", Size: int64(size), Free: -1, Sync: !d.cfg.NoSync, Head: d.found, Notes: d.notes}
}

// Close ends the store and its views.
func (m *Memory) Close() error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.disk.mu.Unlock()
	m.disk.open = nil
	return nil
}

// A memoryView holds a snapshot, so it needs no lock but to see whether the
// store is closed.
type memoryView struct {
	m     *Memory
	state state
	done  bool
}

// check returns the error that a read is to fail with.
func (v *memoryView) check() error {
	if v.done {
		return ErrClosed
	}
	if err := v.m.lock(); err != nil {
		return err
	}
	defer v.m.disk.mu.Unlock()
	return v.m.disk.failReads
}

func (v *memoryView) Get(key []byte) ([]byte, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	value, ok := v.state.data.get(key)
	if !ok {
		return nil, ErrNotFound
	}
	return value, nil
}

func (v *memoryView) Ascend(lo, hi []byte, fn func(key, value []byte) bool) error {
	if err := v.check(); err != nil {
		return err
	}
	v.state.data.ascend(lo, hi, fn)
	return nil
}

func (v *memoryView) Meta() (Meta, error) {
	if err := v.check(); err != nil {
		return Meta{}, err
	}
	if v.state.meta == nil {
		return Meta{}, ErrNotFound
	}
	m := *v.state.meta
	m.History = slices.Clone(m.History)
	return m, nil
}

func (v *memoryView) Record(name string) ([]byte, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	value, ok := v.state.records.get([]byte(name))
	if !ok {
		return nil, ErrNotFound
	}
	return append([]byte{}, value...), nil
}

func (v *memoryView) Records(prefix string, fn func(name string, value []byte) bool) error {
	if err := v.check(); err != nil {
		return err
	}
	v.state.records.ascend([]byte(prefix), nil, func(key, value []byte) bool {
		return bytes.HasPrefix(key, []byte(prefix)) && fn(string(key), value)
	})
	return nil
}

func (v *memoryView) Log(from uint64, fn func(rec stream.Record) bool) error {
	if err := v.check(); err != nil {
		return err
	}
	log := v.state.log
	for _, r := range log[sort.Search(len(log), func(i int) bool { return log[i].Last >= from }):] {
		if r.Last < r.First {
			return fmt.Errorf("%w: a log record ends at %d before it begins at %d", ErrCorrupt, r.Last, r.First)
		}
		if !fn(r) {
			break
		}
	}
	return nil
}

func (v *memoryView) Close() { v.done = true }
