package replica

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"time"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
	"github.com/sdiff/sdiff/transport"
)

// Bounds of the pause between two attempts to connect. It doubles from attempt
// to attempt, is drawn from the upper half of its range so that followers do
// not come all at once, and begins anew only after a session was really served.
const (
	firstPause = 20 * time.Millisecond
	maxPause   = 10 * time.Second
)

// A link is the follower's side of a session.
type link struct {
	peer     *peer
	began    time.Time
	why      string // what the master said in its welcome
	repair   bool   // the master advised one
	catching bool   // behind head since the beginning
	look     bool   // only to compare: nothing of it changes the copy
}

// A dialer keeps the state of connecting. It is owned by the follower's loop.
type dialer struct {
	donec  chan dialed
	timer  *time.Timer
	chance *rand.Rand
	busy   bool
	pause  time.Duration
	why    string // why there is no session
	parked string // why the master cannot confirm the position
	// rollback is a person's consent to go on with a master that cannot.
	rollback bool
	// look is a person's wish to compare with it all the same.
	look   bool
	ended  time.Time // when the last session did
	served bool      // any session since the start
	// contradicted is the epoch in which a master could not confirm the
	// position. Once its log is trimmed it cannot tell any more, but within the
	// epoch that changes nothing (P1).
	contradicted  stream.Epoch
	contradiction string // what the master said then
}

type dialed struct {
	conn     *transport.Conn
	w        welcome
	rollback bool // the hello said so
	look     bool // the hello did not say where the copy stands
	err      error
}

// init seeds the pauses with the follower's id and the time, so that no two
// followers draw the same ones, and that a test in fake time can be repeated.
func (d *dialer) init(id string) {
	h := fnv.New64a()
	h.Write([]byte(id))
	d.chance = rand.New(rand.NewPCG(h.Sum64(), uint64(time.Now().UnixNano())))
	d.donec = make(chan dialed, 1)
	d.timer = time.NewTimer(time.Hour)
	d.timer.Stop()
	d.pause = firstPause
}

// discard closes a connection that came too late for the loop.
func (d *dialer) discard() {
	select {
	case r := <-d.donec:
		if r.conn != nil {
			r.conn.Close()
		}
	default:
	}
}

// connect begins an attempt unless one is under way.
func (f *Follower) connect(ctx context.Context) {
	d := &f.dial
	if d.busy || f.link != nil {
		return
	}
	look := d.look && d.parked != ""
	if f.readOnly != "" && !look && f.noRoom() {
		return
	}
	d.busy = true
	h := hello{
		min: versionMin, max: versionMax,
		dataset: f.meta.Dataset, id: f.cfg.ID, hash: f.cfg.Hash.ID(),
		pos: f.meta.Position, summary: f.tree.Summary(),
		complete: f.meta.Complete, durable: f.st.Info().Sync, rollback: d.rollback,
	}
	if look {
		h.pos, h.complete, h.rollback = stream.Position{}, false, false
	}
	f.wg.Go(func() {
		conn, w, err := f.handshake(ctx, h)
		d.donec <- dialed{conn, w, h.rollback, look, err}
	})
}

// noRoom reports whether the store still has no room for what the master would
// send, again and again. It is asked about once a second. Who wants a repair
// meanwhile is told why there is none.
func (f *Follower) noRoom() bool {
	if store.Room(f.st) == nil {
		return false
	}
	for _, a := range f.asks {
		a.finish(Report{Outcome: Unknown, Reason: f.readOnly, Start: time.Now()}, &notConnected{f.readOnly})
	}
	f.asks = nil
	f.dial.rollback, f.dial.look = false, false
	f.dial.pause = firstPause
	f.dial.timer.Reset(roomEvery)
	return true
}

// handshake dials and says hello. It runs beside the loop.
func (f *Follower) handshake(ctx context.Context, h hello) (*transport.Conn, welcome, error) {
	ctx, cancel := context.WithTimeout(ctx, transport.DialTimeout)
	defer cancel()
	nc, err := f.cfg.Dial(ctx)
	if err != nil {
		return nil, welcome{}, err
	}
	conn := transport.NewConn(nc)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	w, err := exchange(conn, h)
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
			err = errors.New("the master did not answer hello in time")
		}
		return nil, welcome{}, err
	}
	return conn, w, nil
}

func exchange(conn *transport.Conn, h hello) (welcome, error) {
	if err := conn.Write(transport.Frame{Type: frameHello, Body: h.append()}); err != nil {
		return welcome{}, err
	}
	typ, body, err := conn.Read()
	if err != nil {
		return welcome{}, fmt.Errorf("no answer to hello: %w", err)
	}
	switch typ {
	case frameWelcome:
		w, err := parseWelcome(body)
		if err == nil {
			conn.SetLimit(transport.MaxBody)
		}
		return w, err
	case frameRefused:
		g, err := parseGoodbye(body)
		if err != nil {
			return welcome{}, err
		}
		return welcome{}, &PeerError{g.code, g.reason}
	}
	return welcome{}, protocolErrorf("the answer to hello is a frame of type %d", typ)
}

// later schedules the next attempt.
func (d *dialer) later(f *Follower) {
	if d.busy || f.link != nil {
		return
	}
	half := d.pause / 2
	d.timer.Reset(half + time.Duration(d.chance.Int64N(int64(half)+1)))
	d.pause = min(2*d.pause, maxPause)
}

// now makes the next attempt begin at once.
func (d *dialer) now(f *Follower) {
	if !d.busy && f.link == nil {
		d.timer.Reset(0)
	}
}

// dialed takes the result of an attempt.
func (f *Follower) dialed(ctx context.Context, r dialed) error {
	d := &f.dial
	d.busy = false
	if r.err == nil {
		return f.begin(r)
	}
	if ctx.Err() != nil {
		return nil
	}
	parked := ""
	if p, ok := errors.AsType[*PeerError](r.err); ok {
		switch p.Code {
		case CodeDuplicate:
			if time.Since(d.ended) < f.cfg.Silence {
				// It is our own last session, of which the master is not rid yet.
				if d.look || d.rollback {
					d.pause = firstPause // somebody waits
				}
				d.later(f)
				return nil
			}
		case CodeHistory:
			parked = p.Reason
			d.contradicted, d.contradiction = f.meta.Position.Epoch, p.Reason
		case CodeVersion, CodeDataset, CodeHash:
			if !d.served {
				return &fatalError{p}
			}
			parked = p.Reason
		}
		f.contact = time.Now()
	}
	if f.cfg.Observer.Session != nil {
		f.cfg.Observer.Session(r.err)
	}
	if why := r.err.Error(); why != d.why {
		f.cfg.Logger.Warn("no session with the master", "reason", why)
	}
	d.why, d.parked = r.err.Error(), parked
	if d.rollback && !r.rollback || d.look && !r.look {
		// The consent, or the wish, came while this attempt was under way.
		d.now(f)
		return nil
	}
	for _, a := range f.asks {
		a.finish(Report{Outcome: Unknown, Reason: d.why, Start: time.Now()}, &notConnected{d.why})
	}
	f.asks = nil
	d.rollback, d.look = false, false
	d.later(f)
	return nil
}

// begin takes over a session that the master has welcomed.
func (f *Follower) begin(r dialed) error {
	w, meta := r.w, f.meta
	fail := func(err error) error {
		r.conn.Close()
		f.dial.why = err.Error()
		return err
	}
	switch {
	case !meta.Dataset.IsZero() && w.dataset != meta.Dataset:
		return fail(protocolErrorf("the master welcomed dataset %v as %v", meta.Dataset, w.dataset))
	case r.rollback && !f.dial.rollback:
		return fail(errors.New("nobody accepts the master's history any more"))
	case r.look && w.resume:
		return fail(protocolErrorf("the master goes on from %d, but nothing was said of a position", w.start.Offset))
	case r.look:
		return f.beginLook(r)
	case w.resume && (w.start.Offset != meta.Position.Offset || w.start.Fingerprint != meta.Position.Fingerprint || !meta.Complete):
		return fail(protocolErrorf("the master goes on from %d, but the copy stands at %d", w.start.Offset, meta.Position.Offset))
	case !w.resume && !r.rollback && !w.start.Epoch.IsZero() && w.start.Epoch == f.dial.contradicted:
		f.dial.parked = "the master's log no longer reaches back to where it contradicted this copy: " + f.dial.contradiction
		return fail(errors.New(f.dial.parked))
	}
	meta.Dataset, meta.History = w.dataset, w.history
	meta.Position = w.start
	if !w.resume {
		meta.Complete = false
	}
	if err := f.write(&store.Txn{Meta: meta}); err != nil {
		return fail(err)
	}
	if !w.resume {
		f.feed.gap(w.start) // not before: a watcher is never ahead of the store
	}
	now := time.Now()
	f.link = &link{peer: newPeer(r.conn), began: now, why: w.why, repair: w.repair, catching: w.start.Offset < w.head.Offset}
	f.head, f.contact, f.progress = w.head, now, now
	f.heads.note(w.head.Offset, now)
	f.dial.why, f.dial.parked, f.dial.rollback, f.dial.served = "", "", false, true
	f.dial.contradicted = stream.Epoch{}
	f.wg.Go(f.link.peer.run)
	f.cfg.Logger.Info("connected to the master", "address", r.conn.RemoteAddr(), "from", w.start.Offset, "head", w.head.Offset, "resume", w.resume, "why", w.why)
	f.publish()
	f.express()
	f.ack()
	f.afterWelcome()
	return nil
}

// drop ends the session, if there is one.
func (f *Follower) drop(err error) {
	if f.link == nil {
		return
	}
	f.undoBatch()
	l := f.link
	f.link, f.dial.ended = nil, time.Now()
	if l.peer.heard.Sub(l.began) > f.cfg.Silence {
		// A master that welcomes and says nothing more serves nobody.
		f.dial.pause = firstPause
	}
	if !l.look {
		f.dial.why = err.Error()
	}
	l.peer.bye(farewell(err))
	f.cfg.Logger.Info("the session with the master ended", "reason", err)
	if f.cfg.Observer.Session != nil {
		f.cfg.Observer.Session(err)
	}
	if f.sync != nil {
		f.sync.abandon("the session ended: " + err.Error())
	}
	f.publish()
}
