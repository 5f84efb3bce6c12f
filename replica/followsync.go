package replica

import (
	"bytes"
	"fmt"
	"time"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// Bounds of a comparison on the follower's side.
const (
	maxRounds   = 8        // comparisons within one repair
	maxTouched  = 1 << 20  // keys remembered that the stream touched meanwhile
	maxAnswered = 10 << 20 // keys remembered that the master answered for
	deleteChunk = 2000     // deletes in one transaction
	pieceOps    = 2048     // ops of a chunk in one transaction
	countChunk  = 50_000   // keys counted for the guard in one turn of the loop
	maxAsks     = 16       // requests that wait for the repair under way
)

// A followSync is the follower's side of one repair or dry run, which is one
// comparison or several. It is owned by the follower's loop.
type followSync struct {
	f    *Follower
	ask  *ask // who asked, or nil
	rep  Report
	in0  uint64 // the connection's traffic when it began
	out0 uint64

	round
}

// A round is one comparison at one offset.
type round struct {
	id      uint64
	opening struct { // sent with the ask, if any was
		diff.Message
		bytes    uint64
		answered bool // the ask has begun the comparison
	}
	snap *merkle.Snapshot // at the offset of the comparison; nil before
	diff *diff.Session
	// only holds the items that only the follower holds, by their hashes then;
	// ranges, where the master holds nothing at all.
	only   merkle.Tree
	ranges []diff.Finding
	// answered holds the keys of both that differ: the master has sent them,
	// or said that it cannot.
	answered merkle.Tree
	// touched holds the keys that the stream has touched since.
	touched merkle.Tree
	full    bool // one of the sets above is full: nothing may be deleted
	put     uint64
	bad     uint64 // unsendable
	extra   uint64 // to delete
	del     *deletion
	chunks  uint64    // that came
	untaken int       // chunks of a dry run that the caller has not taken
	offered time.Time // since when
	queued  bool      // the master has others to serve first
	heard   time.Time // when something about the comparison came last
	until   uint64    // patience has run out: where the copy has to be for that to count
}

// startSync begins a repair. There is a session and no repair.
func (f *Follower) startSync(a *ask, why string) {
	y := &followSync{f: f, ask: a}
	y.rep = Report{Why: why, Start: time.Now(), Before: f.tree.Summary().String(), DryRun: a != nil && a.opts.DryRun}
	y.in0, y.out0 = f.link.peer.conn.Traffic()
	f.sync = y
	if a != nil && a.opts.AcceptRollback && !a.opts.DryRun {
		f.drift.accepted = true
	}
	f.cfg.Logger.Info("comparing with the master", "why", why, "dry_run", y.rep.DryRun)
	y.begin()
}

// begin asks the master for a comparison.
func (y *followSync) begin() {
	y.rep.Rounds++
	y.rep.RoundTrips++
	y.f.syncs++
	y.round = round{id: y.f.syncs, heard: time.Now()}
	// The master can answer the opening at once, wherever the copy stands then.
	var body []byte
	counters, cells := y.f.tree.Counters()
	if m, ok := diff.Opening(y.f.tree.Snapshot(), cells, counters); ok {
		body = m.Append(nil)
		y.opening.Message, y.opening.bytes = m, uint64(len(body))
		y.rep.CompareBytes += y.opening.bytes
	}
	y.send(frameSyncAsk, syncAsk{y.id, y.rep.DryRun, body}.append())
}

func (y *followSync) send(typ byte, body []byte) { y.f.link.peer.send(typ, body) }

func (y *followSync) state() State {
	if y.put > 0 || y.del != nil {
		return Repairing
	}
	return Comparing
}

func (y *followSync) handle(fr frame) error {
	y.heard = time.Now()
	switch fr.typ {
	case frameSyncQueued:
		p, err := parsePair("sync queued", fr.body)
		if err == nil && p.id == y.id {
			y.queued = true
			y.f.cfg.Logger.Info("the master serves its limit of comparisons: waiting", "limit", p.n)
		}
		return err
	case frameSyncStart:
		p, err := parseSyncStart(fr.body)
		if err != nil || p.id != y.id {
			return err
		}
		return y.start(p)
	case frameCompare:
		c, err := parseCompare(fr.body)
		if err != nil || c.id != y.id {
			return err
		}
		return y.compare(c)
	case frameItems, frameKeys:
		c, err := parseChunk(fr.typ, fr.body)
		if err != nil || c.id != y.id {
			return err
		}
		if y.snap == nil {
			return protocolErrorf("a chunk before the comparison began")
		}
		if y.chunks++; c.seq != y.chunks {
			return protocolErrorf("chunk %d came where %d was to come", c.seq, y.chunks)
		}
		if fr.typ == frameKeys {
			return y.keys(c)
		}
		return y.items(c)
	case frameSyncDone:
		p, err := parseSyncDone(fr.body)
		if err != nil || p.id != y.id {
			return err
		}
		return y.settle(p)
	}
	return nil
}

// start takes the follower's snapshot at the offset of the master's.
func (y *followSync) start(p syncStart) error {
	f := y.f
	if y.snap != nil || p.pos.Offset != f.meta.Position.Offset && !f.link.look {
		return protocolErrorf("a comparison at %d, but the copy stands at %d", p.pos.Offset, f.meta.Position.Offset)
	}
	y.snap, y.queued = f.tree.Snapshot(), false
	y.rep.Offset, y.rep.Master = p.pos.Offset, p.pos.Fingerprint.String()
	if y.snap.Summary() == p.pos.Fingerprint {
		return y.same()
	}
	// Not before: a sketch that is taken makes the writes that follow copy it.
	y.diff = diff.New(y.snap, diff.Config{Sketch: f.tree.Sketch()})
	var msgs []diff.Message
	var err error
	if _, sent := y.opening.Opens(); p.answered && !sent {
		return protocolErrorf("an answer to an opening that was not sent")
	}
	if y.opening.answered = p.answered; p.answered {
		err = y.diff.StartWith(y.opening.Message)
	} else {
		msgs, err = y.diff.Start()
	}
	if err != nil {
		return &fatalError{fmt.Errorf("BUG: %w", err)}
	}
	y.sendDiff(msgs)
	return nil
}

func (y *followSync) sendDiff(msgs []diff.Message) {
	for _, m := range msgs {
		y.send(frameCompare, compare{y.id, m.Append(nil)}.append())
	}
}

func (y *followSync) compare(c compare) error {
	if y.diff == nil {
		return protocolErrorf("a comparison message before the comparison began")
	}
	m, err := diff.Parse(c.msg)
	if err != nil {
		return protocolErrorf("%v", err)
	}
	out, err := y.diff.Step(m)
	if err != nil {
		return protocolErrorf("%v", err)
	}
	y.sendDiff(out)
	for found := y.diff.Findings(); len(found) > 0; found = y.diff.Findings() {
		for _, fi := range found {
			if fi.Key == nil {
				y.ranges = append(y.ranges, fi)
			} else {
				y.only.Put(fi.Key, fi.Hash)
			}
		}
	}
	return nil
}

// touch notes that the stream has written a key: what the comparison says of
// it is out of date.
func (y *followSync) touch(key []byte) {
	if y.snap == nil || y.full {
		return
	}
	y.touched.Put(key, 0)
	y.full = y.touched.Summary().Count > maxTouched
}

// answer notes that the master holds a key that differs, and counts it.
func (y *followSync) answer(key []byte) Kind {
	if _, ok := y.snap.Get(key); !ok {
		y.rep.Missing++
		return Missing
	}
	y.rep.Changed++
	y.answered.Put(key, 0)
	if y.answered.Summary().Count > maxAnswered {
		y.full = true
	}
	return Changed
}

// items applies a chunk of the master's state at the very position where the
// copy stands.
func (y *followSync) items(c chunk) error {
	f := y.f
	if y.rep.DryRun {
		return protocolErrorf("items in a dry run")
	}
	if c.offset != f.meta.Position.Offset {
		return protocolErrorf("a chunk of offset %d, but the copy stands at %d", c.offset, f.meta.Position.Offset)
	}
	ops := c.ops
	if c.unsendable != nil {
		ops = nil
	}
	for i, op := range c.ops {
		kind := y.answer(op.Key)
		switch {
		case c.unsendable[i]:
			y.bad++
			continue
		case c.unsendable != nil:
			ops = append(ops, op)
		}
		y.overwrite(kind, op.Key)
	}
	ack := func() { y.send(frameChunkAck, pair{c.id, c.seq}.append()) }
	if len(ops) == 0 {
		if err := f.settle(); err != nil {
			return err
		}
		ack()
		return nil
	}
	// While one piece is on its way to the store the next is applied.
	for len(ops) > 0 {
		n := fitting(ops, f.lim)
		then := func() {}
		if n == len(ops) {
			then = ack
		}
		if err := f.startRepair(ops[:n], nil, then); err != nil {
			return err
		}
		y.put += uint64(n)
		y.rep.Put += uint64(n)
		ops = ops[n:]
	}
	return nil
}

// fitting returns how many of the ops fit one transaction, at least one.
func fitting(ops []stream.Op, lim store.Limits) int {
	bytes := 0
	for i := range ops {
		bytes += stream.Size(ops[i : i+1])
		if i > 0 && (i == min(lim.CommitOps, pieceOps) || bytes > lim.CommitBytes) {
			return i
		}
	}
	return len(ops)
}

// settle is called when everything the master found has arrived. What only the
// follower holds is deleted now, if that may be.
func (y *followSync) settle(p syncDone) error {
	if y.diff == nil || !y.diff.Done() {
		return protocolErrorf("the comparison is declared over before it is")
	}
	s := y.diff.Stats()
	y.rep.RoundTrips += s.RoundTrips
	if y.opening.answered { // then the ask is counted twice
		y.rep.RoundTrips--
		y.rep.CompareBytes -= y.opening.bytes
	}
	y.rep.Method, y.rep.MethodWhy = s.Method, p.why
	if s.Method == diff.MethodRanges && s.Why != diff.WhyPeer {
		y.rep.MethodWhy = s.Why // it was this side that went over to ranges
	}
	y.rep.CompareBytes += s.BytesIn + s.BytesOut
	y.rep.Master, y.rep.Unsendable = p.pos.Fingerprint.String(), y.bad
	left := p.left + y.diff.Left()
	if y.rep.DryRun {
		return y.settleDry(left)
	}
	if left > 0 || y.full {
		// What was found is mended; who may be deleted is not known.
		return y.judge("a limit of the comparison was hit")
	}
	y.del = &deletion{y: y, done: p, walk: y.newWalk()}
	return nil // work goes on
}

// guard says why the deletes may not be done without a person's consent (R9).
func (y *followSync) guard(p syncDone) (why, option string) {
	f := y.f
	if y.extra == 0 || y.ask != nil && y.ask.opts.AllowMassDelete {
		return "", ""
	}
	const opt = "--allow-mass-delete"
	switch base := f.meta.Verified; {
	case p.pos.Fingerprint.Count == 0:
		return fmt.Sprintf("the master holds nothing; %d keys would be deleted", y.extra), opt
	case base >= 100 && 2*(f.meta.Deleted+y.extra) > base:
		return fmt.Sprintf("%d keys would be deleted, after %d that repairs have deleted already: more than half of the %d that the copy held", y.extra, f.meta.Deleted, base), opt
	}
	return "", ""
}

// workc is ready while there are deletes to do. It may be called on nil.
func (y *followSync) workc() <-chan struct{} {
	if y == nil || y.del == nil {
		return nil
	}
	return closedc
}

// work does the next piece of what is left when the master has sent everything.
func (y *followSync) work() error { return y.del.step() }

// delete removes a chunk of what only the follower holds.
func (y *followSync) delete(ops []stream.Op) error {
	if err := y.f.applyRepair(ops, func(m *store.Meta) { m.Deleted += uint64(len(ops)) }); err != nil {
		return err
	}
	y.rep.Deleted += uint64(len(ops))
	for i := range ops {
		y.overwrite(Extra, ops[i].Key)
	}
	return nil
}

// overwrite names a key that a repair changes because a person accepted the
// master's history, be it the repair of which he said so or one that goes on
// after that was cut off.
func (y *followSync) overwrite(kind Kind, key []byte) {
	if !y.f.drift.accepted {
		return
	}
	if len(y.rep.Keys) == maxBadKeys {
		y.rep.MoreKeys = true
		return
	}
	y.rep.Keys = append(y.rep.Keys, Difference{kind, bytes.Clone(key)})
}

// judge decides what a round has come to: only equal fingerprints at the same
// offset make a repair verified (R6).
func (y *followSync) judge(limit string) error {
	f := y.f
	y.del = nil
	switch {
	case f.tree.Summary() == f.meta.Position.Fingerprint:
		return y.same()
	case y.bad > 0:
		return y.end(Different, fmt.Sprintf("%d keys are damaged at the master and were left as they are here", y.bad))
	case y.rep.Rounds >= maxRounds && limit != "":
		return y.end(Unknown, limit)
	case y.rep.Rounds >= maxRounds:
		return y.end(Different, fmt.Sprintf("still different after %d rounds", y.rep.Rounds))
	}
	y.send(frameSyncResult, syncResult{y.id, string(Different), limit}.append())
	y.begin()
	return nil
}

// same ends a repair or dry run that found the copy to be the master's.
func (y *followSync) same() error {
	f := y.f
	if !f.meta.Complete || f.meta.Deleted > 0 || f.meta.Verified != f.meta.Position.Fingerprint.Count {
		if !y.rep.DryRun { // which changes nothing
			meta := f.meta
			meta.Complete, meta.Deleted, meta.Verified = true, 0, f.tree.Summary().Count
			if err := f.write(&store.Txn{Meta: meta}); err != nil {
				return err
			}
		}
	}
	f.drift = driftState{}
	f.tree.clearMarks()
	if y.rep.Missing+y.rep.Extra+y.rep.Changed > 0 {
		return y.end(Repaired, "")
	}
	return y.end(Same, "")
}

// end tells the master and whoever asked how it came out.
func (y *followSync) end(o Outcome, why string) error {
	y.send(frameSyncResult, syncResult{y.id, string(o), why}.append())
	y.finish(o, why, nil)
	return nil
}

// abandon ends a repair whose session is gone: nobody can tell how it is.
func (y *followSync) abandon(why string) { y.finish(Unknown, why, nil) }

func (y *followSync) finish(o Outcome, why string, rest *rest) {
	f := y.f
	y.rep.Outcome, y.rep.Reason = o, why
	y.rep.After = f.tree.Summary().String()
	y.rep.Took = time.Since(y.rep.Start)
	if f.link != nil {
		in, out := f.link.peer.conn.Traffic()
		y.rep.BytesIn, y.rep.BytesOut = in-y.in0, out-y.out0
	}
	rep := y.rep
	f.sync = nil
	if !rep.DryRun {
		f.last = &rep
		if o != Same && o != Repaired {
			f.drift.failed(time.Now(), why)
		}
	}
	if rep.NeedsConsent != "" {
		f.cfg.Logger.Warn("a repair stopped and asks", "reason", why, "consent", rep.NeedsConsent)
	}
	f.cfg.Logger.Info("comparison ended", "outcome", string(o), "reason", why, "missing", rep.Missing, "extra", rep.Extra, "changed", rep.Changed, "deleted", rep.Deleted, "rounds", rep.Rounds, "bytes_in", rep.BytesIn, "took", rep.Took)
	if f.cfg.Observer.Repair != nil {
		f.cfg.Observer.Repair(rep)
	}
	// Whoever asked finds the status as the repair left it, and so does the
	// master.
	f.publish()
	f.express()
	f.ack()
	if y.ask != nil {
		y.ask.donec <- result{rep: rep, rest: rest}
	}
	f.nextAsk()
}
