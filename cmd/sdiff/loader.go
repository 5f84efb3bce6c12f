package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/stream"
)

// A loader packs items into commits as large as the store takes and sends them
// in order: one is under way while the next is being packed, so at most two
// are in memory. Except where otherwise noted its methods belong to the goroutine
// that reads the input.
type loader struct {
	a        *app
	cancel   context.CancelCauseFunc // ends everything with the first commit that fails
	client   *control.Client
	limits   control.Limits
	batch    batch
	batchc   chan batch
	wg       sync.WaitGroup
	begin    time.Time
	progress progress

	// owned by send until it has ended
	done loaded

	mu      sync.Mutex
	skipped []skipped // guarded by mu
}

// A batch is one commit in the making.
type batch struct {
	ops  []control.Op
	from []origin // of each op
	size int
	at   uint64 // bytes of the input that are behind it
}

// An origin says where an item came from: a line, or a file.
type origin struct {
	line uint64
	path string
}

// load calls read, which adds items, and sends them until it has returned. Then
// it prints what was loaded.
func (a *app) load(ctx context.Context, c *control.Client, limits control.Limits, read func(context.Context, *loader) error) error {
	l := &loader{a: a, client: c, limits: limits, batchc: make(chan batch), begin: time.Now()}
	ctx, l.cancel = context.WithCancelCause(ctx)
	defer l.cancel(nil)
	l.progress.init(a)
	l.wg.Go(func() { l.send(ctx) })
	err := read(ctx, l)
	if err == nil {
		err = l.flush(ctx)
	}
	close(l.batchc)
	l.wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return l.finish(err)
}

// add packs an item, and sends the batch before it if it is full. The slices
// are the loader's from now on.
func (l *loader) add(ctx context.Context, key, value []byte, line uint64, path string, at uint64) error {
	op := control.Op{Key: key, Value: value}
	n := stream.Size([]stream.Op{stream.Op(op)})
	if len(l.batch.ops) > 0 && (l.batch.size+n > l.limits.CommitBytes || len(l.batch.ops) >= l.limits.CommitOps) {
		if err := l.flush(ctx); err != nil {
			return err
		}
	}
	l.batch.ops = append(l.batch.ops, op)
	l.batch.from = append(l.batch.from, origin{line, path})
	l.batch.size += n
	l.batch.at = at
	return nil
}

// flush hands the batch to the sender, which is busy with at most one before.
func (l *loader) flush(ctx context.Context) error {
	if len(l.batch.ops) == 0 {
		return nil
	}
	select {
	case l.batchc <- l.batch:
		l.batch = batch{}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// send commits batches until there are no more or one fails, which ends ctx.
func (l *loader) send(ctx context.Context) {
	for b := range l.batchc {
		if ctx.Err() != nil {
			continue
		}
		if err := l.commit(ctx, b.ops, b.from); err != nil {
			l.cancel(err)
			continue
		}
		l.progress.report(&l.done, b.at)
	}
}

// commit makes one commit of the ops. If that is refused for what an op is, it
// halves them until it has found which, so that everything before a bad line
// goes in, and everything but a bad file.
func (l *loader) commit(ctx context.Context, ops []control.Op, from []origin) error {
	p, err := l.client.Write(ctx, ops)
	if err == nil {
		l.done.Commits++
		l.done.Offset = p.Offset
		l.done.Items += uint64(len(ops))
		for _, op := range ops {
			l.done.Bytes += uint64(len(op.Key) + len(op.Value))
		}
		return nil
	}
	e, ok := errors.AsType[*control.Error](err)
	switch {
	// Anything else than a refusal of what an op is ends the load: the outcome
	// may be unknown, and the same again would be no better.
	case !ok || e.Code != control.BadKey && e.Code != control.TooLarge:
		return err
	case len(ops) > 1:
		half := len(ops) / 2
		if err := l.commit(ctx, ops[:half], from[:half]); err != nil {
			return err
		}
		return l.commit(ctx, ops[half:], from[half:])
	case from[0].path != "":
		l.skip(from[0].path, e.Message)
		return nil
	}
	return &failure{code: e.Code, msg: fmt.Sprintf("line %d: %s", from[0].line, e.Message)}
}

// skip notes a file that is not loaded. It is safe for concurrent use.
func (l *loader) skip(path, reason string) {
	l.mu.Lock()
	l.skipped = append(l.skipped, skipped{path, reason})
	l.mu.Unlock()
	l.progress.note("skipped " + visible(path) + ": " + reason)
}

// finish prints what was loaded.
func (l *loader) finish(err error) error {
	l.progress.end()
	l.done.Skipped, l.done.Seconds = l.skipped, time.Since(l.begin).Seconds()
	sum := fmt.Sprintf("loaded %s (%s) in %s", plural(l.done.Items, "item"), size(l.done.Bytes), plural(l.done.Commits, "commit"))
	if l.done.Commits > 0 {
		sum += fmt.Sprintf(", offset %d", l.done.Offset)
	}
	sum += ", in " + span(time.Since(l.begin))
	if n := len(l.done.Skipped); n > 0 {
		sum += fmt.Sprintf("; %d skipped", n)
	}
	switch {
	case err != nil:
		if l.done.Commits > 0 {
			l.progress.note(sum + ", before it stopped")
		}
		return err
	case l.a.output == "json":
		l.a.json(l.done)
	default:
		l.a.printf("%s\n", sum)
	}
	if len(l.done.Skipped) > 0 {
		return outcome(exitPartial)
	}
	return nil
}
