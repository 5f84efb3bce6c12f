package replica

import (
	"sync"
	"time"

	"github.com/sdiff/sdiff/diff"
)

// A master makes sketches for comparisons that take more cells than are kept: of
// so many items in a second, and so many seconds' worth at once. A processor makes
// four times as many. While there is no more to be had, ranges are compared.
const (
	makeRate  = 1 << 20
	makeAhead = 8 * time.Second
)

// A makePace counts what its sessions made. It is safe for concurrent use.
type makePace struct {
	mu    sync.Mutex
	until time.Time // when what was made so far is paid for
}

// may reports whether a comparison that begins now may make a sketch.
func (p *makePace) may(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.until.Sub(now) < makeAhead
}

// made counts a sketch of so many items.
func (p *makePace) made(items uint64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until.Before(now) {
		p.until = now
	}
	p.until = p.until.Add(time.Duration(items) * time.Second / makeRate)
}

// compare begins a comparison of what is in a view.
func (p *makePace) compare(v view) *diff.Session {
	cfg := diff.Config{Sketch: v.sketch}
	if !p.may(time.Now()) {
		cfg.MaxMade = -1
	}
	return diff.New(v.tree, cfg)
}

// step is the comparison's Step, with what it makes counted.
func (p *makePace) step(s *diff.Session, m diff.Message) ([]diff.Message, error) {
	before := s.Stats().Made
	out, err := s.Step(m)
	if items := s.Stats().Made - before; items > 0 {
		p.made(items, time.Now())
	}
	return out, err
}
