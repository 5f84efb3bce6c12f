package replica

import (
	"sync"
	"time"

	"github.com/sdiff/sdiff/merkle"
)

// A clockwork remembers when offsets came to be, coarsely: enough to tell how
// old the oldest commit is that someone does not have yet. It is safe for
// concurrent use.
type clockwork struct {
	mu      sync.Mutex
	samples []sample // ascending; a sample says that offset was reached at
}

type sample struct {
	offset uint64
	at     time.Time
}

const (
	maxSamples  = 1024
	sampleEvery = 100 * time.Millisecond
)

// note says that offset was reached now.
func (c *clockwork) note(offset uint64, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.samples)
	if n > 0 && c.samples[n-1].offset >= offset {
		return
	}
	// Between two samples the newest offset moves, the time stays: ages come
	// out too old by at most sampleEvery.
	if n > 1 && now.Sub(c.samples[n-2].at) < sampleEvery {
		c.samples[n-1].offset = offset
		return
	}
	if n == maxSamples {
		// Long behind: every other sample is enough.
		kept := c.samples[:0]
		for i := 0; i < n; i += 2 {
			kept = append(kept, c.samples[i])
		}
		c.samples = kept
	}
	c.samples = append(c.samples, sample{offset, now})
}

// behind returns for how long commits after offset have been waiting.
func (c *clockwork) behind(offset uint64, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.samples {
		if s.offset > offset {
			return max(0, now.Sub(s.at))
		}
	}
	return 0
}

// forget drops what everyone has, up to offset.
func (c *clockwork) forget(offset uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := 0
	for i < len(c.samples)-1 && c.samples[i].offset <= offset {
		i++
	}
	c.samples = append(c.samples[:0], c.samples[i:]...)
}

// A treeSize remembers about how much memory a tree takes. Measuring walks all
// nodes, so it is done anew only when the number of keys has changed by a
// sixteenth. It is owned by the tree's owner.
type treeSize struct {
	bytes int64
	keys  uint64
}

func (s *treeSize) of(t *merkle.Tree) int64 {
	n := t.Summary().Count
	if d := max(n, s.keys) - min(n, s.keys); d > s.keys/16 || s.bytes == 0 {
		s.bytes, s.keys = t.Bytes(), n
	}
	return s.bytes
}
