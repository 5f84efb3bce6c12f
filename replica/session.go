package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
	"github.com/sdiff/sdiff/transport"
)

// A session is the master's side of one connection, the middleman: a cursor
// into the tail of the log and, now and then, a comparison. Its loop owns it.
// It never waits for the follower, and the writer never waits for it.
type session struct {
	// immutable
	m    *Master
	peer *peer
	id   string

	// owned by loop
	cursor uint64 // newest offset queued for the follower
	// barrier stops the cursor at the position of a view until what belongs
	// there is queued: between the commits up to it and those after.
	barrier *barrier
	viewing bool       // a view was asked for: the cursor waits
	viewc   chan view  // capacity one
	sync    *serveSync // the comparison under way, or nil
	slotc   chan struct{}
	why     string    // what the welcome said
	moved   time.Time // when the follower last acknowledged something new, or everything
	last    uint64    // what it acknowledged last
}

// A barrier is what is to be queued when the cursor stands at offset.
type barrier struct {
	offset uint64
	queue  func()
}

// loop serves the follower until the connection or ctx ends. The error says
// why; a *protocolError is told to the peer.
func (s *session) loop(ctx context.Context) error {
	heartbeat := time.NewTicker(s.m.cfg.Heartbeat)
	defer heartbeat.Stop()
	defer s.stopSync()
	defer s.dropView()
	for {
		changed := s.m.w.tail.Changed()
		head, err := s.pump()
		if err != nil {
			return err
		}
		if !head {
			changed = nil // room, or a view, is what the cursor waits for
		}
		if err := s.pushSync(ctx); err != nil {
			return err
		}
		select {
		case f, ok := <-s.peer.in:
			if !ok {
				return s.peer.cause()
			}
			if err := s.handle(f); err != nil {
				return err
			}
		case <-changed:
		case <-s.peer.drainedc:
		case v := <-s.viewc:
			s.viewing = false
			if err := s.gotView(v); err != nil {
				return err
			}
		case s.slotc <- struct{}{}:
			s.slotc = nil
			s.sync.slot = true
		case now := <-heartbeat.C:
			if err := s.beat(now); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pump moves the cursor: it queues commits as long as there are any and the
// peer's queue has room. It reports whether there are no more.
func (s *session) pump() (head bool, err error) {
	for s.peer.room() {
		if b := s.barrier; b != nil && s.cursor == b.offset {
			s.barrier = nil
			b.queue()
			continue
		}
		if s.viewing {
			return false, nil
		}
		recs, ok := s.m.w.tail.Read(s.cursor+1, s.peer.most()/4)
		if !ok {
			if recs, err = s.readLog(s.peer.most() / 4); err != nil {
				return false, err
			}
		}
		if len(recs) == 0 {
			return true, nil
		}
		for _, rec := range recs {
			if s.barrier != nil && rec.First > s.barrier.offset {
				break
			}
			s.peer.queue(commitsFrame(rec))
			s.cursor = rec.Last
		}
	}
	return false, nil
}

// shareFrom is the size of a record from which on its checksum costs more than
// sharing that among the sessions, in bytes.
const shareFrom = 8 << 10

// shareFrame lets all sessions that send a record share one frame.
func shareFrame(rec *stream.Record) {
	if len(rec.Body) >= shareFrom {
		f := transport.Share(frameCommits, rec.Body)
		rec.Shared = &f
	}
}

// commitsFrame returns the frame that carries a record.
func commitsFrame(rec stream.Record) transport.Frame {
	if f, ok := rec.Shared.(*transport.Frame); ok {
		return *f
	}
	return transport.Frame{Type: frameCommits, Body: rec.Body}
}

// readLog reads what the tail no longer holds from the store.
func (s *session) readLog(maxBytes int) ([]stream.Record, error) {
	v, err := s.m.st.View()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	next, bytes := s.cursor+1, 0
	var recs []stream.Record
	var bad error
	newest := s.m.position().Offset // what is stored beyond it is not told yet
	err = v.Log(next, func(rec stream.Record) bool {
		if rec.First > newest {
			return false
		}
		if rec.First > next {
			bad = fmt.Errorf("the log goes on at %d, the follower needs %d", rec.First, next)
			return false
		}
		if rec, bad = rec.From(next); bad != nil {
			return false
		}
		recs = append(recs, rec)
		next = rec.Last + 1
		bytes += len(rec.Body)
		return bytes < maxBytes
	})
	if err = errors.Join(err, bad); err == nil && len(recs) == 0 && next <= newest {
		err = fmt.Errorf("the log ends before %d", next)
	}
	if err != nil && len(recs) == 0 {
		// The follower comes back, and is repaired.
		s.m.logGap.Store(max(s.m.logGap.Load(), next))
		return nil, &protocolError{CodeLimit, fmt.Sprintf("cannot go on from offset %d: %v", next, err)}
	}
	return recs, nil
}

// askView asks the writer for a view; until it comes the cursor does not move,
// so that it cannot pass the view's position.
func (s *session) askView(ctx context.Context, sketch bool) {
	s.viewing = true
	s.m.wg.Go(func() {
		v, err := s.m.w.viewWith(ctx, sketch)
		v.err = err
		s.viewc <- v
	})
}

// dropView closes a view that was asked for and not used. The writer outlives
// every session and answers soon.
func (s *session) dropView() {
	if !s.viewing {
		return
	}
	if v := <-s.viewc; v.store != nil {
		v.store.Close()
	}
}

func (s *session) gotView(v view) error {
	if v.err != nil {
		return v.err
	}
	if s.sync == nil {
		v.store.Close()
		return nil
	}
	return s.sync.gotView(v)
}

func (s *session) handle(f frame) error {
	switch f.typ {
	case frameAck:
		a, err := parseAck(f.body)
		if err != nil {
			return err
		}
		return s.acked(a)
	case frameSyncAsk:
		a, err := parseSyncAsk(f.body)
		if err != nil {
			return err
		}
		return s.beginSync(a)
	case frameBye:
		g, err := parseGoodbye(f.body)
		if err != nil {
			return err
		}
		return &PeerError{g.code, g.reason}
	case frameCompare, frameChunkAck, frameSyncResult:
		if s.sync == nil {
			return nil // of a comparison that has ended meanwhile
		}
		return s.sync.handle(f)
	}
	return protocolErrorf("a follower sends no frame of type %d", f.typ)
}

// acked takes the follower's word for what it has.
func (s *session) acked(a ack) error {
	if a.offset > s.cursor {
		return protocolErrorf("acknowledged offset %d, but only %d were sent", a.offset, s.cursor)
	}
	now := time.Now()
	var same *bool
	if pub := s.m.w.state.Load(); pub.pos.Offset == a.offset {
		same = new(pub.pos.Fingerprint == a.summary)
	}
	state, why := s.judge(a, now)
	s.m.followers.update(s.id, func(e *entry) {
		e.Acked = a.offset
		e.Complete = a.complete
		e.LastContact = now
		// Under load an ack is rarely of the head. One that was in sync stays so
		// as long as it has nothing else to say.
		stays := e.InSync != nil && *e.InSync && (state == Streaming || state == CatchingUp)
		if same != nil || !stays {
			e.InSync = same
		}
	})
	s.setState(state, why)
	s.m.acks.broadcast()
	return nil
}

// judge returns the state that the master shows of a follower: what that says
// of itself, unless it has been behind for long without taking anything.
func (s *session) judge(a ack, now time.Time) (State, string) {
	if a.offset > s.last || a.offset >= s.m.position().Offset {
		s.moved = now
	}
	s.last = a.offset
	switch state := State(a.state); {
	case now.Sub(s.moved) > 2*s.m.cfg.Silence:
		return Stalled, "it has acknowledged nothing new since " + s.moved.Format(time.RFC3339)
	case state == Streaming:
		return state, ""
	default:
		return state, s.why
	}
}

func (s *session) setState(st State, why string) {
	state, why, changed := s.m.followers.update(s.id, func(e *entry) { e.State, e.Why = st, why })
	if changed && s.m.cfg.Observer.Follower != nil {
		s.m.cfg.Observer.Follower(s.id, state, why)
	}
}

// beat sends a heartbeat and drops a peer that says nothing.
func (s *session) beat(now time.Time) error {
	if d := s.peer.silent(now); d > s.m.cfg.Silence {
		return &protocolError{CodeSilent, fmt.Sprintf("nothing was heard for %v", d.Round(time.Millisecond))}
	}
	s.peer.send(frameHead, head{s.m.position()}.append())
	if s.sync != nil {
		return s.sync.patience(now)
	}
	return nil
}

// choose decides what a follower gets that says where it stands: the commits
// it missed, or the stream from the head and a repair, or nothing until a
// person decides.
func (m *Master) choose(h hello) (welcome, *goodbye, error) {
	pub := m.w.state.Load()
	w := welcome{version: min(h.max, versionMax), dataset: pub.dataset, head: pub.pos, start: pub.pos, history: pub.history}
	fromHead := func(why string) (welcome, *goodbye, error) {
		w.repair, w.why = true, why
		return w, nil, nil
	}
	park := func(why string) (welcome, *goodbye, error) {
		return welcome{}, &goodbye{CodeHistory, why}, nil
	}
	switch {
	case h.rollback:
		return fromHead("a person accepted this master's history")
	case h.pos.IsZero():
		return fromHead("the follower has no position yet")
	case !h.complete:
		return fromHead("the follower's base is not complete")
	}
	end, known := epochEnd(pub, h.pos.Epoch)
	switch {
	case !known:
		return park("this master does not know the history that the follower's position belongs to")
	case h.pos.Offset > end:
		return park(fmt.Sprintf("this master is behind the follower: it has %d commits of that history, the follower %d", end, h.pos.Offset))
	case h.pos.Offset < pub.logStart.Offset && beforeLoss(pub.history, pub.pos.Epoch, m.loss, h.pos.Epoch):
		return park("this master goes on without data that it lost, and the follower, which is of the time before, may hold it")
	case h.pos.Offset < pub.logStart.Offset:
		return fromHead(fmt.Sprintf("the follower asked for %d, the log starts at %d", h.pos.Offset+1, pub.logStart.Offset+1))
	}
	if gap := m.logGap.Load(); h.pos.Offset < gap {
		return fromHead(fmt.Sprintf("the log cannot be read at %d", gap))
	}
	fp, ok, err := m.fingerprintAt(pub, h.pos.Offset)
	switch {
	case err != nil:
		return welcome{}, nil, err
	case !ok:
		return fromHead(fmt.Sprintf("the log no longer holds offset %d", h.pos.Offset))
	case fp != h.pos.Fingerprint:
		return park(fmt.Sprintf("at offset %d this master had fingerprint %v, the follower's position says %v: they have different histories", h.pos.Offset, fp, h.pos.Fingerprint))
	}
	w.start = stream.Position{Epoch: pub.pos.Epoch, Offset: h.pos.Offset, Fingerprint: fp}
	w.resume = true
	if h.summary != fp {
		w.repair, w.why = true, "the follower's copy is not what its position says"
	}
	return w, nil, nil
}

// epochEnd returns the last offset of an epoch in the master's own history.
func epochEnd(pub *published, e stream.Epoch) (uint64, bool) {
	if e == pub.pos.Epoch {
		return pub.pos.Offset, true
	}
	for _, p := range pub.history {
		if p.Epoch == e {
			return p.Offset, true
		}
	}
	return 0, false
}

// fingerprintAt returns the fingerprint that the commit at offset carried, if
// the log still has it.
func (m *Master) fingerprintAt(pub *published, offset uint64) (merkle.Summary, bool, error) {
	switch offset {
	case pub.pos.Offset:
		return pub.pos.Fingerprint, true, nil
	case pub.logStart.Offset:
		return pub.logStart.Fingerprint, true, nil
	}
	c, err := m.commitAt(offset)
	if err != nil || c == nil {
		return merkle.Summary{}, false, err
	}
	return c.Fingerprint, true, nil
}

// commitAt returns a commit of the log, nil if that does not hold it.
func (m *Master) commitAt(offset uint64) (*stream.Commit, error) {
	recs, ok := m.w.tail.Read(offset, 0)
	if !ok {
		v, err := m.st.View()
		if err != nil {
			return nil, err
		}
		defer v.Close()
		err = v.Log(offset, func(rec stream.Record) bool {
			if rec, err := rec.From(offset); err == nil {
				recs = append(recs, rec)
			}
			return false
		})
		if err != nil && !errors.Is(err, store.ErrCorrupt) {
			return nil, err
		}
	}
	if len(recs) == 0 {
		return nil, nil
	}
	c := new(stream.Commit)
	d := stream.NewDecoder(recs[0].Body)
	if !d.Next(c) || c.Offset != offset {
		return nil, nil
	}
	return c, nil
}
