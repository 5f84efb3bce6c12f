package replica

import (
	"context"
	"slices"
	"time"
)

// Bounds of the pause after a repair that failed, before one begins by itself
// again. It doubles from failure to failure.
const (
	firstRepairPause = time.Second
	maxRepairPause   = time.Hour
)

// A driftState is what a follower knows about being different. It latches: it
// is cleared by a repair, or by fingerprints that are equal again, and by
// nothing else.
type driftState struct {
	found bool
	why   string
	due   time.Time // when a repair may begin by itself; zero is at once
	pause time.Duration
	// accepted says that a person accepted the master's history: until the copy
	// is its, every repair names what it overwrites.
	accepted bool
}

// failed notes that a repair did not end with equal fingerprints.
func (d *driftState) failed(now time.Time, why string) {
	d.found, d.why = true, why
	d.pause = min(max(2*d.pause, firstRepairPause), maxRepairPause)
	d.due = now.Add(d.pause)
}

// noticeDrift is called when the copy's fingerprint is not the master's at the
// same position. Before the base is complete, and while a repair is under way,
// that is no news.
func (f *Follower) noticeDrift(at driftAt) {
	if !f.meta.Complete || f.sync != nil {
		return
	}
	if !f.drift.found {
		f.drift.found = true
		f.drift.why = "fingerprint " + at.own.String() + " is not the master's " + at.pos.Fingerprint.String()
		f.cfg.Logger.Warn("the copy differs from the master", "offset", at.pos.Offset, "own", at.own.String(), "master", at.pos.Fingerprint.String())
		if f.cfg.Observer.Drift != nil {
			f.cfg.Observer.Drift(at.pos, at.own)
		}
	}
	f.repairWhenDue(time.Now())
}

// afterWelcome begins what a new session begins with: what a person asked for,
// or the repair that the policy asks for.
func (f *Follower) afterWelcome() {
	f.nextAsk()
	p := f.cfg.Repair
	if f.sync == nil && f.link != nil && f.link.repair && !p.Manual && !p.NoConnect {
		f.startSync(nil, f.link.why)
	}
}

// repairWhenDue begins a repair if the policy says that it is time.
func (f *Follower) repairWhenDue(now time.Time) {
	p := f.cfg.Repair
	if f.link == nil || f.link.look || f.sync != nil || p.Manual {
		return
	}
	switch {
	case now.Before(f.drift.due):
	case f.drift.found && !p.NoDrift:
		f.startSync(nil, f.drift.why)
	case !f.meta.Complete && f.link.repair && !p.NoConnect:
		f.startSync(nil, f.link.why)
	case p.Every > 0 && now.Sub(f.lastEnd()) >= p.Every:
		f.startSync(nil, "it is time")
	}
}

// lastEnd returns when the last repair ended, or when the session began.
func (f *Follower) lastEnd() time.Time {
	if f.last != nil {
		if end := f.last.Start.Add(f.last.Took); end.After(f.link.began) {
			return end
		}
	}
	return f.link.began
}

// asked takes a person's request for a repair.
func (f *Follower) asked(ctx context.Context, a *ask) {
	switch {
	case len(f.asks) >= maxAsks:
		a.finish(Report{Outcome: Unknown, Start: time.Now()}, ErrRepairing)
	case f.link != nil && f.sync == nil && !f.link.look:
		f.startSync(a, "asked for")
	case f.link != nil:
		f.asks = append(f.asks, a)
	case f.dial.parked != "" && (a.opts.AcceptRollback || a.opts.DryRun):
		f.asks = append(f.asks, a)
		f.settleAsks()
		f.dial.now(f)
	default:
		why := f.dial.why
		if why == "" {
			why = "there is no session with the master yet"
		}
		a.finish(Report{Outcome: Unknown, Reason: why, Start: time.Now()}, &notConnected{why})
	}
}

// A notConnected is ErrNotConnected with the reason.
type notConnected struct{ why string }

func (e *notConnected) Error() string        { return ErrNotConnected.Error() + ": " + e.why }
func (e *notConnected) Is(target error) bool { return target == ErrNotConnected }

// cancelAsk is called when whoever asked no longer waits. A dry run is of use
// to nobody else; a repair goes on.
func (f *Follower) cancelAsk(a *ask) {
	f.asks = slices.DeleteFunc(f.asks, func(b *ask) bool { return a == b })
	f.takeBack()
	if y := f.sync; y != nil && y.ask == a {
		if y.rep.DryRun {
			// The report has nobody to go to; ending cannot fail here.
			_ = y.end(Unknown, "interrupted")
			return
		}
		y.ask = nil
	}
}

// takeBack forgets the consent, or the wish to look, of those who no longer wait
// for a session: begin refuses one that was asked for with it.
func (f *Follower) takeBack() {
	d := &f.dial
	if !d.rollback && !d.look {
		return
	}
	d.rollback = slices.ContainsFunc(f.asks, func(a *ask) bool { return a.opts.AcceptRollback && !a.opts.DryRun })
	d.look = !d.rollback && slices.ContainsFunc(f.asks, func(a *ask) bool { return a.opts.DryRun })
}

// nextAsk begins the next repair that a person asked for.
func (f *Follower) nextAsk() {
	if f.sync != nil {
		return
	}
	if f.looking() {
		f.nextLook()
		return
	}
	if len(f.asks) == 0 {
		return
	}
	if f.link == nil {
		for _, a := range f.asks {
			a.finish(Report{Outcome: Unknown, Reason: f.dial.why, Start: time.Now()}, &notConnected{f.dial.why})
		}
		f.asks = nil
		return
	}
	a := f.asks[0]
	f.asks = f.asks[1:]
	f.startSync(a, "asked for")
}
