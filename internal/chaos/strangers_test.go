//go:build chaos

package chaos

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/transport"
)

// Strangers are connections to a master that are not what it is there for: some
// say nothing and come again when they are cut off, some send frames of every
// kind that they should not.
type strangers struct {
	plan crowdPlan
	next atomic.Uint64 // the next hostile act

	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	n    counts
	open int // silent connections now
}

func newStrangers(plan crowdPlan) *strangers { return &strangers{plan: plan, n: counts{}} }

// Times of strangers. All are under the master's own limits: they keep it busy.
const (
	silentPause  = 2 * time.Second // before a silent connection is made again, on average
	hostilePause = 100 * time.Millisecond
	hostileStay  = 3 * time.Second // how long a hostile peer waits to be cut off
)

func (s *strangers) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	for range s.plan.Silent {
		s.wg.Go(func() { s.sayNothing(ctx) })
	}
	for i := range s.plan.Hostile {
		s.wg.Go(func() { s.beHostile(ctx, i) })
	}
}

func (s *strangers) end() {
	if s.cancel != nil {
		s.cancel()
		s.wg.Wait()
		s.cancel = nil
	}
}

func (s *strangers) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n[what]++
}

func (s *strangers) counted() counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.n)
}

// rest waits for about d, and reports whether ctx lives on.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// dial connects to the master until ctx ends.
func (s *strangers) dial(ctx context.Context) (nc net.Conn, hangUp func(), err error) {
	nc, err = transport.DialTCP(s.plan.Address)(ctx)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	return nc, func() { stop(); nc.Close() }, nil
}

// sayNothing keeps a connection that says nothing, and makes another when it is
// cut off.
func (s *strangers) sayNothing(ctx context.Context) {
	for rest(ctx, silentPause) {
		nc, hangUp, err := s.dial(ctx)
		if err != nil {
			s.count("silent: not connected")
			continue
		}
		s.opened(1)
		s.count("silent: connected")
		_, _ = io.Copy(io.Discard, nc)
		if ctx.Err() == nil {
			s.count("silent: cut off")
		}
		s.opened(-1)
		hangUp()
	}
}

// opened keeps the largest number of silent connections at once.
func (s *strangers) opened(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open += n
	s.n["silent: most at once"] = max(s.n["silent: most at once"], s.open)
}

// beHostile does one hostile act after the other, all of them in turn over all
// hostile peers.
func (s *strangers) beHostile(ctx context.Context, i int) {
	for rest(ctx, hostilePause) {
		act := hostileActs[s.next.Add(1)%uint64(len(hostileActs))]
		nc, hangUp, err := s.dial(ctx)
		if err != nil {
			s.count("hostile: not connected")
			continue
		}
		h := &hostile{nc: nc, conn: transport.NewConn(nc), id: fmt.Sprintf("hostile-%02d", i)}
		h.conn.SetLimit(transport.MaxBody)
		nc.SetDeadline(time.Now().Add(hostileStay))
		err = act.do(h)
		s.count("hostile: " + act.name)
		if err == nil && !act.rude {
			err = h.hear()
		}
		hangUp()
		if ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded) {
			s.count("hostile: " + act.name + ", stayed")
		}
	}
}

// A hostile is one hostile connection.
type hostile struct {
	nc   net.Conn
	conn *transport.Conn
	id   string
}

// An act is what a hostile peer does on one connection. Who is rude does not
// wait for an answer.
type act struct {
	name string
	rude bool
	do   func(*hostile) error
}

// hear takes all that the master says until it ends the connection.
func (h *hostile) hear() error {
	_, err := io.Copy(io.Discard, h.nc)
	return err
}

// raw sends bytes as they are.
func (h *hostile) raw(b []byte) error {
	_, err := h.nc.Write(b)
	return err
}

// send sends a frame that is whole.
func (h *hostile) send(typ byte, body []byte) error {
	return h.conn.Write(transport.Frame{Type: typ, Body: body})
}

// header returns the beginning of a frame, with a check that is right.
func header(typ byte, size uint32) []byte {
	b := append(binary.BigEndian.AppendUint32(nil, size), typ)
	return append(b, byte(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
}

// noise returns so many random bytes.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// A greeting is what a hello says.
type greeting struct {
	version       uint64
	dataset       []byte
	id, hash      string
	epoch         []byte
	offset, count uint64
}

// greet says hello, with what change makes of it, and takes the first answer.
func (h *hostile) greet(change func(*greeting)) error {
	g := greeting{version: 1, dataset: make([]byte, 16), id: h.id, hash: "xxh64", epoch: make([]byte, 16)}
	if change != nil {
		change(&g)
	}
	if err := h.send(1, g.body()); err != nil {
		return err
	}
	_, _, err := h.conn.Read()
	return err
}

func (g *greeting) body() []byte {
	w := wire.NewWriter(nil)
	w.Array(12)
	w.String("sdiff")
	w.Uint(g.version)
	w.Uint(g.version)
	w.Bytes(g.dataset)
	w.String(g.id)
	w.String(g.hash)
	w.Array(4)
	w.Bytes(g.epoch)
	w.Uint(g.offset)
	w.Uint(g.count)
	w.Uint(g.count)
	w.Array(2)
	w.Uint(g.count)
	w.Uint(g.count)
	w.Bool(g.offset > 0)
	w.Bool(false)
	w.Bool(false)
	w.Nil()
	return w.Out()
}

// uints encodes an array of numbers.
func uints(all ...uint64) []byte {
	w := wire.NewWriter(nil)
	w.Array(len(all))
	for _, n := range all {
		w.Uint(n)
	}
	return w.Out()
}
