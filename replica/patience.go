package replica

import (
	"fmt"
	"time"
)

// dryPatience is how long the caller of a dry run may leave differences where
// they are. It is shorter than the master's patience, which would cost the
// session.
const dryPatience = syncPatience / 2

// tired ends a dry run whose caller takes nothing off any more, and the session
// with a master that lets a comparison hang. It may be called on nil.
func (y *followSync) tired(now time.Time) error {
	switch {
	case y == nil:
		return nil
	case y.untaken > 0 && now.Sub(y.offered) >= dryPatience:
		return y.end(Unknown, fmt.Sprintf("nobody took the differences for %v", dryPatience))
	case y.queued || y.untaken > 0 || y.del != nil:
		// The master waits for others, or for us.
		y.heard = now
		return nil
	}
	return y.hung(now)
}

// stalled reports whether a comparison has made no progress for so long, though
// nobody but the master can make any. It may be called on nil.
func (y *followSync) stalled(after time.Duration) bool {
	return y != nil && !y.queued && y.untaken == 0 && y.del == nil && time.Since(y.heard) > after
}

// hung returns an error if the master owes the comparison something. A
// heartbeat shows that it lives; but a master that lost its place in the
// comparison, or a frame lost on its way, would hold the repair, and every one
// after it, for ever. What the master says about a comparison stands in the
// stream, at a view's offset at the latest: so the copy has to have got as far
// as the head was when patience ran out.
func (y *followSync) hung(now time.Time) error {
	switch {
	case now.Sub(y.heard) < syncPatience:
		y.until = 0
	case y.until == 0:
		y.until = max(y.f.head.Offset, 1)
	case y.f.meta.Position.Offset >= y.until || y.f.head.Offset == 0:
		return &protocolError{CodeSilent, fmt.Sprintf("nothing was heard of the comparison for %v", syncPatience)}
	}
	return nil
}
