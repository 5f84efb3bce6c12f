package faultnet

import (
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"
)

// mergeBytes bounds what is handed on together.
const mergeBytes = 64 << 10

// A pump moves one direction of a connection: intake reads what was sent,
// damages it and says when it arrives; outlet waits for that and hands it on,
// or not.
type pump struct {
	c        *conn
	dir      int
	src, dst net.Conn
	q        *queue
	// lost is set when the direction will carry nothing any more.
	lost atomic.Bool

	// Owned by intake.
	rng     *rand.Rand
	scan    scanner
	lastDue time.Time
	flipP   float64 // the chance that flipGap was drawn for
	flipGap float64 // bytes until the next flip by chance
}

// other returns the opposite direction.
func (p *pump) other() int { return 1 - p.dir }

// intake reads until the sender has ended.
func (p *pump) intake() {
	buf := make([]byte, 32<<10)
	for {
		n, err := p.src.Read(buf)
		if n > 0 {
			data := p.scan.feed(nil, buf[:n], p)
			p.flip(data)
			if !p.send(item{data: data}) {
				return
			}
		}
		if err == nil {
			continue
		}
		if rest := p.scan.flush(nil); !p.send(item{data: rest}) {
			return
		}
		if err == io.EOF {
			p.send(item{end: endEOF})
		} else {
			p.send(item{end: endReset})
		}
		return
	}
}

// send puts an item in flight and reports whether the connection lives.
func (p *pump) send(it item) bool {
	if len(it.data) == 0 && it.end == notEnd {
		return true
	}
	f, _ := p.c.l.get(p.dir)
	delay := f.delay
	if f.jitter > 0 {
		delay += time.Duration(p.rng.Int64N(2*int64(f.jitter)+1)) - f.jitter
	}
	it.due = time.Now().Add(max(delay, 0))
	if delay > 0 {
		p.c.l.count(Delay)
	}
	if it.due.Before(p.lastDue) {
		it.due = p.lastDue
	}
	p.lastDue = it.due
	return p.q.put(it, p.c.closec)
}

// flip flips bits of data where it is to be.
func (p *pump) flip(data []byte) {
	f, _ := p.c.l.get(p.dir)
	if at := p.c.l.passFlip(p.dir, len(data)); at >= 0 {
		p.flipBit(data, at)
	}
	if f.flip != p.flipP {
		p.flipP = f.flip
		p.drawFlip()
	}
	if p.flipP == 0 {
		return
	}
	at := 0.0
	for p.flipGap < float64(len(data))-at {
		at += p.flipGap
		p.flipBit(data, int(at))
		at++
		p.drawFlip()
	}
	p.flipGap -= float64(len(data)) - at
}

func (p *pump) flipBit(data []byte, at int) {
	data[at] ^= 1 << p.rng.IntN(8)
	p.c.l.count(Flip)
}

// drawFlip draws how many bytes stay whole before the next that does not.
func (p *pump) drawFlip() {
	if p.flipP > 0 && p.flipP < 1 {
		p.flipGap = math.Floor(math.Log(1-p.rng.Float64()) / math.Log1p(-p.flipP))
	} else {
		p.flipGap = 0
	}
}

// passFlip counts n bytes towards FlipByte and returns which of them it is, or
// -1.
func (l *Link) passFlip(dir, n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &l.dirs[dir]
	switch {
	case f.flipAt < 0:
		return -1
	case f.flipAt >= int64(n):
		f.flipAt -= int64(n)
		return -1
	default:
		at := int(f.flipAt)
		f.flipAt = -1
		return at
	}
}

// outlet hands on what arrives until the end has.
func (p *pump) outlet() {
	for {
		it, ok := p.q.take(p.c.closec)
		if !ok || !p.c.sleep(time.Until(it.due)) {
			return
		}
		if it.end != notEnd {
			p.deliverEnd(it.end)
			return
		}
		if f, _ := p.c.l.get(p.dir); f.merge > 0 {
			if !p.c.sleep(f.merge) {
				return
			}
			var n int
			if it.data, n = p.q.gather(it.data, mergeBytes, time.Now()); n > 0 {
				p.c.l.count(Merge)
			}
		}
		p.deliver(it.data)
	}
}

// await waits for the end of a stall and returns the settings then. It reports
// false if what was to be handed on is to be swallowed.
func (p *pump) await() (faults, bool) {
	for counted := false; ; counted = true {
		f, changec := p.c.l.get(p.dir)
		switch {
		case p.lost.Load():
			return f, false
		case f.black:
			p.c.l.count(BlackHole)
			p.lost.Store(true)
			return f, false
		case !f.stall:
			return f, true
		case !counted:
			p.c.l.count(Stall)
		}
		select {
		case <-changec:
		case <-p.c.closec:
			return f, false
		}
	}
}

// deliverEnd tells the receiver that the stream has ended.
func (p *pump) deliverEnd(e end) {
	if _, ok := p.await(); !ok {
		return
	}
	if e == endReset {
		reset(p.dst)
		return
	}
	closeWrite(p.dst)
}

// deliver hands data on in as many pieces as it is to be.
func (p *pump) deliver(data []byte) {
	for len(data) > 0 {
		f, ok := p.await()
		if !ok {
			return
		}
		n := len(data)
		if f.split > 0 && n > f.split {
			n = f.split
			p.c.l.count(Split)
		}
		if f.rate > 0 {
			n = min(n, max(1, f.rate/100)) // ten milliseconds at once
		}
		n, cut, how := p.c.l.passCut(p.dir, n)
		_, err := p.dst.Write(data[:n])
		if cut {
			p.c.cut(how)
			return
		}
		if err != nil {
			p.writeFailed(err)
			return
		}
		data = data[n:]
		if !p.pause(f, n) {
			return
		}
	}
}

// pause waits as long as a piece of n bytes takes, or gives the receiver a
// moment to look at it by itself.
func (p *pump) pause(f faults, n int) bool {
	switch {
	case f.rate > 0:
		p.c.l.count(Throttle)
		return p.c.sleep(time.Duration(float64(n) / float64(f.rate) * float64(time.Second)))
	case f.split > 0:
		return p.c.sleep(1)
	default:
		return true
	}
}

// writeFailed swallows the rest, and lets the sender know that the receiver
// has gone if that could get through.
func (p *pump) writeFailed(err error) {
	if p.lost.Swap(true) || errors.Is(err, net.ErrClosed) {
		return // the receiver is there, but we told it that this is the end
	}
	if f, _ := p.c.l.get(p.other()); !f.black && !f.stall {
		reset(p.src)
	}
}

// passCut returns how many of n bytes go through before a cut, whether the cut
// is behind them, and how it is made.
func (l *Link) passCut(dir, n int) (int, bool, Ending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &l.dirs[dir]
	switch {
	case f.cutAt < 0:
		return n, false, 0
	case f.cutAt > int64(n):
		f.cutAt -= int64(n)
		return n, false, 0
	default:
		n = int(f.cutAt)
		f.cutAt = -1
		return n, true, f.cutHow
	}
}
