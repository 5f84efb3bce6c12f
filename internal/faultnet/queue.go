package faultnet

import (
	"sync"
	"time"
)

// queueBytes bounds what one direction of a connection holds in flight.
const queueBytes = 4 << 20

// An item is some bytes in flight, or the end of the stream.
type item struct {
	due  time.Time // when it arrives
	data []byte
	end  end
}

// An end is how a stream ended.
type end uint8

const (
	notEnd   end = iota
	endEOF       // the sender said so
	endReset     // the sender's connection failed
)

// A queue is a bounded sequence of items between one goroutine that puts and
// one that takes.
type queue struct {
	mu    sync.Mutex
	items []item
	bytes int
	// One token each: look again.
	putc, takec chan struct{}
}

func newQueue() *queue {
	return &queue{putc: make(chan struct{}, 1), takec: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// put appends an item when there is room for it, or any at all for a first. It
// reports false if closec was closed before.
func (q *queue) put(it item, closec <-chan struct{}) bool {
	for {
		q.mu.Lock()
		if len(q.items) == 0 || q.bytes+len(it.data) <= queueBytes {
			q.items = append(q.items, it)
			q.bytes += len(it.data)
			q.mu.Unlock()
			signal(q.takec)
			return true
		}
		q.mu.Unlock()
		select {
		case <-q.putc:
		case <-closec:
			return false
		}
	}
}

// take removes the oldest item, or waits for one. It reports false if closec
// was closed before.
func (q *queue) take(closec <-chan struct{}) (item, bool) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 {
			it := q.shift()
			q.mu.Unlock()
			signal(q.putc)
			return it, true
		}
		q.mu.Unlock()
		select {
		case <-q.takec:
		case <-closec:
			return item{}, false
		}
	}
}

// shift removes the oldest item. The caller holds mu.
func (q *queue) shift() item {
	it := q.items[0]
	q.items[0] = item{}
	q.items = q.items[1:]
	q.bytes -= len(it.data)
	return it
}

// gather appends to data what is due by now without waiting, while that stays
// within most bytes, and returns how many items that were.
func (q *queue) gather(data []byte, most int, now time.Time) ([]byte, int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for len(q.items) > 0 {
		it := q.items[0]
		if it.end != notEnd || it.due.After(now) || len(data)+len(it.data) > most {
			break
		}
		data = append(data, q.shift().data...)
		n++
	}
	if n > 0 {
		signal(q.putc)
	}
	return data, n
}
