package main

import (
	"fmt"
	"sync"
	"time"
)

// A progress tells on standard error how far a load is: on a terminal in one
// line that is written again and again, elsewhere in a line every few seconds.
// Its methods are safe for concurrent use; report belongs to one goroutine.
type progress struct {
	a     *app
	total uint64 // bytes of input, 0 if not known; set before anything is added
	begin time.Time
	every time.Duration
	last  time.Time // report's

	mu    sync.Mutex
	drawn bool // a line without an end stands on the terminal; guarded by mu
}

func (p *progress) init(a *app) {
	p.a, p.begin, p.every = a, time.Now(), 2*time.Second
	if a.errTerminal {
		p.every = 200 * time.Millisecond
	}
	p.last = p.begin
}

// report tells how far it is, if it is time to. at is how much of the input
// has been loaded.
func (p *progress) report(done *loaded, at uint64) {
	now := time.Now()
	if p.a.quiet || now.Sub(p.last) < p.every {
		return
	}
	p.last = now
	p.mu.Lock()
	defer p.mu.Unlock()
	line := progressLine(done.Items, done.Bytes, at, p.total, now.Sub(p.begin))
	if p.a.errTerminal {
		fmt.Fprintf(p.a.stderr, "\r\x1b[K%s", line)
		p.drawn = true
		return
	}
	fmt.Fprintln(p.a.stderr, line)
}

// progressLine writes the line: how many, how fast, and how long still.
func progressLine(items, bytes, at, total uint64, took time.Duration) string {
	s := max(took.Seconds(), 1e-3)
	line := fmt.Sprintf("loaded %s, %s; %.0f items/s, %s/s", plural(items, "item"), size(bytes), float64(items)/s, size(int64(float64(bytes)/s)))
	if total > 0 && at > 0 && at <= total {
		left := time.Duration(float64(took) * float64(total-at) / float64(at))
		line += fmt.Sprintf("; %.0f %%, %s left", 100*float64(at)/float64(total), span(left))
	}
	return line
}

// note prints a line of its own, above the one that is being rewritten.
func (p *progress) note(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		fmt.Fprint(p.a.stderr, "\r\x1b[K")
		p.drawn = false
	}
	fmt.Fprintln(p.a.stderr, line)
}

// end clears the line on the terminal: what was loaded is printed elsewhere.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		fmt.Fprint(p.a.stderr, "\r\x1b[K")
		p.drawn = false
	}
}
