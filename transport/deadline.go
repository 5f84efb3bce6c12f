package transport

import (
	"sync"
	"time"
)

// A deadline is a moment that can be waited for on a channel, and moved. Safe
// for concurrent use.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	// passedc is closed once the moment has passed, and replaced when the
	// moment is then set anew.
	passedc chan struct{}
	// gen tells a timer that fired late, after the moment was moved, that
	// it is not meant any more.
	gen uint64
}

// set moves the deadline to t; the zero time is never.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gen++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	passed := d.passed()
	switch left := time.Until(t); {
	case !t.IsZero() && left <= 0:
		if !passed {
			close(d.passedc)
		}
		return
	case !t.IsZero():
		gen := d.gen
		d.timer = time.AfterFunc(left, func() { d.fire(gen) })
	}
	if passed {
		d.passedc = make(chan struct{})
	}
}

// fire is called by the timer of generation gen.
func (d *deadline) fire(gen uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if gen == d.gen && !d.passed() {
		close(d.passedc)
	}
}

// passed reports whether the moment has passed. The caller holds mu.
func (d *deadline) passed() bool {
	select {
	case <-d.passedc:
		return true
	default:
		return false
	}
}

// wait returns a channel that is closed when the moment has passed.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passedc
}
