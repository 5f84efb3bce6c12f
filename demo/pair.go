package demo

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"net"
	"slices"
	"sync"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/transport"
)

// A pair is a master and a follower that run until the pair is closed.
type pair struct {
	listener net.Listener
	master   *replica.Master
	follower *replica.Follower

	fail  context.CancelCauseFunc // called if one of them ends by itself
	stops []context.CancelFunc
	wg    sync.WaitGroup
}

// listen returns a pair without replicas, on a free port of the loopback, and
// the context of those who deal with it: it ends when a replica fails.
func listen(ctx context.Context) (context.Context, *pair, error) {
	l, err := transport.Listen("127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	ctx, fail := context.WithCancelCause(ctx)
	return ctx, &pair{listener: l, fail: fail}, nil
}

func (p *pair) address() string { return p.listener.Addr().String() }

// serve starts a master over a store.
func (p *pair) serve(ctx context.Context, st store.Store, cfg replica.MasterConfig) (err error) {
	cfg.Listener = p.listener
	if p.master, err = replica.NewMaster(st, cfg); err != nil {
		return err
	}
	p.run(ctx, "the master", p.master.Run)
	return nil
}

// follow starts a follower over a store.
func (p *pair) follow(ctx context.Context, st store.Store, cfg replica.FollowerConfig) (err error) {
	cfg.Dial = transport.DialTCP(p.address())
	if p.follower, err = replica.NewFollower(st, cfg); err != nil {
		return err
	}
	p.run(ctx, "the follower", p.follower.Run)
	return nil
}

// run starts something that goes on until close, however ctx ends: a step's
// does before the next begins.
func (p *pair) run(ctx context.Context, what string, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stops = append(p.stops, stop)
	p.wg.Go(func() {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			p.fail(fmt.Errorf("%s has ended: %w", what, err))
		}
	})
}

// close ends everything, newest first, and waits for it.
func (p *pair) close() {
	for _, stop := range slices.Backward(p.stops) {
		stop()
	}
	p.wg.Wait()
	p.listener.Close()
	p.fail(nil)
}

// An ascender is a replica as far as reading goes.
type ascender interface {
	Ascend(ctx context.Context, lo, hi []byte) iter.Seq2[replica.Item, error]
}

// keys returns the keys of a small replica with spaces between.
func keys(ctx context.Context, r ascender) (string, error) {
	var b bytes.Buffer
	for item, err := range r.Ascend(ctx, nil, nil) {
		if err != nil {
			return "", err
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.Write(item.Key)
	}
	return b.String(), nil
}

// same compares all items of two replicas byte for byte, and their
// fingerprints. Nobody writes meanwhile. It returns the number of items, or an
// error that says what differs.
func same(ctx context.Context, p *pair) (items int, err error) {
	next, stop := iter.Pull2(p.follower.Ascend(ctx, nil, nil))
	defer stop()
	for want, err := range p.master.Ascend(ctx, nil, nil) {
		if err != nil {
			return 0, fmt.Errorf("read the master: %w", err)
		}
		got, err, more := next()
		switch {
		case err != nil:
			return 0, fmt.Errorf("read the follower: %w", err)
		case !more:
			return 0, fmt.Errorf("the follower ends before key %q", want.Key)
		case !bytes.Equal(got.Key, want.Key):
			return 0, fmt.Errorf("the follower has key %q where the master has %q", got.Key, want.Key)
		case !bytes.Equal(got.Value, want.Value):
			return 0, fmt.Errorf("the values of key %q differ", want.Key)
		}
		items++
	}
	if got, err, more := next(); err != nil || more {
		return 0, fmt.Errorf("the follower goes on with key %q (%v)", got.Key, err)
	}
	if m, f := p.master.Status().Fingerprint, p.follower.Status().Fingerprint; m != f {
		return 0, fmt.Errorf("the items are equal, the fingerprints %s and %s are not", m, f)
	}
	return items, nil
}
