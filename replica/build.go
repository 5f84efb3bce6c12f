package replica

import (
	"context"
	"errors"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
)

// buildTree makes the tree of everything a view holds, which comes in key
// order, so that building is appending. Each is told of every item. About how
// many there are may be wrong. It ends with ctx, some thousand items late at most.
//
// To read a store takes about as long as to build tree and sketch of what it
// holds: one goroutine does this and one that.
func buildTree(ctx context.Context, v store.View, hash merkle.Hasher, about uint64, each func(key, value []byte)) (*merkle.Tree, error) {
	full, empty := make(chan *lot, lots), make(chan *lot, lots)
	for range lots {
		empty <- new(lot)
	}
	var b merkle.Builder
	b.KeepSketch(about)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	donec := make(chan struct{})
	go func() {
		defer close(donec)
		if err := addLots(&b, full, empty); err != nil {
			cancel(err)
		}
	}()
	err := readLots(ctx, v, hash, full, empty, each)
	<-donec
	if err = errors.Join(err, context.Cause(ctx)); err != nil {
		return nil, err
	}
	return b.Tree(), nil
}

// readLots reads all items into lots until ctx ends.
func readLots(ctx context.Context, v store.View, hash merkle.Hasher, full chan<- *lot, empty <-chan *lot, each func(key, value []byte)) error {
	defer close(full) // whatever each does
	l := <-empty
	err := v.Ascend(nil, nil, func(key, value []byte) bool {
		each(key, value)
		l.add(key, hash.Hash(key, value))
		if l.isFull() {
			full <- l
			l = <-empty
			return ctx.Err() == nil
		}
		return true
	})
	full <- l
	return err
}

// addLots adds what comes in lots, and gives these back. After an error it only
// gives them back.
func addLots(b *merkle.Builder, full <-chan *lot, empty chan<- *lot) (err error) {
	for l := range full {
		at := 0
		for i, end := range l.ends {
			if err == nil {
				err = b.Add(l.keys[at:end], l.hashes[i])
			}
			at = end
		}
		l.reset()
		empty <- l
	}
	return err
}

// lots is how many lots there are: one is filled, one is emptied, and one waits.
const lots = 3

// A lot is some items on their way into a tree.
type lot struct {
	keys   []byte // one after another
	ends   []int  // of each
	hashes []uint64
}

func (l *lot) add(key []byte, hash uint64) {
	l.keys = append(l.keys, key...)
	l.ends = append(l.ends, len(l.keys))
	l.hashes = append(l.hashes, hash)
}

// isFull reports whether the lot is worth a message. The last key may go over
// the bound by its length.
func (l *lot) isFull() bool { return len(l.ends) >= 1000 || len(l.keys) >= 64<<10 }

func (l *lot) reset() { l.keys, l.ends, l.hashes = l.keys[:0], l.ends[:0], l.hashes[:0] }
