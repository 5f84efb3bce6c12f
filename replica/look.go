package replica

import (
	"errors"
	"time"
)

// A parked follower may compare itself with the master that cannot confirm its
// position, for a person who has to decide. It says hello as one that has no
// position, and so gets a session. Nothing that comes over that session changes
// the copy; when nobody has a question any more it ends, and the follower is
// parked as before.

// beginLook takes over a session that is only to compare.
func (f *Follower) beginLook(r dialed) error {
	now := time.Now()
	f.link = &link{peer: newPeer(r.conn), began: now, why: r.w.why, look: true}
	f.contact, f.dial.look = now, false
	f.wg.Go(f.link.peer.run)
	f.cfg.Logger.Info("connected to the master to compare only", "address", r.conn.RemoteAddr())
	f.publish()
	f.express()
	f.ack()
	f.nextAsk()
	return nil
}

// looking reports whether the session is one that only compares.
func (f *Follower) looking() bool { return f.link != nil && f.link.look }

// nextLook begins the next dry run over a session that only compares, or ends
// the session. Who asked for anything else gets a session of the right kind.
func (f *Follower) nextLook() {
	for i, a := range f.asks {
		if a.opts.DryRun {
			f.asks = append(f.asks[:i:i], f.asks[i+1:]...)
			f.startSync(a, "asked for, while parked")
			return
		}
	}
	f.drop(errors.New("the comparison has ended"))
	f.settleAsks()
	if f.dial.rollback {
		f.dial.now(f)
		return
	}
	f.dial.later(f)
}

// settleAsks keeps the requests that a parked follower can serve, and answers
// the others.
func (f *Follower) settleAsks() {
	kept := f.asks[:0]
	for _, a := range f.asks {
		switch {
		case a.opts.DryRun:
			f.dial.look = true
		case a.opts.AcceptRollback:
			f.dial.rollback = true
		default:
			a.finish(Report{Outcome: Unknown, Reason: f.dial.why, Start: time.Now()}, &notConnected{f.dial.why})
			continue
		}
		kept = append(kept, a)
	}
	clear(f.asks[len(kept):])
	f.asks = kept
	if f.dial.rollback {
		f.dial.look = false // what is asked first is compared over the real session
	}
}
