package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// actOne has keys few enough to be printed.
func actOne(ctx context.Context, p *page, _ Options) error {
	p.act("Act one: four keys", "A master and a follower, connected over TCP, with their data in memory.")
	ctx, two, err := listen(ctx)
	if err != nil {
		return err
	}
	defer two.close()
	return within(ctx, "a step of act one", func(ctx context.Context) error {
		for _, step := range []func(context.Context, *page, *pair) error{begin, writeLive, explain, heal} {
			if err := step(ctx, p, two); err != nil {
				return err
			}
		}
		return nil
	})
}

// begin starts a master with three keys and a follower with another one.
func begin(ctx context.Context, p *page, two *pair) error {
	if err := p.next(ctx, "The master listens on %s and holds three keys.", two.address()); err != nil {
		return err
	}
	connected := make(chan struct{}, 1)
	err := two.serve(ctx, store.NewMemory(), replica.MasterConfig{Observer: replica.Observer{
		Follower: func(string, replica.State, string) { offer(connected, struct{}{}) },
	}})
	if err != nil {
		return err
	}
	var ops []stream.Op
	for i := 1; i <= 3; i++ {
		ops = append(ops, stream.Op{Key: fmt.Appendf(nil, "key%d", i), Value: fmt.Appendf(nil, "value%d", i)})
	}
	if _, err := two.master.Write(ctx, ops); err != nil {
		return err
	}
	if err := printCopies(ctx, p, two); err != nil {
		return err
	}

	err = p.next(ctx, "A follower begins with a database that holds a key of its own. It is told "+
		"to adopt that, and to mend nothing until it is asked to.")
	if err != nil {
		return err
	}
	st := store.NewMemory()
	st.Tamper([]byte("key"), []byte("value"))
	err = two.follow(ctx, st, replica.FollowerConfig{
		ID: "follower", Adopt: true, Repair: replica.RepairPolicy{Manual: true},
	})
	if err != nil {
		return err
	}
	// From now on it gets what is written.
	if _, err := take(ctx, connected); err != nil {
		return err
	}
	return printCopies(ctx, p, two)
}

// writeLive writes a key and sees it arrive.
func writeLive(ctx context.Context, p *page, two *pair) error {
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// What a watch yields is in the follower's database. The watch begins when
	// it gets to, so the database is looked at now and then too.
	appliedc := make(chan struct{}, 1)
	go func() {
		for range two.follower.Watch(wctx, 0) {
			offer(appliedc, struct{}{})
		}
	}()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()

	key, value := []byte("key4"), []byte("value4")
	began := time.Now()
	if _, err := two.master.Put(ctx, key, value); err != nil {
		return err
	}
	got, err := two.follower.Get(ctx, key)
	for errors.Is(err, replica.ErrNotFound) {
		select {
		case <-appliedc:
		case <-look.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		got, err = two.follower.Get(ctx, key)
	}
	took := time.Since(began)
	if err != nil {
		return fmt.Errorf("read key4 at the follower: %w", err)
	}
	if string(got) != string(value) {
		return fmt.Errorf("the follower has %q for key4, not %q", got, value)
	}
	err = p.next(ctx, "key4 is written at the master. %s later the follower has it too. "+
		"What differed before differs still, and the fingerprints show it.", seconds(took))
	if err != nil {
		return err
	}
	if m, f := two.master.Status().Fingerprint, two.follower.Status().Fingerprint; m == f {
		return fmt.Errorf("the fingerprints are equal too early: %s", m)
	}
	return printCopies(ctx, p, two)
}

// explain lists what differs.
func explain(ctx context.Context, p *page, two *pair) error {
	if err := p.next(ctx, "diff: what is different at the follower? Nothing is changed."); err != nil {
		return err
	}
	words := map[replica.Kind]string{replica.Missing: "missing", replica.Extra: "extra", replica.Changed: "changed"}
	rep, err := two.follower.Repair(ctx, replica.RepairOptions{DryRun: true, Each: func(d replica.Difference) {
		p.row(fmt.Sprintf("%c %s", d.Kind, d.Key), "%s", words[d.Kind])
	}})
	if err != nil {
		return err
	}
	if rep.Missing != 3 || rep.Extra != 1 || rep.Changed != 0 {
		return fmt.Errorf("%d missing, %d extra, %d changed were found, not 3, 1 and 0", rep.Missing, rep.Extra, rep.Changed)
	}
	return expect(rep, replica.Different)
}

// heal repairs and compares.
func heal(ctx context.Context, p *page, two *pair) error {
	rep, err := two.follower.Repair(ctx, replica.RepairOptions{})
	if err != nil {
		return err
	}
	if err := expect(rep, replica.Repaired); err != nil {
		return err
	}
	err = p.next(ctx, "repair: %s put and %s deleted, for %s in %s and %s.",
		plural(rep.Put, "key"), number(rep.Deleted), size(rep.BytesIn+rep.BytesOut), plural(rep.RoundTrips, "round trip"), seconds(rep.Took))
	if err != nil {
		return err
	}
	items, err := same(ctx, two)
	if err != nil {
		return err
	}
	if items != 4 {
		return fmt.Errorf("there are %d items, not 4", items)
	}
	if err := printCopies(ctx, p, two); err != nil {
		return err
	}
	p.say("Equal fingerprints, and equal byte for byte.")
	return nil
}

// printCopies prints what both hold, as far as they are there.
func printCopies(ctx context.Context, p *page, two *pair) error {
	held, err := keys(ctx, two.master)
	if err != nil {
		return err
	}
	p.copyRow("master", held, two.master.Status().Fingerprint)
	if two.follower == nil {
		return nil
	}
	if held, err = keys(ctx, two.follower); err != nil {
		return err
	}
	p.copyRow("follower", held, two.follower.Status().Fingerprint)
	return nil
}
