package main

import (
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sdiff/sdiff/replica"
)

// What --memory takes, in bytes.
const (
	defaultMemory = 1 << 30
	minMemory     = 128 << 20
)

// A budget is how much anonymous memory serve and follow may take, the tree not
// counted: that is as large as the dataset makes it.
type budget struct {
	bytes int64

	replica atomic.Pointer[runner] // once there is one
	stopc   chan struct{}
	wg      sync.WaitGroup
}

// storeMemory returns the store's share of a budget, and tailMemory that of the
// newest commits in memory. The rest is for connections and what is under way.
func storeMemory(budget int64) int64 { return budget / 8 * 7 }
func tailMemory(budget int64) int    { return int(min(budget/16, replica.DefaultTailBytes)) }

// limitEvery is how often the tree's size is looked at.
const limitEvery = 500 * time.Millisecond

// limitMemory has the garbage collector keep to a budget until stop. A lower
// limit that the environment sets (GOMEMLIMIT) stays.
func limitMemory(bytes int64) *budget {
	b := &budget{bytes: bytes, stopc: make(chan struct{})}
	most := debug.SetMemoryLimit(-1)
	set := func() { debug.SetMemoryLimit(min(most, b.now())) }
	set()
	b.wg.Go(func() {
		tick := time.NewTicker(limitEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				set()
			case <-b.stopc:
				debug.SetMemoryLimit(most)
				return
			}
		}
	})
	return b
}

// of makes the replica one whose tree is counted and that tells of the memory.
func (b *budget) of(r runner) runner {
	b.replica.Store(&r)
	return limited{r, b}
}

// now returns what may be in use now, in bytes. While the tree is being built
// nobody knows how large it is; then the garbage is bounded.
func (b *budget) now() int64 {
	if r := b.replica.Load(); r != nil {
		if tree := (*r).Status().Store.TreeHeap; tree > 0 {
			return b.bytes + tree
		}
	}
	return max(b.bytes, int64(readMetric("/gc/heap/live:bytes"))+b.bytes/2)
}

// stop ends what limitMemory began.
func (b *budget) stop() {
	close(b.stopc)
	b.wg.Wait()
}

// used returns the bytes of anonymous memory that the process has in use.
func used() int64 {
	return int64(readMetric("/memory/classes/total:bytes") - readMetric("/memory/classes/heap/released:bytes"))
}

func readMetric(name string) uint64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// A limited replica tells of the process's memory, too.
type limited struct {
	runner
	memory *budget
}

func (l limited) Status() replica.Status {
	s := l.runner.Status()
	s.Memory = &replica.MemoryStatus{Budget: l.memory.bytes, Used: used()}
	return s
}
