package bench

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A committer is the least that a Badger database which is replicated with group
// commit must do for single writes: it takes all callers that wait, and writes
// their items, one log record of all these commits and a meta in one transaction
// that is on disk before they are answered. The record and the meta are of the
// form that sdiff's have, and so are the options of the database. It has no tree
// and no limits, and nobody is sent anything.
type committer struct {
	db    *badger.DB
	putc  chan *waiting
	ended chan struct{}

	// owned by run
	meta store.Meta
	rec  *wire.Writer
}

// A waiting is a caller who waits.
type waiting struct {
	op   stream.Op
	done chan error
}

const (
	groupMost       = 1000       // commits of a group
	committerPrefix = "!bench!/" // of the keys that are not items
	partHeader      = 30         // bytes that stand before a record
)

func newCommitter(b meter) *committer {
	b.Helper()
	db, err := openStraw(call{Dir: b.TempDir(), Tuned: true, Sync: true})
	if err != nil {
		b.Fatal(err)
	}
	c := &committer{
		db: db, putc: make(chan *waiting, groupMost), ended: make(chan struct{}),
		meta: store.Meta{Dataset: stream.NewID(), Role: store.Master, Hash: "xxh64", Complete: true, Sync: true},
		rec:  wire.NewWriter(nil),
	}
	c.meta.Position.Epoch = stream.NewEpoch()
	c.meta.LogStart.Epoch = c.meta.Position.Epoch
	go c.run()
	return c
}

// put returns when the item is on disk.
func (c *committer) put(op stream.Op) error {
	w := &waiting{op, make(chan error, 1)}
	c.putc <- w
	return <-w.done
}

func (c *committer) run() {
	defer close(c.ended)
	var group []*waiting
	for w := range c.putc {
		group = c.gather(append(group[:0], w))
		err := c.commit(group)
		for _, w := range group {
			w.done <- err
		}
	}
}

// gather adds who else waits.
func (c *committer) gather(group []*waiting) []*waiting {
	for len(group) < groupMost {
		select {
		case w, ok := <-c.putc:
			if !ok {
				return group
			}
			group = append(group, w)
		default:
			return group
		}
	}
	return group
}

func (c *committer) commit(group []*waiting) error {
	txn := c.db.NewTransaction(true)
	defer txn.Discard()
	c.rec.Reset(make([]byte, partHeader, partHeader+len(group)*160))
	first, now := c.meta.Position.Offset+1, uint64(time.Now().UnixMilli())
	for _, w := range group {
		c.meta.Position.Offset++
		c.meta.Position.Fingerprint.Count++
		stream.AppendCommit(c.rec, &stream.Commit{
			Offset: c.meta.Position.Offset, Time: now, Fingerprint: c.meta.Position.Fingerprint, Ops: []stream.Op{w.op},
		})
		if err := txn.Set(w.op.Key, w.op.Value); err != nil {
			return err
		}
	}
	part := c.rec.Out()
	binary.BigEndian.PutUint64(part[6:], first)
	binary.BigEndian.PutUint32(part[26:], crc32.Checksum(part[partHeader:], crc32.MakeTable(crc32.Castagnoli)))
	key := binary.BigEndian.AppendUint64([]byte(committerPrefix+"l/"), first)
	if err := txn.Set(append(key, 0, 0), part); err != nil {
		return err
	}
	c.meta.Seq++
	c.meta.Summary = c.meta.Position.Fingerprint
	c.meta.LogBytes += uint64(len(part))
	if err := txn.Set([]byte(committerPrefix+"m"), store.AppendMeta(nil, c.meta)); err != nil {
		return err
	}
	return txn.Commit()
}

// count returns how many items there are.
func (c *committer) count(b meter) (n int) {
	b.Helper()
	err := c.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if !bytes.HasPrefix(it.Item().Key(), []byte(committerPrefix)) {
				n++
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func (c *committer) close(b meter) {
	close(c.putc)
	<-c.ended
	if err := c.db.Close(); err != nil {
		b.Error(err)
	}
}
