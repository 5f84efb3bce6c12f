package store

import (
	"bytes"
	"errors"
	"slices"
)

func refused(err error) bool { return errors.Is(err, ErrRefused) }

// FailNext makes the next Write that passes the size checks fail with err, with
// nothing written. Unless err wraps ErrRefused, as [ErrNoSpace] does, the store
// is poisoned then.
func (m *Memory) FailNext(err error) { m.set(func(d *disk) { d.failNext = err }) }

// FailAfter makes the next Write fail with err although everything is written,
// as a sync that fails does. The store is poisoned then.
func (m *Memory) FailAfter(err error) { m.set(func(d *disk) { d.failAfter = err }) }

// FailReads makes every read through a view fail with err, until it is called
// with nil.
func (m *Memory) FailReads(err error) { m.set(func(d *disk) { d.failReads = err }) }

// Tamper puts an item behind the replica's back: no transaction is counted and
// the meta stays as it is.
func (m *Memory) Tamper(key, value []byte) {
	m.set(func(d *disk) { d.now.data.set(bytes.Clone(key), append([]byte{}, value...)) })
}

// Drop removes an item behind the replica's back.
func (m *Memory) Drop(key []byte) { m.set(func(d *disk) { d.now.data.delete(key) }) }

// SetMeta changes the stored meta behind the replica's back.
func (m *Memory) SetMeta(change func(*Meta)) {
	m.set(func(d *disk) {
		if d.now.meta != nil {
			c := *d.now.meta
			c.History = slices.Clone(c.History)
			change(&c)
			d.now.meta = &c
		}
	})
}

// Crash closes the store as a power cut does. With NoSync, up to n of the
// newest transactions are lost, together with every trace of them; otherwise
// none is. It returns how many were lost.
func (m *Memory) Crash(n int) (lost int) {
	m.set(func(d *disk) {
		if d.cfg.NoSync {
			lost = d.rollback(n)
			d.head = nil
			if m := d.now.meta; m != nil {
				d.head = &Head{Seq: m.Seq, Position: m.Position, Summary: m.Summary}
			}
		}
		d.open = nil
	})
	return lost
}

// Rollback closes the store and takes back up to n of the newest transactions,
// as the loss of a file or an old backup does. The head, kept outside of the
// database, stays as it is and tells. Without MemoryConfig.Keep, or NoSync,
// there is nothing to take back. It returns how many were lost.
func (m *Memory) Rollback(n int) (lost int) {
	m.set(func(d *disk) {
		lost = d.rollback(n)
		d.open = nil
	})
	return lost
}

// Restore closes the store and puts a backup in the place of all of it, as it
// was up to n transactions ago: what is kept outside of the database, too, so
// that nothing contradicts it. Without MemoryConfig.Keep, or NoSync, there is
// no backup. It returns how many transactions were lost.
func (m *Memory) Restore(n int) (lost int) {
	m.set(func(d *disk) {
		lost = d.rollback(n)
		d.head = nil
		if m := d.now.meta; m != nil {
			d.head = &Head{Seq: m.Seq, Position: m.Position, Summary: m.Summary}
		}
		d.open = nil
	})
	return lost
}

func (d *disk) rollback(n int) int {
	n = min(n, len(d.undo))
	if n > 0 {
		d.now = d.undo[len(d.undo)-n].snapshot()
		d.undo = slices.Delete(d.undo, len(d.undo)-n, len(d.undo))
	}
	return n
}

// Reopen opens the store again, with what was in it. A store that is still open
// is closed first, as kill -9 does: nothing is lost. Faults that were set and
// poison are gone.
func (m *Memory) Reopen() *Memory {
	d := m.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	next := &Memory{disk: d}
	d.open = next
	d.found = d.head
	d.failed, d.failNext, d.failAfter, d.failReads = false, nil, nil, nil
	return next
}

// set changes the disk, whether the store is open or not.
func (m *Memory) set(change func(*disk)) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	change(m.disk)
}
