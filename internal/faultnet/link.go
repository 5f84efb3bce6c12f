package faultnet

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Dir is a direction, or both.
type Dir uint8

// The directions of a Link.
const (
	Out  Dir = 1 << iota // from the client to the server
	In                   // from the server to the client
	Both = Out | In
)

// A Fault is a kind of fault, for Count.
type Fault uint8

// The faults, and what Count counts of them.
const (
	Delay     Fault = iota // pieces that had to wait
	Throttle               // pauses for the rate
	Stall                  // waits for the end of a stall
	BlackHole              // pieces, ends and dials swallowed
	Cut                    // connections cut
	HalfClose              // connections half-closed
	Split                  // writes split
	Merge                  // writes joined with the one before
	Flip                   // bits flipped
	Duplicate              // frames sent twice
	Swap                   // frames overtaken by the next
	Drop                   // frames left out
	Refuse                 // connections refused
	numFaults
)

var faultNames = [numFaults]string{
	"delay", "throttle", "stall", "black hole", "cut", "half-close", "split",
	"merge", "flip", "duplicate", "swap", "drop", "refuse",
}

// String returns the fault's name.
func (f Fault) String() string {
	if f >= numFaults {
		return "unknown"
	}
	return faultNames[f]
}

// An Ending is how a connection is cut.
type Ending uint8

// The endings.
const (
	// Reset makes both ends lose what they have not read; their reads and
	// writes fail.
	Reset Ending = iota
	// Close ends the stream at both ends after what has got through, which
	// may be half a frame.
	Close
)

// A Link is the network between a client and a server. New makes one.
type Link struct {
	seed   uint64
	counts [numFaults]atomic.Uint64
	closec chan struct{}
	wg     sync.WaitGroup

	mu        sync.Mutex
	changec   chan struct{} // closed and replaced when a setting changes
	closed    bool
	refuse    bool
	dirs      [2]faults // Out, In
	conns     map[*conn]struct{}
	listeners []net.Listener
	serial    uint64 // connections so far
}

// faults are the settings of one direction.
type faults struct {
	delay, jitter time.Duration
	rate          int // bytes per second; 0 is no bound
	split         int // most bytes of a write; 0 is no bound
	merge         time.Duration
	stall, black  bool
	flip          float64 // chance per byte

	// What happens once. The places are in bytes from now, -1 is nowhere.
	flipAt, cutAt int64
	cutHow        Ending
	frames        []frameFault
}

func noFaults() faults { return faults{flipAt: -1, cutAt: -1} }

// New returns a Link without faults. Equal seeds give equal chances.
func New(seed uint64) *Link {
	return &Link{
		seed:    seed,
		closec:  make(chan struct{}),
		changec: make(chan struct{}),
		dirs:    [2]faults{noFaults(), noFaults()},
		conns:   map[*conn]struct{}{},
	}
}

// Count returns how often a fault happened.
func (l *Link) Count(f Fault) uint64 { return l.counts[f].Load() }

func (l *Link) count(f Fault) { l.counts[f].Add(1) }

// Conns returns how many connections the Link carries now.
func (l *Link) Conns() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// Close closes all connections and listeners of the Link and returns when all
// its goroutines have ended. Closing twice does nothing.
func (l *Link) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.closec)
	}
	conns, listeners := l.current(), l.listeners
	l.mu.Unlock()
	for _, ln := range listeners {
		ln.Close()
	}
	for _, c := range conns {
		c.kill(Close)
	}
	l.wg.Wait()
	return nil
}

// current returns the connections. The caller holds mu.
func (l *Link) current() []*conn {
	conns := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	return conns
}

// set changes the settings of directions and wakes who waits for that.
func (l *Link) set(dir Dir, change func(*faults)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.dirs {
		if dir&(1<<i) != 0 {
			change(&l.dirs[i])
		}
	}
	l.wake()
}

// wake wakes who waits for a change. The caller holds mu.
func (l *Link) wake() {
	close(l.changec)
	l.changec = make(chan struct{})
}

// get returns the settings of a direction and what is closed when they change.
func (l *Link) get(dir int) (faults, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dirs[dir], l.changec
}

// SetDelay makes bytes arrive late by delay, give or take up to jitter. They
// are never reordered: none arrives before one that was sent earlier.
func (l *Link) SetDelay(dir Dir, delay, jitter time.Duration) {
	l.set(dir, func(f *faults) { f.delay, f.jitter = delay, jitter })
}

// SetRate bounds what each connection carries, in bytes per second; 0 is no
// bound.
func (l *Link) SetRate(dir Dir, bytesPerSecond int) {
	l.set(dir, func(f *faults) { f.rate = max(bytesPerSecond, 0) })
}

// SplitMax hands bytes on in pieces of at most n, with a moment between two in
// which the receiver can read (in fake time it always has); 0 is no bound.
func (l *Link) SplitMax(dir Dir, n int) {
	l.set(dir, func(f *faults) { f.split = max(n, 0) })
}

// MergeFor hands on together what arrives within d of the first byte, up to
// 64 KiB; 0 hands on every piece as it came.
func (l *Link) MergeFor(dir Dir, d time.Duration) {
	l.set(dir, func(f *faults) { f.merge = max(d, 0) })
}

// Stall holds all bytes and ends back, as a network does that will deliver
// them when it works again. While it lasts, a Dialer waits.
func (l *Link) Stall(dir Dir, on bool) {
	l.set(dir, func(f *faults) { f.stall = on })
}

// BlackHole swallows all bytes and ends without a word, and makes a Dialer
// wait. A connection that lost something stays silent in that direction when
// the black hole is gone: it could only go on wrong.
func (l *Link) BlackHole(dir Dir, on bool) {
	l.set(dir, func(f *faults) { f.black = on })
}

// FlipProbability flips one bit of each byte with chance p.
func (l *Link) FlipProbability(dir Dir, p float64) {
	l.set(dir, func(f *faults) { f.flip = min(max(p, 0), 1) })
}

// FlipByte flips one bit, once, of the byte that comes after n more, counted
// over all connections.
func (l *Link) FlipByte(dir Dir, n int) {
	l.set(dir, func(f *faults) { f.flipAt = int64(max(n, 0)) })
}

// DuplicateFrame sends the next frame twice. Match picks which frames count by
// their type; nil is any.
func (l *Link) DuplicateFrame(dir Dir, match func(typ byte) bool) {
	l.armFrame(dir, frameFault{Duplicate, match})
}

// SwapFrames sends the next frame that match picks after the one behind it;
// nil is any. It is held back until that one has come.
func (l *Link) SwapFrames(dir Dir, match func(typ byte) bool) {
	l.armFrame(dir, frameFault{Swap, match})
}

// DropFrame leaves out the next frame that match picks; nil is any.
func (l *Link) DropFrame(dir Dir, match func(typ byte) bool) {
	l.armFrame(dir, frameFault{Drop, match})
}

// armFrame adds a fault to those waiting for a frame, oldest first.
func (l *Link) armFrame(dir Dir, ff frameFault) {
	l.set(dir, func(f *faults) { f.frames = append(f.frames[:len(f.frames):len(f.frames)], ff) })
}

// Cut ends all connections now. What is in flight is lost.
func (l *Link) Cut(how Ending) {
	l.mu.Lock()
	conns := l.current()
	l.mu.Unlock()
	for _, c := range conns {
		c.cut(how)
	}
}

// CutAfter cuts, once, the connection that carries the n-th byte from now in
// that direction, right behind it.
func (l *Link) CutAfter(dir Dir, n int, how Ending) {
	l.set(dir, func(f *faults) { f.cutAt, f.cutHow = int64(max(n, 0)), how })
}

// HalfClose tells the receivers of a direction, of all connections there are,
// that the stream has ended, and swallows what the senders still send.
func (l *Link) HalfClose(dir Dir) {
	l.mu.Lock()
	conns := l.current()
	l.mu.Unlock()
	for _, c := range conns {
		for i, p := range c.pumps {
			if p != nil && dir&(1<<i) != 0 && p.lost.CompareAndSwap(false, true) {
				l.count(HalfClose)
				closeWrite(p.dst)
			}
		}
	}
}

// Refuse refuses new connections.
func (l *Link) Refuse(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = on
	l.wake()
}

// Heal ends all faults, those that wait for a byte or a frame too. Connections
// that lost something stay as they are.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dirs = [2]faults{noFaults(), noFaults()}
	l.refuse = false
	l.wake()
}
