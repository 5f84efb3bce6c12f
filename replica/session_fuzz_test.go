package replica_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
	"github.com/sdiff/sdiff/transport"
)

// A script is bytes that say what a peer does next. When it has ended it says
// zero.
type script struct{ rest []byte }

func (s *script) next() byte {
	if len(s.rest) == 0 {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return b
}

// number is a small one mostly, for that is what means something.
func (s *script) number() uint64 {
	switch b := s.next(); {
	case b == 255:
		return ^uint64(0)
	case b > 250:
		return 1 << (b - 200)
	default:
		return uint64(b % 8)
	}
}

func (s *script) flag() bool { return s.next()%2 == 1 }

func (s *script) bytes() []byte {
	n := min(int(s.next()%32), len(s.rest))
	b := s.rest[:n]
	s.rest = s.rest[n:]
	return b
}

// opening is noise, or the opening of a comparison of 30 items and more,
// some of its bytes changed.
func (s *script) opening() []byte {
	n := s.next()
	if n < 20 {
		return s.bytes()
	}
	var tree merkle.Tree
	for i := range 30 + int(n) {
		tree.Put(fmt.Appendf(nil, "key%06d", i), uint64(i)*0x9e3779b97f4a7c15)
	}
	tree.KeepSketch()
	counters, cells := tree.Counters()
	m, _ := diff.Opening(tree.Snapshot(), cells, counters)
	b := m.Append(nil)
	for range s.next() % 3 {
		b[int(s.next())%len(b)] ^= s.next()
	}
	return b
}

// A babbler is a peer that sends what a script says: frames of every type, in
// any order, most of them well formed. It remembers what it was sent, and sends
// that back now and then.
type babbler struct {
	conn *transport.Conn
	nc   net.Conn
	s    *script
	id   stream.ID
	pos  stream.Position // what it takes for the head

	mu       sync.Mutex
	heard    map[byte][]byte // the last body of each type
	received int
	done     chan struct{}
}

func newBabbler(nc net.Conn, s *script) *babbler {
	b := &babbler{conn: transport.NewConn(nc), nc: nc, s: s, heard: map[byte][]byte{}, done: make(chan struct{})}
	b.conn.SetLimit(transport.MaxBody)
	go func() {
		defer close(b.done)
		for {
			typ, body, err := b.conn.Read()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.heard[typ] = append([]byte{}, body...)
			b.received += len(body)
			b.mu.Unlock()
		}
	}()
	return b
}

func (b *babbler) end() {
	b.nc.Close()
	<-b.done
}

func (b *babbler) last(typ byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.heard[typ]
}

// position is the head, or something near it.
func (b *babbler) position() stream.Position {
	p := b.pos
	switch b.s.next() % 6 {
	case 0:
		p.Offset += b.s.number()
	case 1:
		p.Offset -= min(p.Offset, b.s.number())
	case 2:
		p.Fingerprint = merkle.Summary{Count: b.s.number(), Sum: b.s.number()}
	case 3:
		p.Epoch[0]++
	}
	return p
}

func (b *babbler) item() []any {
	var all []any
	for range b.s.next() % 4 {
		all = append(all, []byte("key00000"+string('0'+rune(b.s.next()%10))), b.s.bytes())
	}
	return all
}

// body makes the body of a frame of a type.
func (b *babbler) body(typ byte) []byte {
	s := b.s
	switch s.next() % 8 {
	case 0:
		return s.bytes() // anything
	case 1:
		return b.last(typ) // what the other side said
	}
	switch typ {
	case hello:
		return encode(newGreeting().at(b.position()).fields()...)
	case welcome:
		return encode(1, b.id, b.position(), b.position(), s.flag(), s.flag(), "welcome", []any{})
	case refused, bye:
		return encode(int(s.next()%13), "the reason")
	case commits:
		return b.commits()
	case head:
		return encode(b.position())
	case ack:
		return encode(b.position().Offset, b.position().Fingerprint, s.flag(), "streaming")
	case syncAsk:
		id, b := s.number(), s.next()
		opening := []byte{}
		if b >= 64 {
			opening = s.opening()
		}
		return encode(id, b%2 == 1, opening)
	case syncQueued, chunkAck:
		return encode(s.number(), s.number())
	case syncStart:
		id, pos, answered := s.number(), b.position(), s.flag()
		s.next()
		return encode(id, pos, answered)
	case syncDone:
		return encode(s.number(), b.position(), s.number(), s.number(), "")
	case compare:
		return encode(s.number(), s.bytes())
	case items:
		return encode(s.number(), s.number(), b.position().Offset, b.item())
	case keys:
		return encode(s.number(), s.number(), b.position().Offset, []any{[]byte("key000001")})
	case syncResult:
		return encode(s.number(), []string{"same", "different", "repaired", "could not tell"}[s.next()%4], "")
	}
	return s.bytes()
}

// commits makes a frame of some commits, which follow each other mostly.
func (b *babbler) commits() []byte {
	m := puppetMaster{pos: b.pos}
	var body []byte
	for range 1 + b.s.next()%3 {
		pos := b.position()
		if b.s.next()%4 > 0 {
			pos = b.pos
			pos.Offset++
			b.pos = pos
		}
		pos.Offset = max(pos.Offset, 1)
		body = append(body, m.encode(pos, stream.Op{Key: []byte("key000001"), Value: b.s.bytes(), Delete: false})...)
	}
	return body
}

// babble sends so many frames, until the script or the connection ends.
func (b *babbler) babble() {
	for n := 0; len(b.s.rest) > 0 && n < 100; n++ {
		typ := b.s.next() % 18
		b.conn.SetWriteDeadline(time.Now().Add(time.Second))
		if b.conn.Write(transport.Frame{Type: typ, Body: b.body(typ)}) != nil {
			return
		}
		if b.s.next()%4 == 0 {
			time.Sleep(time.Duration(b.s.number()%1000) * 100 * time.Millisecond)
		}
		synctest.Wait()
	}
}

// maxAnswer bounds what a peer may be sent for a script, in bytes: some frames
// for each of its own.
const maxAnswer = 8 << 20

// FuzzMasterSession has a follower say anything in any order: the master ends
// the session sooner or later, sends no more than a bound, and serves others as
// ever.
func FuzzMasterSession(f *testing.F) {
	seedScripts(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		bubble(t, func(t *testing.T) {
			h := &hub{}
			m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1, MaxRepairs: 1, TailBytes: 1})
			m.fill(10, "value")
			m.put("another", "commit")
			nc, err := h.dial(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			p := newBabbler(nc, &script{b})
			p.pos = positionOf(t, m.st)
			if p.s.next()%16 > 0 {
				greeting := newGreeting()
				if p.s.flag() {
					greeting = greeting.at(p.position())
				}
				p.conn.Write(transport.Frame{Type: hello, Body: encode(greeting.fields()...)})
			}
			p.babble()
			p.end()
			if p.received > maxAnswer {
				t.Errorf("a script of %d bytes was answered with %d", len(b), p.received)
			}
			other := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "other", Dial: h.dial, Scrub: -1})
			other.waitFor(m.put("after", "all"))
			checkSame(t, m, other)
		})
	})
}

// FuzzFollowerSession has a master say anything in any order: the follower ends
// the session or goes on, holds what its fingerprint says, and can be stopped.
func FuzzFollowerSession(f *testing.F) {
	seedScripts(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		bubble(t, func(t *testing.T) {
			m, s := newPuppetMaster(t), &script{b}
			fl := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: m.l.Dial, Scrub: -1})
			received := 0
			for range 4 {
				p := acceptBabbler(m, s)
				if p == nil {
					break
				}
				p.babble()
				p.end()
				received += p.received
				m.pos = p.pos
			}
			m.l.Close()
			synctest.Wait()
			if received > maxAnswer {
				t.Errorf("a script of %d bytes was answered with %d", len(b), received)
			}
			if got, want := fl.Status().Fingerprint, fingerprint(contents(t, fl.st)).String(); got != want {
				t.Errorf("the copy's fingerprint is %s, from its items it is %s", got, want)
			}
			err := fl.stop()
			if _, ok := errors.AsType[*replica.PeerError](err); !ok && !errors.Is(err, context.Canceled) {
				t.Errorf("the follower ended with %v", err)
			}
		})
	})
}

// acceptBabbler takes the follower's next connection and welcomes it, or
// returns nil if none comes while there is more to say.
func acceptBabbler(m *puppetMaster, s *script) *babbler {
	if len(s.rest) == 0 {
		return nil
	}
	timeout := time.AfterFunc(time.Minute, func() { m.l.Close() })
	defer timeout.Stop()
	nc, err := m.l.Accept()
	if err != nil {
		return nil
	}
	p := newBabbler(nc, s)
	p.id, p.pos = m.id, m.pos
	synctest.Wait()
	if s.next()%16 > 0 {
		p.conn.Write(transport.Frame{Type: welcome, Body: encode(1, p.id, p.pos, p.pos, false, s.flag(), "welcome", []any{})})
	}
	synctest.Wait()
	return p
}

// positionOf returns the position that a store holds.
func positionOf(t *testing.T, st store.Store) stream.Position {
	v, err := st.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	meta, err := v.Meta()
	if err != nil {
		t.Fatal(err)
	}
	return meta.Position
}

// seedScripts adds scripts that are a little like conversations.
func seedScripts(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 0})
	for typ := range byte(18) {
		f.Add([]byte{1, 1, typ, 2, 1, 1, 1, 5, 1, typ, 3, 2, 2, 2, 5, typ, 1})
		// A comparison begins, and then something comes.
		f.Add([]byte{1, 1, syncAsk, 2, 1, 64, 200, 0, 1, compare, 2, 1, 3, 1, 2, 3, 1, typ, 2, 1, 1, 0, 1})
		f.Add([]byte{1, 1, syncAsk, 2, 1, 65, 100, 2, 7, 9, 30, 255, 1, typ, 2, 1, 1, 0, 1})
		f.Add([]byte{1, 1, syncAsk, 2, 1, 0, 1, compare, 2, 1, 3, 1, 2, 3, 1, typ, 2, 1, 1, 0, 1, typ, 1, 1, syncDone, 2, 1, 5, 0, 0, 1})
		f.Add([]byte{1, 1, syncStart, 2, 1, 5, 0, 0, 1, items, 2, 1, 1, 5, 2, 1, 3, 'a', 'b', 'c', 2, 1, 'd', 1, typ, 2, 1, 5, 5, 1, commits, 2, 1, 1, 3, 'x', 'y', 'z', 1})
	}
}
