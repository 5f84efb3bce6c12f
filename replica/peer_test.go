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
