package replica

import (
	"fmt"
	"net"
	"testing"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/transport"
)

// R1: all that a comparison says in answer to one message, up to a window of
// pieces, was queued at once, and commits waited behind it.
func TestComparisonFilledTheQueueBeyondItsRoom(t *testing.T) {
	const n = 30_000
	side := func(by uint64) *merkle.Snapshot {
		var b merkle.Builder
		for i := range uint64(n) {
			if err := b.Add(fmt.Appendf(nil, "k%06d", i), (i+1)*by); err != nil {
				t.Fatal(err)
			}
		}
		return b.Tree().Snapshot()
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	p := newPeer(transport.NewConn(near)) // which nobody writes out but this test
	p.share = &sharing{bytes: outboundLeast}
	y := &serveSync{s: &session{m: new(Master), peer: p}, id: 1, slot: true, started: true, diff: diff.New(side(3), diff.Config{})}
	other := diff.New(side(5), diff.Config{Parts: 4096})
	first, err := other.Start()
	if err != nil {
		t.Fatal(err)
	}
	y.inbox = first
	most, waited := outboundLeast+diff.DefaultFrameBytes+4096, 0
	for !other.Done() || !y.diff.Done() || len(y.outbox) > 0 {
		if err := y.stepInbox(); err != nil {
			t.Fatal(err)
		}
		if p.bytes > most {
			t.Fatalf("%d bytes wait to be written, want at most %d", p.bytes, most)
		}
		if len(y.outbox) > 0 {
			waited++
		}
		y.todo, y.waiting = nil, 0
		frames, _ := p.take()
		if len(frames) == 0 && !y.diff.Done() {
			t.Fatal("nothing is said, and it is not over")
		}
		for _, f := range frames {
			c, err := parseCompare(f.Body)
			if err != nil {
				t.Fatal(err)
			}
			m, err := diff.Parse(c.msg)
			if err != nil {
				t.Fatal(err)
			}
			out, err := other.Step(m)
			if err != nil {
				t.Fatal(err)
			}
			y.inbox = append(y.inbox, out...)
			for len(other.Findings()) > 0 {
			}
		}
		p.written(frames)
	}
	if waited == 0 {
		t.Error("nothing waited for room: the comparison says too little")
	}
}
