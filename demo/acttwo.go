package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/stream"
)

// A scene is act two as it goes on.
type scene struct {
	*pair
	page    *page
	opt     Options
	traffic *traffic
	fault   *fault

	driftc  chan drift  // what the follower noticed
	reportc chan report // how its repairs ended

	copied  uint64        // bytes that the first copy took
	mended  report        // the repair of what the fault did
	healthy time.Duration // from the notice to the end of that repair
}

// A drift is what a follower noticed first.
type drift struct {
	at  stream.Position
	own merkle.Summary
	now time.Time
}

// A report is how a repair ended, and the damage done until then.
type report struct {
	replica.Report
	damage damage
}

// actTwo has keys too many to print.
func actTwo(ctx context.Context, p *page, opt Options) (err error) {
	p.act("Act two: "+plural(opt.Keys, "key"), "The same with two Badger databases on disk, every commit synced, "+
		"and the default policy: the follower repairs itself when it connects and when it notices a difference.")
	dir, err := os.MkdirTemp("", "sdiff-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var stores []*badgerstore.Store
	defer func() {
		for _, st := range stores {
			if cerr := st.Close(); err == nil {
				err = cerr
			}
		}
	}()
	for _, name := range []string{"master", "follower"} {
		st, err := badgerstore.Open(filepath.Join(dir, name), badgerstore.Options{Memory: badgerstore.MinMemory})
		if err != nil {
			return err
		}
		stores = append(stores, st)
	}
	s := &scene{
		page: p, opt: opt, traffic: newTraffic(opt.Seed),
		fault:  newFault(opt.Seed, opt.Bad),
		driftc: make(chan drift, 64), reportc: make(chan report, 64),
	}
	if ctx, s.pair, err = listen(ctx); err != nil {
		return err
	}
	defer s.pair.close()
	steps := []func(context.Context) error{
		func(ctx context.Context) error { return s.load(ctx, stores[0]) },
		func(ctx context.Context) error { return s.firstCopy(ctx, stores[1]) },
		s.noticed, s.cost, s.verify,
	}
	for _, step := range steps {
		if err := within(ctx, "a step of act two", step); err != nil {
			return err
		}
	}
	return nil
}

// load fills the master and starts the live writes.
func (s *scene) load(ctx context.Context, st *badgerstore.Store) error {
	if err := s.serve(ctx, st, replica.MasterConfig{}); err != nil {
		return err
	}
	began := time.Now()
	if err := s.traffic.load(ctx, s.master, s.opt.Keys); err != nil {
		return err
	}
	took := time.Since(began)
	err := s.page.next(ctx, "The master on %s loads %s of 16 bytes with values of %d in %s: %s keys a second.",
		s.address(), plural(s.opt.Keys, "key"), valueBytes, seconds(took), number(uint64(float64(s.opt.Keys)/took.Seconds())))
	if err != nil {
		return err
	}
	s.run(ctx, "writing", func(ctx context.Context) error { return s.traffic.run(ctx, s.master, s.opt.Rate) })
	s.page.say("From now on it takes up to %s ops a second more: new values, new keys, deletes.", number(s.opt.Rate))
	return nil
}

// firstCopy starts an empty follower.
func (s *scene) firstCopy(ctx context.Context, st *badgerstore.Store) error {
	err := s.follow(ctx, st, replica.FollowerConfig{
		ID: "follower", Fault: s.fault.apply,
		Observer: replica.Observer{
			Drift: func(at stream.Position, own merkle.Summary) { offer(s.driftc, drift{at, own, time.Now()}) },
			// The fault is the calling goroutine's, so it may be read here.
			Repair: func(r replica.Report) { offer(s.reportc, report{r, s.fault.damage}) },
		},
	})
	if err != nil {
		return err
	}
	r, err := take(ctx, s.reportc)
	if err != nil {
		return err
	}
	if err := expect(r.Report, replica.Repaired); err != nil {
		return err
	}
	s.copied = r.BytesIn + r.BytesOut
	if err := s.follower.WaitFor(ctx, s.traffic.position()); err != nil {
		return err
	}
	return s.page.next(ctx, "An empty follower connects. %s are copied in %s while writes go on: %s, "+
		"and then the fingerprints are equal.",
		plural(r.Put, "key"), seconds(r.Took), size(s.copied))
}

// noticed lets the fault loose, and waits until the follower has noticed and
// mended all of it.
func (s *scene) noticed(ctx context.Context) error {
	s.fault.armed.Store(true)
	d, err := take(ctx, s.driftc)
	if err != nil {
		return err
	}
	if d.at.Fingerprint == d.own {
		return fmt.Errorf("the follower noticed %v where the master has %v", d.own, d.at.Fingerprint)
	}
	if s.mended, err = s.healed(ctx); err != nil {
		return err
	}
	s.healthy = s.mended.Start.Add(s.mended.Took).Sub(d.now)
	f := s.mended.damage
	if f.dropped+f.garbled != s.opt.Bad {
		return fmt.Errorf("%d ops were damaged, not %d", f.dropped+f.garbled, s.opt.Bad)
	}
	first := s.traffic.offset(f.serial)
	if d.at.Offset < first {
		return fmt.Errorf("the follower noticed at offset %d what happened at %d", d.at.Offset, first)
	}
	err = s.page.next(ctx, "A fault: on their way into the follower's database %s get lost and %s garbled, "+
		"in %s. Nothing reports an error, but each commit carries the fingerprint of the dataset after it.",
		plural(f.dropped, "op"), number(f.garbled), plural(f.commits, "commit"))
	if err != nil {
		return err
	}
	s.page.row("first damage", "in commit %s", number(first))
	s.page.row("noticed", "%s", when(d.at.Offset, first))
	s.page.row("fingerprints", "%v follower", d.own)
	s.page.row("", "%v master", d.at.Fingerprint)
	return nil
}

// when says where damage was noticed.
func when(noticed, first uint64) string {
	if noticed == first {
		return "at that very commit"
	}
	return fmt.Sprintf("at commit %s, %s later", number(noticed), plural(noticed-first, "commit"))
}

// healed waits for the repair after which all damage has been done and mended.
// Its figures are those of all repairs since.
func (s *scene) healed(ctx context.Context) (report, error) {
	var sum replica.Report
	for {
		r, err := take(ctx, s.reportc)
		if err != nil {
			return report{}, err
		}
		if sum.Start.IsZero() {
			sum.Start = r.Start
		}
		sum.Missing += r.Missing
		sum.Extra += r.Extra
		sum.Changed += r.Changed
		sum.Put += r.Put
		sum.Deleted += r.Deleted
		sum.BytesIn += r.BytesIn
		sum.BytesOut += r.BytesOut
		sum.CompareBytes += r.CompareBytes
		sum.RoundTrips += r.RoundTrips
		sum.Rounds += r.Rounds
		sum.Method = r.Method
		if (r.Outcome == replica.Repaired || r.Outcome == replica.Same) && r.damage.left == 0 {
			sum.Outcome, sum.Offset = replica.Repaired, r.Offset
			sum.Took = r.Start.Add(r.Took).Sub(sum.Start)
			return report{sum, r.damage}, nil
		}
	}
}

// cost prints what the repair was.
func (s *scene) cost(ctx context.Context) error {
	r := s.mended
	if r.Missing+r.Extra+r.Changed == 0 {
		return errors.New("the repair found nothing")
	}
	err := s.page.next(ctx, "The follower repairs itself while writes go on. %s after it noticed, "+
		"its fingerprint is the master's again.", seconds(s.healthy))
	if err != nil {
		return err
	}
	s.page.row("differences", "%s missing, %s extra, %s changed", number(r.Missing), number(r.Extra), number(r.Changed))
	s.page.row("comparing", "%s in %s of %s, the last by %s", size(r.CompareBytes), plural(r.RoundTrips, "round trip"), plural(r.Rounds, "comparison"), r.Method)
	wire := r.BytesIn + r.BytesOut
	s.page.row("on the wire", "%s, values and live writes included", size(wire))
	s.page.row("a full copy", "%s: %.0f times as much", size(s.copied), float64(s.copied)/float64(wire))
	return nil
}

// verify ends the writes and compares everything.
func (s *scene) verify(ctx context.Context) error {
	s.traffic.stop()
	if err := s.follower.WaitFor(ctx, s.traffic.position()); err != nil {
		return err
	}
	items, err := same(ctx, s.pair)
	if err != nil {
		return err
	}
	for name, r := range map[string]interface {
		Verify(context.Context) (replica.VerifyReport, error)
	}{"master": s.master, "follower": s.follower} {
		switch rep, err := r.Verify(ctx); {
		case err != nil:
			return fmt.Errorf("verify the %s: %w", name, err)
		case !rep.OK || rep.Items != uint64(items):
			return fmt.Errorf("the %s's store does not hold what its tree says: %d of %d items are bad", name, rep.Bad, rep.Items)
		}
	}
	ops := s.traffic.commits.Load() * commitOps
	err = s.page.next(ctx, "Writes end after %s. Both databases are read back and compared byte for byte: "+
		"%s, all equal.", plural(ops, "live op"), plural(items, "item"))
	if err != nil {
		return err
	}
	s.page.row("master", "%s", s.master.Status().Fingerprint)
	s.page.row("follower", "%s", s.follower.Status().Fingerprint)
	return nil
}

// offer sends v unless the channel is full: an Observer must not wait.
func offer[T any](c chan<- T, v T) {
	select {
	case c <- v:
	default:
	}
}

// take receives from c unless ctx ends first.
func take[T any](ctx context.Context, c <-chan T) (v T, err error) {
	select {
	case v = <-c:
		return v, nil
	case <-ctx.Done():
		return v, context.Cause(ctx)
	}
}
