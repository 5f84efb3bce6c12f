package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/stream"
	"github.com/sdiff/sdiff/transport"
)

// The frame types, as docs/PROTOCOL.md numbers them. They are written down
// here once more, so that a change of a number does not go unnoticed.
const (
	hello      byte = 1
	welcome    byte = 2
	refused    byte = 3
	commits    byte = 4
	head       byte = 5
	ack        byte = 6
	syncAsk    byte = 7
	syncQueued byte = 8
	syncStart  byte = 9
	compare    byte = 10
	items      byte = 11
	keys       byte = 12
	chunkAck   byte = 13
	syncDone   byte = 14
	syncResult byte = 15
	bye        byte = 16
)

// A testPeer speaks frames by hand, as the master of a follower under test or
// as the follower of a master under test. Every test is a conversation with
// it, and every expectation a sentence.
type testPeer struct {
	t      *testing.T
	conn   *transport.Conn
	nc     net.Conn // for bytes that are no frames
	ignore []byte   // frame types that want and wantIdle pass over
}

func newPeer(t *testing.T, nc net.Conn, ignore ...byte) *testPeer {
	p := &testPeer{t: t, conn: transport.NewConn(nc), nc: nc, ignore: ignore}
	p.conn.SetLimit(transport.MaxBody)
	t.Cleanup(func() { nc.Close() })
	return p
}

// A message is a frame with its body decoded by another implementation than
// the one under test.
type message struct {
	typ    byte
	fields []any
	body   []byte
}

func (m message) String() string { return fmt.Sprintf("frame %d %v", m.typ, m.fields) }

// send sends a frame whose body is an array of the fields: integers, bytes,
// strings, bools, nil, positions, summaries and arrays of these.
func (p *testPeer) send(typ byte, fields ...any) {
	p.t.Helper()
	p.sendRaw(typ, encode(fields...))
}

func (p *testPeer) sendRaw(typ byte, body []byte) {
	p.t.Helper()
	p.conn.SetWriteDeadline(time.Now().Add(time.Minute))
	if err := p.conn.Write(transport.Frame{Type: typ, Body: body}); err != nil {
		p.t.Fatalf("send frame %d: %v", typ, err)
	}
}

func encode(fields ...any) []byte {
	w := wire.NewWriter(nil)
	put(w, fields)
	return w.Out()
}

func put(w *wire.Writer, v any) {
	switch v := v.(type) {
	case nil:
		w.Nil()
	case int:
		w.Uint(uint64(v))
	case uint64:
		w.Uint(v)
	case bool:
		w.Bool(v)
	case string:
		w.String(v)
	case []byte:
		w.Bytes(v)
	case stream.ID:
		w.Bytes(v[:])
	case merkle.Summary:
		put(w, []any{v.Count, v.Sum})
	case stream.Position:
		put(w, []any{v.Epoch[:], v.Offset, v.Fingerprint.Count, v.Fingerprint.Sum})
	case []any:
		w.Array(len(v))
		for _, e := range v {
			put(w, e)
		}
	default:
		panic(fmt.Sprintf("no encoding for %T", v))
	}
}

// receive returns the next frame that is not ignored.
func (p *testPeer) receive(patience time.Duration) (message, error) {
	deadline := time.Now().Add(patience)
	for {
		p.conn.SetReadDeadline(deadline)
		typ, body, err := p.conn.Read()
		if err != nil {
			return message{}, err
		}
		if slices.Contains(p.ignore, typ) {
			continue
		}
		m := message{typ: typ, body: body}
		if typ == commits {
			return m, nil // a sequence of values
		}
		v, err := msgpack.NewDecoder(bytes.NewReader(body)).DecodeInterface()
		if err != nil {
			p.t.Fatalf("frame %d: %x is no msgpack: %v", typ, body, err)
		}
		var ok bool
		if m.fields, ok = v.([]any); !ok {
			p.t.Fatalf("frame %d: %x is no array", typ, body)
		}
		return m, nil
	}
}

// want waits for a frame of a type, which must be the next one.
func (p *testPeer) want(sentence string, typ byte) message {
	p.t.Helper()
	m, err := p.receive(20 * time.Second)
	if err != nil {
		p.t.Fatalf("%s: got %v, want frame %d", sentence, err, typ)
	}
	if m.typ != typ {
		p.t.Fatalf("%s: got %v, want frame %d", sentence, m, typ)
	}
	return m
}

// wantIdle demands that nothing comes for some time.
func (p *testPeer) wantIdle(sentence string, d time.Duration) {
	p.t.Helper()
	if m, err := p.receive(d); !errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("%s: got %v, %v, want nothing", sentence, m, err)
	}
}

// wantEnd demands a last frame with a code and words in its reason, and then
// the end of the connection.
func (p *testPeer) wantEnd(sentence string, typ byte, code replica.Code, words ...string) {
	p.t.Helper()
	m := p.want(sentence, typ)
	if got := replica.Code(m.num(p.t, 0)); got != code {
		p.t.Errorf("%s: code %v (%s), want %v", sentence, got, m.fields[1], code)
	}
	for _, w := range words {
		if !strings.Contains(m.fields[1].(string), w) {
			p.t.Errorf("%s: the reason is %q, want it to say %q", sentence, m.fields[1], w)
		}
	}
	p.wantClosed(sentence)
}

// wantClosed demands that the connection ends without another frame.
func (p *testPeer) wantClosed(sentence string) {
	p.t.Helper()
	m, err := p.receive(20 * time.Second)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Errorf("%s: got %v, %v, want the end of the connection", sentence, m, err)
	}
	p.nc.Close()
}

// num returns the integer at a path of indexes.
func (m message) num(t *testing.T, path ...int) uint64 {
	t.Helper()
	v := reflect.ValueOf(m.at(t, path...))
	switch {
	case v.CanInt():
		return uint64(v.Int())
	case v.CanUint():
		return v.Uint()
	}
	t.Fatalf("%v: no number at %v", m, path)
	return 0
}

func (m message) at(t *testing.T, path ...int) any {
	t.Helper()
	var v any = m.fields
	for _, i := range path {
		a, ok := v.([]any)
		if !ok || i >= len(a) {
			t.Fatalf("%v: nothing at %v", m, path)
		}
		v = a[i]
	}
	return v
}

func (m message) position(t *testing.T, i int) (p stream.Position) {
	t.Helper()
	copy(p.Epoch[:], m.at(t, i, 0).([]byte))
	p.Offset = m.num(t, i, 1)
	p.Fingerprint = merkle.Summary{Count: m.num(t, i, 2), Sum: m.num(t, i, 3)}
	return p
}

// offsets returns the offsets of a commits frame.
func (m message) offsets(t *testing.T) (all []uint64) {
	t.Helper()
	d := stream.NewDecoder(m.body)
	var c stream.Commit
	for d.Next(&c) {
		all = append(all, c.Offset)
	}
	if d.Err() != nil {
		t.Fatalf("commits frame: %v", d.Err())
	}
	return all
}

// A greeting is a hello in the making; the fields are in their order.
type greeting struct {
	min, max uint64
	dataset  stream.ID
	id, hash string
	pos      stream.Position
	summary  merkle.Summary
	complete bool
	durable  bool
	rollback bool
}

func newGreeting() greeting {
	return greeting{min: 1, max: 1, id: "puppet", hash: "xxh64", durable: true}
}

func (g greeting) fields() []any {
	return []any{"sdiff", g.min, g.max, g.dataset, g.id, g.hash, g.pos, g.summary, g.complete, g.durable, g.rollback, nil}
}

// at makes the greeting that of a complete copy at a position.
func (g greeting) at(pos stream.Position) greeting {
	g.pos, g.summary, g.complete = pos, pos.Fingerprint, true
	return g
}

// dialAs connects to a master. Its heartbeats are ignored.
func dialAs(t *testing.T, h *hub) *testPeer {
	t.Helper()
	nc, err := h.dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return newPeer(t, nc, head)
}

// greet connects to a master and says hello.
func greet(t *testing.T, h *hub, g greeting) *testPeer {
	t.Helper()
	p := dialAs(t, h)
	p.send(hello, g.fields()...)
	return p
}

// A puppetMaster is a listener whose master is the test.
type puppetMaster struct {
	t    *testing.T
	l    *transport.PipeListener
	id   stream.ID
	pos  stream.Position
	tree merkle.Tree
}

func newPuppetMaster(t *testing.T) *puppetMaster {
	m := &puppetMaster{t: t, l: transport.NewPipeListener(), id: stream.NewID()}
	m.pos.Epoch = stream.NewEpoch()
	t.Cleanup(func() { m.l.Close() })
	return m
}

// accept takes the follower's next connection and its hello. Its acks are
// ignored.
func (m *puppetMaster) accept() (*testPeer, message) {
	m.t.Helper()
	nc, err := m.l.Accept()
	if err != nil {
		m.t.Fatal(err)
	}
	p := newPeer(m.t, nc, ack)
	return p, p.want("a follower says hello first", hello)
}

// welcome answers a hello: head and start are here, and nothing was before.
func (m *puppetMaster) welcome(p *testPeer, resume bool) {
	m.t.Helper()
	p.send(welcome, 1, m.id, m.pos, m.pos, resume, !resume, "welcome", []any{})
}

// commit makes the next commit, of one item, and returns its encoding.
func (m *puppetMaster) commit(key, value string) []byte {
	m.tree.Put([]byte(key), merkle.XXH64().Hash([]byte(key), []byte(value)))
	m.pos.Offset++
	m.pos.Fingerprint = m.tree.Summary()
	return m.encode(m.pos, stream.Op{Key: []byte(key), Value: []byte(value)})
}

func (m *puppetMaster) encode(pos stream.Position, ops ...stream.Op) []byte {
	w := wire.NewWriter(nil)
	stream.AppendCommit(w, &stream.Commit{Offset: pos.Offset, Time: 1, Fingerprint: pos.Fingerprint, Ops: ops})
	return w.Out()
}

// start has a new, empty follower connect, compare and find itself complete.
func (m *puppetMaster) start(f *follower) *testPeer {
	m.t.Helper()
	p, _ := m.accept()
	m.welcome(p, false)
	m.sync(p)
	within(m.t, time.Second, "the base is complete", func() bool { return f.Status().Complete })
	return p
}

// sync answers the comparison that the follower asks for with a master that
// holds the same.
func (m *puppetMaster) sync(p *testPeer) {
	m.t.Helper()
	ask := p.want("it asks for a comparison", syncAsk)
	p.send(syncStart, ask.num(m.t, 0), m.pos, false)
	res := p.want("it says how that ended", syncResult)
	if res.fields[1] != "same" {
		m.t.Fatalf("the comparison ended with %v, want same", res)
	}
}
