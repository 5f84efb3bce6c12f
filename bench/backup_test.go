package bench

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/stream"
)

// A backupSource sends its database, as Badger's Backup makes it, to whoever
// connects.
type backupSource struct {
	db *badger.DB
	l  net.Listener
	wg sync.WaitGroup

	mu  sync.Mutex
	err error // of the last backup
}

func (s *backupSource) do(c call) (a answer, err error) {
	switch c.Do {
	case "open":
		if s.db, err = openStraw(c); err != nil {
			return a, err
		}
		if s.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return a, err
		}
		s.wg.Go(s.serve)
		a.Addr = s.l.Addr().String()
	case "load":
		err = newWorkload(c.Seed).each(c.N, c.Commit, func(ops []stream.Op) error { return strawWrite(s.db, ops) })
	case "check":
		s.mu.Lock()
		err = s.err
		s.mu.Unlock()
	}
	return a, err
}

func (s *backupSource) serve() {
	for {
		nc, err := s.l.Accept()
		if err != nil {
			return
		}
		w := bufio.NewWriterSize(nc, 64<<10)
		_, err = s.db.Backup(w, 0)
		err = errors.Join(err, w.Flush(), nc.Close())
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
	}
}

func (s *backupSource) close() error {
	if s.db == nil {
		return nil
	}
	s.l.Close()
	s.wg.Wait()
	return s.db.Close()
}

// A backupReceiver loads what a backupSource sends.
type backupReceiver struct{ db *badger.DB }

// pendingWrites is how many batches Load has under way at once, as the badger
// command does it.
const pendingWrites = 256

func (r *backupReceiver) do(c call) (a answer, err error) {
	switch c.Do {
	case "open":
		r.db, err = openStraw(c)
	case "copy":
		if a.Bytes, err = r.load(c.Addr); err == nil {
			err = r.count(c.N)
		}
	}
	return a, err
}

// load returns how many bytes it received.
func (r *backupReceiver) load(addr string) (uint64, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	var bytes atomic.Uint64
	err = r.db.Load(bufio.NewReaderSize(countedConn{nc, &bytes}, 64<<10), pendingWrites)
	return bytes.Load(), err
}

// count returns an error unless there are n keys.
func (r *backupReceiver) count(n int) error {
	return r.db.View(func(txn *badger.Txn) error {
		opt := badger.DefaultIteratorOptions
		opt.PrefetchValues = false
		it := txn.NewIterator(opt)
		defer it.Close()
		got := 0
		for it.Rewind(); it.Valid(); it.Next() {
			got++
		}
		if got != n {
			return fmt.Errorf("there are %d keys, not %d", got, n)
		}
		return nil
	})
}

func (r *backupReceiver) close() error {
	if r.db == nil {
		return nil
	}
	return r.db.Close()
}
