package badgerstore

import (
	"sync"

	"github.com/sdiff/sdiff/replica/store"
)

// A gate counts the calls that are inside, so that Close can wait for them.
// Unlike a sync.RWMutex it may be entered again from inside while someone
// waits.
type gate struct {
	mu     sync.Mutex
	inside int
	closed bool
	empty  chan struct{} // closed when the last one leaves a closed gate
}

// enter lets a call in, or returns ErrClosed.
func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return store.ErrClosed
	}
	g.inside++
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.closed && g.inside == 0 {
		close(g.empty)
	}
}

// close closes the gate and waits until nobody is inside. A second call
// returns false.
func (g *gate) close() bool {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return false
	}
	g.closed = true
	g.empty = make(chan struct{})
	if g.inside == 0 {
		close(g.empty)
	}
	g.mu.Unlock()
	<-g.empty
	return true
}
