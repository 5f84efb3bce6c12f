package replica

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sdiff/sdiff/transport"
)

// Bounds of a connection's queues.
const (
	inboundFrames = 8         // decoded frames waiting for their owner
	outboundBytes = 1 << 20   // at most about this much, and one frame, waits to be written
	outboundLeast = 64 << 10  // as little, where many peers share what there is
	outboundHard  = 16 << 20  // control frames come on top up to here: then the peer is dropped
	writeBytes    = 256 << 10 // of what waits is given to the network at once, or one frame
)

// A frame is one message off the wire; the body is its receiver's.
type frame struct {
	typ  byte
	body []byte
}

// A sharing is what may wait to be written to all peers of a master together, in
// bytes: of it each has an equal part. Safe for concurrent use.
type sharing struct {
	bytes int64
	peers atomic.Int64
}

// part returns the part of one peer.
func (s *sharing) part() int {
	return int(min(max(s.bytes/max(s.peers.Load(), 1), outboundLeast), outboundBytes))
}

// A peer is one connection as its owner sees it: frames come in on a channel,
// frames go out through a queue bounded in bytes. Neither ever makes the owner
// wait. Two goroutines serve it, the reader and the sender.
type peer struct {
	conn  *transport.Conn
	share *sharing   // nil if there are no others
	in    chan frame // closed by the reader when the connection has ended

	drainedc chan struct{} // there is room again; capacity one
	wakec    chan struct{} // something is to be written; capacity one
	donec    chan struct{} // closed when the connection is over
	closingc chan struct{} // closed when a last frame was queued

	mu    sync.Mutex
	out   []transport.Frame
	bytes int   // of out, and of what is being written
	full  bool  // no room until half of it is written: few long turns instead of many short ones
	last  bool  // nothing more is queued
	err   error // why the connection ended, first cause

	// owned by the owner
	heard     time.Time // when a byte came last
	heardSeen uint64    // how many had come then
}

func newPeer(conn *transport.Conn) *peer {
	return &peer{
		conn:     conn,
		in:       make(chan frame, inboundFrames),
		drainedc: make(chan struct{}, 1),
		wakec:    make(chan struct{}, 1),
		donec:    make(chan struct{}),
		closingc: make(chan struct{}),
		heard:    time.Now(),
	}
}

// run reads and writes until the connection ends. It returns when both
// goroutines have.
func (p *peer) run() {
	var wg sync.WaitGroup
	wg.Go(p.read)
	wg.Go(p.write)
	wg.Wait()
	if p.cause() == nil {
		// A last frame was written. The peer is given a second to take it.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		p.conn.Shutdown(ctx)
		p.end(net.ErrClosed)
	}
}

func (p *peer) read() {
	defer close(p.in)
	for {
		typ, body, err := p.conn.Read()
		if err != nil {
			if !p.closing() {
				p.end(err)
			}
			return
		}
		select {
		case p.in <- frame{typ, body}:
		case <-p.closingc:
			return
		case <-p.donec:
			return
		}
	}
}

func (p *peer) write() {
	for {
		frames, last := p.take()
		if len(frames) > 0 {
			if err := p.conn.Write(frames...); err != nil {
				p.end(err)
				return
			}
			p.written(frames)
			continue
		}
		if last {
			p.conn.SetReadDeadline(time.Unix(1, 0)) // the reader is to leave
			return
		}
		select {
		case <-p.wakec:
		case <-p.donec:
			return
		}
	}
}

// take takes what is to be written next off the queue, and says whether nothing
// will be queued any more. It counts until it is written: a peer that reads
// slowly makes us hold it.
func (p *peer) take() (frames []transport.Frame, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, bytes := 0, 0
	for n < len(p.out) && (n == 0 || bytes+len(p.out[n].Body) <= writeBytes) {
		bytes += len(p.out[n].Body)
		n++
	}
	frames, p.out = p.out[:n:n], p.out[n:]
	return frames, p.last
}

// written lets go of frames that were taken.
func (p *peer) written(frames []transport.Frame) {
	p.mu.Lock()
	for i := range frames {
		p.bytes -= len(frames[i].Body) + transport.Overhead
	}
	clear(frames) // they share an array with those that wait
	if len(p.out) == 0 {
		p.out = nil
	}
	if p.full && p.bytes <= p.most()/2 {
		p.full = false
		notify(p.drainedc)
	}
	p.mu.Unlock()
}

// closing reports whether a last frame was queued.
func (p *peer) closing() bool {
	select {
	case <-p.closingc:
		return true
	default:
		return false
	}
}

// end notes why the connection is over and closes it.
func (p *peer) end(err error) {
	p.mu.Lock()
	if p.err == nil {
		p.err = err
		p.last = true
		close(p.donec)
	}
	p.mu.Unlock()
	p.conn.Close()
}

// cause returns why the connection ended.
func (p *peer) cause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// most returns about how many bytes may wait to be written.
func (p *peer) most() int {
	if p.share == nil {
		return outboundBytes
	}
	return p.share.part()
}

// room reports whether bulk data may be queued. If not, drainedc tells when it may
// again.
func (p *peer) room() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.full = p.full || p.bytes >= p.most()
	return !p.full && !p.last
}

// send queues a frame. The body must not be changed afterwards.
func (p *peer) send(typ byte, body []byte) {
	p.queue(transport.Frame{Type: typ, Body: body})
}

func (p *peer) queue(f transport.Frame) {
	p.mu.Lock()
	if p.last {
		p.mu.Unlock()
		return
	}
	p.out = append(p.out, f)
	p.bytes += len(f.Body) + transport.Overhead
	over := p.bytes > outboundHard
	p.mu.Unlock()
	if over {
		p.end(errors.New("the peer takes nothing off the connection"))
		return
	}
	notify(p.wakec)
}

// bye queues a last frame and ends the connection once it is written, or after
// a moment if the peer takes nothing any more.
func (p *peer) bye(g goodbye) {
	p.send(frameBye, g.append())
	p.mu.Lock()
	if !p.last {
		p.last = true
		close(p.closingc)
	}
	p.mu.Unlock()
	p.conn.SetWriteDeadline(time.Now().Add(time.Second))
	notify(p.wakec)
}

// silent returns how long nothing at all was heard. A byte within a frame that
// is still on its way counts.
func (p *peer) silent(now time.Time) time.Duration {
	// What waits in the channel was heard: it is the owner who is late.
	if in, _ := p.conn.Traffic(); in != p.heardSeen || len(p.in) > 0 {
		p.heardSeen, p.heard = in, now
	}
	return now.Sub(p.heard)
}

// notify makes sure that a receiver of c, a channel of capacity one, wakes up.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// sendc sends v unless ctx ends first.
func sendc[T any](ctx context.Context, c chan<- T, v T) error {
	select {
	case c <- v:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
