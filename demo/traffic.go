package demo

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/stream"
)

const (
	loadOps    = 1000 // ops of a commit of the load
	commitOps  = 50   // ops of a commit of the live writes
	valueBytes = 100
	serialSize = 8 // bytes at the front of a value that number the live commits
)

// A traffic makes keys and values, loads them into a master and goes on
// writing to it. One goroutine uses it at a time, but for what is said below.
type traffic struct {
	rng  *rand.Rand
	keys [][]byte // that exist
	made uint64

	// For everyone.
	commits atomic.Uint64 // live commits written
	first   uint64        // offset of live commit 1; set by load
	stopc   chan struct{}
	donec   chan struct{} // closed when run has ended
	mu      sync.Mutex
	last    stream.Position // of the newest commit
}

func newTraffic(seed uint64) *traffic {
	return &traffic{
		rng:   rand.New(rand.NewPCG(seed, 0x5d1ff)),
		stopc: make(chan struct{}), donec: make(chan struct{}),
	}
}

// key makes a key that was never there: 16 bytes, in no order.
func (t *traffic) key() []byte {
	t.made++
	// An odd factor makes a permutation of the numbers.
	return fmt.Appendf(nil, "%016x", t.made*0x9e3779b97f4a7c15)
}

func (t *traffic) value(serial uint64) []byte {
	v := make([]byte, valueBytes)
	binary.BigEndian.PutUint64(v, serial)
	for i := serialSize; i < len(v); i++ {
		v[i] = 'a' + byte(t.rng.Uint64()%26)
	}
	return v
}

// load puts n keys.
func (t *traffic) load(ctx context.Context, m *replica.Master, n int) error {
	for n > 0 {
		ops := make([]stream.Op, min(n, loadOps))
		for i := range ops {
			k := t.key()
			t.keys = append(t.keys, k)
			ops[i] = stream.Op{Key: k, Value: t.value(0)}
		}
		pos, err := m.Write(ctx, ops)
		if err != nil {
			return err
		}
		t.note(pos)
		n -= len(ops)
	}
	t.first = t.position().Offset + 1
	return nil
}

// run writes commits of new values, new keys and deletes at a steady rate
// until stop is called or ctx ends.
func (t *traffic) run(ctx context.Context, m *replica.Master, rate int) error {
	tick := time.NewTicker(time.Second * commitOps / time.Duration(rate))
	defer tick.Stop()
	defer close(t.donec)
	for {
		select {
		case <-tick.C:
		case <-t.stopc:
			return nil
		case <-ctx.Done():
			return nil
		}
		// A write that has begun is seen through, so that its position is known.
		pos, err := m.Write(context.WithoutCancel(ctx), t.commit(t.commits.Load()+1))
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		t.commits.Add(1)
		t.note(pos)
	}
}

// stop ends run and waits until it has ended. It is called once.
func (t *traffic) stop() {
	close(t.stopc)
	<-t.donec
}

// commit makes a live commit. Its first op is a put whose value carries the
// commit's number.
func (t *traffic) commit(serial uint64) []stream.Op {
	ops := make([]stream.Op, commitOps)
	for i := range ops {
		at := t.rng.IntN(len(t.keys))
		switch n := t.rng.IntN(10); {
		case n == 0 && i > 0:
			ops[i] = stream.Op{Key: t.keys[at], Delete: true}
			t.keys[at] = t.keys[len(t.keys)-1]
			t.keys = t.keys[:len(t.keys)-1]
			continue
		case n == 1:
			t.keys = append(t.keys, t.key())
			at = len(t.keys) - 1
		}
		ops[i] = stream.Op{Key: t.keys[at], Value: t.value(serial)}
	}
	return ops
}

func (t *traffic) note(pos stream.Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = pos
}

// position returns that of the newest commit. Any goroutine may call it.
func (t *traffic) position() stream.Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// offset returns the offset of a live commit.
func (t *traffic) offset(serial uint64) uint64 { return t.first + serial - 1 }

// A fault damages ops on their way into a follower, once it is armed: of every
// three one is lost and two are garbled, until there were enough. Anyone arms
// it; the rest is owned by the follower's loop.
type fault struct {
	armed atomic.Bool
	rng   *rand.Rand
	damage
}

// A damage is what a fault has done.
type damage struct {
	left    int    // to do
	serial  uint64 // of the live commit that was damaged first
	commits int    // that were damaged
	dropped int
	garbled int
}

func newFault(seed uint64, ops int) *fault {
	return &fault{rng: rand.New(rand.NewPCG(seed, 0xbad)), damage: damage{left: ops}}
}

// apply is a FollowerConfig.Fault.
func (f *fault) apply(ops []stream.Op) []stream.Op {
	if f.left == 0 || !f.armed.Load() {
		return ops
	}
	if f.commits == 0 {
		f.serial = binary.BigEndian.Uint64(ops[0].Value)
	}
	f.commits++
	// The ops are parts of a frame that is not ours to change.
	kept := make([]stream.Op, 0, len(ops))
	for _, op := range ops {
		switch {
		case f.left == 0:
			kept = append(kept, op)
			continue
		case op.Delete || f.rng.IntN(3) == 0:
			f.dropped++
		default:
			v := bytes.Clone(op.Value)
			v[f.rng.IntN(len(v))] ^= 1
			kept = append(kept, stream.Op{Key: op.Key, Value: v})
			f.garbled++
		}
		f.left--
	}
	return kept
}
