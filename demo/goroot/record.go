package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// liveKeys is how many keys the writer changes, over and over.
const liveKeys = 5000

// A writer changes keys at the master at a steady rate. Every value is a number
// larger than all before it, so that a key that goes back in time shows.
type writer struct {
	cancel context.CancelFunc
	donec  chan error
	n      int
}

// serial numbers the values of a whole run.
var serial int

func (s *story) write(ctx context.Context) *writer {
	ctx, cancel := context.WithCancel(ctx)
	w := &writer{cancel: cancel, donec: make(chan error, 1)}
	r, in := io.Pipe()
	loaded := make(chan error, 1)
	go func() {
		// The load ends when its input does, not when the writing is stopped.
		_, _, err := s.sdiff(context.WithoutCancel(ctx), r, "load", "-", "--data", s.data("m"))
		r.CloseWithError(io.ErrClosedPipe)
		loaded <- err
	}()
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		began := time.Now()
		for ctx.Err() == nil {
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
			var b bytes.Buffer
			for due := int(time.Since(began).Seconds() * float64(*s.rate)); w.n < due; w.n++ {
				serial++
				fmt.Fprintf(&b, `{"key":"live/%05d","value":"%d"}`+"\n", serial%liveKeys, serial)
			}
			if _, err := in.Write(b.Bytes()); err != nil {
				break
			}
		}
		in.Close()
		w.donec <- <-loaded
	}()
	return w
}

// stop ends the writing and returns how many keys were changed.
func (w *writer) stop() (int, error) {
	w.cancel()
	err := <-w.donec
	return w.n, err
}

// A recorder keeps the newest value that the follower has shown of every live
// key, and fails when an older one comes after it.
type recorder struct {
	cmd     *exec.Cmd
	donec   chan error
	last    map[string]int
	changes int
	newest  atomic.Int64
}

// A change is one line of watch -o json.
type change struct {
	Op     string
	Key    string
	Value  string
	Gap    bool
	Repair bool
}

// record watches the follower from now on.
func (s *story) record(ctx context.Context) (*recorder, error) {
	r := &recorder{donec: make(chan error, 1), last: make(map[string]int)}
	r.cmd = exec.CommandContext(ctx, s.bin, "watch", "--data", s.data("f"), "-o", "json")
	r.cmd.Stderr = os.Stderr
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { r.donec <- r.read(out) }()
	return r, nil
}

func (r *recorder) read(out io.Reader) error {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		var c change
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		r.changes++
		if !strings.HasPrefix(c.Key, "live/") {
			continue
		}
		if c.Op == "del" {
			return fmt.Errorf("the follower lost %s, which the master never deleted", c.Key)
		}
		n, err := strconv.Atoi(c.Value)
		if err != nil {
			return err
		}
		if n < r.last[c.Key] {
			return fmt.Errorf("%s went back from %d to %d (repair: %v)", c.Key, r.last[c.Key], n, c.Repair)
		}
		r.last[c.Key] = n
		r.newest.Store(max(r.newest.Load(), int64(n)))
	}
	return lines.Err()
}

// stop waits until the follower has shown the newest value that was written,
// ends the watch and returns what it saw.
func (r *recorder) stop(ctx context.Context) (*recorder, error) {
	err := until(ctx, "the recorder's seeing the newest value", func() (bool, error) {
		select {
		case err := <-r.donec:
			if err == nil {
				err = errors.New("the watch ended by itself")
			}
			return false, err
		default:
			return r.newest.Load() == int64(serial), nil
		}
	})
	r.cmd.Process.Signal(os.Interrupt)
	if err == nil {
		err = <-r.donec
	}
	r.cmd.Wait()
	if err == nil && r.changes == 0 {
		err = fmt.Errorf("the recorder saw nothing")
	}
	return r, err
}

// vandalise deletes, changes and adds keys in a follower's database, as another
// program would that knows nothing of sdiff.
func vandalise(dir string, n int) error {
	db, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil).WithValueThreshold(1 << 20))
	if err != nil {
		return fmt.Errorf("open the follower's database: %w", err)
	}
	var keys [][]byte
	err = db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		i := 0
		for it.Rewind(); it.Valid() && len(keys) < 2*n; it.Next() {
			k := it.Item().KeyCopy(nil)
			if i++; i%37 == 0 && !bytes.HasPrefix(k, []byte("!")) && !bytes.HasPrefix(k, []byte("live/")) {
				keys = append(keys, k)
			}
		}
		return nil
	})
	if err == nil && len(keys) < 2*n {
		err = fmt.Errorf("only %d keys to damage", len(keys))
	}
	if err == nil {
		err = db.Update(func(txn *badger.Txn) error {
			for i, k := range keys {
				var err error
				if i < n {
					err = txn.Delete(k)
				} else {
					err = txn.Set(k, []byte("garbled"))
				}
				if err != nil {
					return err
				}
			}
			for i := range n {
				if err := txn.Set(fmt.Appendf(nil, "vandal/%d", i), []byte("was here")); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	return err
}
