package replica

import (
	"net"
	"testing"
	"testing/synctest"

	"github.com/sdiff/sdiff/transport"
)

// What is being written to a peer that takes nothing counts, too: a queue was
// filled again as soon as its sender had taken what was in it.
func TestPeerThatReadsNothingHeldTheBoundTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		p := newPeer(transport.NewConn(near))
		go p.run()
		const size = 100 << 10
		sent := 0
		for range 3 { // the sender takes what it can get between
			for p.room() {
				p.send(frameCommits, make([]byte, size))
				sent += size
			}
			synctest.Wait()
		}
		if most := outboundBytes + size; sent > most {
			t.Errorf("%d bytes are held for a peer that reads nothing, want at most %d", sent, most)
		}
		got := transport.NewConn(far)
		got.SetLimit(transport.MaxBody)
		for range sent / size {
			if _, body, err := got.Read(); err != nil || len(body) != size {
				t.Fatalf("%d bytes, %v", len(body), err)
			}
		}
		synctest.Wait()
		if p.mu.Lock(); p.bytes != 0 || p.out != nil {
			t.Errorf("%d bytes in %d frames are left", p.bytes, len(p.out))
		}
		p.mu.Unlock()
		p.end(net.ErrClosed)
		far.Close()
		synctest.Wait()
	})
}

// A session that is behind had a turn for each frame that was written; now it has
// one for half of the queue.
func TestRoomComesBackInOnePiece(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	p := newPeer(transport.NewConn(near)) // which nobody writes out but this test
	const size = outboundBytes / 16
	told := func() bool {
		select {
		case <-p.drainedc:
			return true
		default:
			return false
		}
	}
	for round := range 3 {
		for p.room() {
			p.send(frameCommits, make([]byte, size))
		}
		turns := 0
		for {
			frames, _ := p.take()
			if len(frames) == 0 {
				break
			}
			p.written(frames)
			if !told() {
				continue
			}
			turns++
			if !p.room() || p.bytes > outboundBytes/2 {
				t.Errorf("round %d: told of room with %d bytes left", round, p.bytes)
			}
		}
		if turns != 1 {
			t.Errorf("round %d: %d turns, want one", round, turns)
		}
		p.send(frameHead, nil)
		frames, _ := p.take()
		if p.written(frames); told() {
			t.Errorf("round %d: told of room that nobody missed", round)
		}
	}
}

// What waits for all followers together is bounded, too: a MiB for each of a
// hundred that are far behind was most of a small budget of memory.
func TestManyPeersThatReadNothingShareTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := &sharing{bytes: 4 << 20}
		sent, ends := 0, []func(){}
		all.peers.Add(20)
		for range 20 {
			near, far := net.Pipe()
			p := newPeer(transport.NewConn(near))
			p.share = all
			go p.run()
			for range 3 {
				for p.room() {
					p.send(frameCommits, make([]byte, 10<<10))
					sent += 10 << 10
				}
				synctest.Wait()
			}
			ends = append(ends, func() { p.end(net.ErrClosed); far.Close() })
		}
		if most := 4<<20 + 20*(10<<10); sent > most || sent < 4<<20 {
			t.Errorf("%d bytes are held for 20 peers that read nothing, want 4 MiB and at most %d", sent, most)
		}
		for _, end := range ends {
			end()
		}
		synctest.Wait()
	})
	for peers, want := range map[int64]int{0: outboundBytes, 1: outboundBytes, 3: (2 << 20) / 3, 1000: outboundLeast} {
		s := sharing{bytes: 2 << 20}
		s.peers.Store(peers)
		if got := s.part(); got != want {
			t.Errorf("of 2 MiB each of %d peers has %d, want %d", peers, got, want)
		}
	}
}
