package control

import (
	"bytes"
	"context"
	"iter"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A fake is a replica over a map. Its funcs replace what it would answer.
type fake struct {
	mu       sync.Mutex
	items    map[string]string
	offset   uint64
	forgot   []string
	changes  []replica.Change // what Watch yields before it waits
	watching chan struct{}    // closed when Watch waits
	writeErr func(ops []stream.Op) error
	verify   func(ctx context.Context) (replica.VerifyReport, error)
	repair   func(ctx context.Context, opt replica.RepairOptions) (replica.Report, error)
}

var (
	_ Replica  = (*fake)(nil)
	_ Master   = (*fake)(nil)
	_ Follower = (*fake)(nil)
)

func newFake() *fake {
	return &fake{items: map[string]string{}, watching: make(chan struct{})}
}

func (f *fake) Get(_ context.Context, key []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok := f.items[string(key)]
	if !ok {
		return nil, replica.ErrNotFound
	}
	return []byte(v), nil
}

func (f *fake) Ascend(_ context.Context, lo, hi []byte) iter.Seq2[replica.Item, error] {
	return func(yield func(replica.Item, error) bool) {
		f.mu.Lock()
		items := maps.Clone(f.items)
		f.mu.Unlock()
		for _, k := range slices.Sorted(maps.Keys(items)) {
			if k < string(lo) || hi != nil && k >= string(hi) {
				continue
			}
			if !yield(replica.Item{Key: []byte(k), Value: []byte(items[k])}, nil) {
				return
			}
		}
	}
}

func (f *fake) Watch(ctx context.Context, from uint64) iter.Seq2[replica.Change, error] {
	return func(yield func(replica.Change, error) bool) {
		if from == 1 {
			yield(replica.Change{}, replica.ErrTrimmed)
			return
		}
		for _, c := range f.changes {
			if !yield(c, nil) {
				return
			}
		}
		close(f.watching)
		<-ctx.Done()
		yield(replica.Change{}, ctx.Err())
	}
}

func (f *fake) Status() replica.Status { return replica.Status{Role: "master", Offset: f.offset} }

func (f *fake) Verify(ctx context.Context) (replica.VerifyReport, error) {
	if f.verify != nil {
		return f.verify(ctx)
	}
	return replica.VerifyReport{OK: true, Items: uint64(len(f.items))}, nil
}

func (f *fake) Write(_ context.Context, ops []stream.Op) (stream.Position, error) {
	if f.writeErr != nil {
		if err := f.writeErr(ops); err != nil {
			return stream.Position{}, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, op := range ops {
		if op.Delete {
			delete(f.items, string(op.Key))
		} else {
			f.items[string(op.Key)] = string(op.Value)
		}
	}
	f.offset++
	return stream.Position{Epoch: stream.Epoch{1}, Offset: f.offset, Fingerprint: merkle.Summary{Count: uint64(len(f.items))}}, nil
}

func (f *fake) Remove(ctx context.Context, key []byte) (stream.Position, error) {
	if _, err := f.Get(ctx, key); err != nil {
		return stream.Position{}, err
	}
	return f.Write(ctx, []stream.Op{{Key: key, Delete: true}})
}

func (f *fake) Forget(_ context.Context, id string) error {
	if id == "unknown" {
		return replica.ErrNotFound
	}
	f.forgot = append(f.forgot, id)
	return nil
}

func (f *fake) Repair(ctx context.Context, opt replica.RepairOptions) (replica.Report, error) {
	return f.repair(ctx, opt)
}

// serve runs a server for a fake in a directory of its own and returns a
// client. The test fails if the server does not end with it.
func serve(t *testing.T, f *fake, asFollower bool) *Client {
	t.Helper()
	dir := t.TempDir()
	c, stop := serveIn(t, dir, f, asFollower)
	t.Cleanup(stop)
	return c
}

func serveIn(t *testing.T, dir string, f *fake, asFollower bool) (*Client, func()) {
	t.Helper()
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	return NewClient(dir), run(t, l, f, asFollower)
}

// run serves a listener until the func it returns is called.
func run(t *testing.T, l net.Listener, f *fake, asFollower bool) func() {
	cfg := Config{Replica: f, Master: f, Limits: store.Limits{Key: 10, Value: 20, CommitBytes: 30, CommitOps: 40}}
	if asFollower {
		cfg.Master, cfg.Follower = nil, f
	}
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { err = NewServer(cfg).Run(ctx, l) })
	return sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
}

// keys returns the keys of a list as one string.
func keys(t *testing.T, seq iter.Seq2[Item, error]) string {
	t.Helper()
	var out [][]byte
	for item, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, item.Key)
	}
	return string(bytes.Join(out, []byte(" ")))
}
