package badgerstore

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/replica/store"
)

// A Store is a store.Store in a Badger database. Open and New make one.
type Store struct {
	db     *badger.DB
	opt    Options
	path   string
	keys   keyspace
	limits store.Limits
	sync   bool
	log    *slog.Logger
	found  *store.Head
	notes  []string

	owned    bool // Close closes the database
	drain    drain
	readOnly bool      // it is a copy of what is in path
	broken   *breakage // nil unless it is owned
	lock     *dirLock
	gate     gate

	// Of the goroutine that writes.
	seq      uint64  // of the last transaction
	poisoned error   // why nothing may be written any more
	flight   *flight // the transaction that was started last; nil once it is known how it ended
	space    space
	trimmed  uint64 // no log record of an offset below is left

	head   *headFile // nil if there is none
	syncer syncer

	mu    sync.Mutex
	views map[*view]struct{} // open ones, which Close ends
	size  sizeCache
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Starter = (*Store)(nil)
)

// New returns a store in a database that someone else opened and closes, after
// Close of the store. Keys of the dataset begin with prefix; the rest of the
// database is left alone, but for what is under "!sdiff!". New refuses a
// database that cannot keep the promises of a store, with a *HandleError or an
// *OverlapError. There must be one Store at most for a prefix. Without Options
// it is Options{}; more than one panics.
func New(db *badger.DB, prefix string, opts ...Options) (*Store, error) {
	opt := only(opts)
	if db.IsClosed() {
		return nil, store.ErrClosed
	}
	bopt := db.Opts()
	if err := opt.check(db); err != nil {
		return nil, err
	}
	opt.Prefix = prefix
	s := &Store{db: db, opt: opt, path: bopt.Dir, sync: bopt.SyncWrites && !bopt.InMemory}
	if bopt.InMemory {
		s.path = "memory"
	}
	if err := s.init(bopt.Dir); err != nil {
		return nil, err
	}
	return s, nil
}

// init does what Open and New have in common. dir is empty in memory.
func (s *Store) init(dir string) (err error) {
	s.log = s.opt.log()
	s.views = make(map[*view]struct{})
	if s.keys, err = newKeyspace(s.opt.Prefix); err != nil {
		return err
	}
	if s.limits, err = limits(s.db, len(s.opt.Prefix)); err != nil {
		return err
	}
	s.space = newSpace(dir, s.opt.Reserve)
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	if err := s.keys.checkOverlap(txn); err != nil {
		return err
	}
	m, err := s.readMeta(txn)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	s.seq = m.Seq
	if dir == "" {
		return nil
	}
	head := openHead
	if s.readOnly {
		head = readHead
	}
	if s.head, err = head(dir, s.opt.Prefix, s.seq); err != nil {
		return err
	}
	s.found = s.head.found
	if s.head.note != "" {
		s.note(s.head.note)
	}
	if s.readOnly {
		s.poisoned = errReadOnly
		return nil
	}
	s.space.head = s.head.f.Name()
	s.syncer.start(s.head.f, s.log)
	return nil
}

// note keeps a sentence for Info and logs it.
func (s *Store) note(text string) {
	s.notes = append(s.notes, text)
	s.log.Warn("opening the store", "note", text)
}

// Limits returns what fits the keys and transactions of the database.
func (s *Store) Limits() store.Limits { return s.limits }

// Info describes the store.
func (s *Store) Info() store.Info {
	info := store.Info{Path: s.path, Size: -1, Free: -1, Sync: s.sync, Head: s.found, Notes: s.notes}
	if s.head != nil {
		info.Size = s.size.get(s.path)
		info.Free, _ = diskSpace(s.path)
	}
	return info
}

// Close ends all views, waits for calls that are inside, and closes the
// database if Open opened it. If the disk has no room for that, or is read-only
// or gone, Close returns an error that wraps store.ErrNoSpace or
// store.ErrNotWritable; and what failed a write, if it fails closing, too. The
// database then is left in the state of a crash, and stays open and locked until
// the process ends.
func (s *Store) Close() error {
	if !s.gate.close() {
		return store.ErrClosed
	}
	s.mu.Lock()
	for v := range s.views {
		v.discard()
	}
	clear(s.views)
	s.mu.Unlock()
	_ = s.settle() // before HEAD is closed; closeDB deals with what became of it
	var errs []error
	s.drain.stop()
	s.space.wait()
	if s.owned && !s.readOnly {
		if err := s.space.toClose(); err != nil {
			return s.leave(err)
		}
	}
	if s.owned {
		var timeout <-chan time.Time
		if s.poisoned != nil && !s.readOnly {
			timeout = time.After(poisonedClose)
		}
		err := s.closeDB(s.db, timeout)
		if errors.Is(err, errStuck) {
			return s.leave(cmp.Or(s.broken.failed(), s.poisoned))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("close the database: %w", err))
		}
	}
	// HEAD last: it must never be durable before what it tells of.
	if s.head != nil && !s.readOnly {
		errs = append(errs, s.syncer.stop(), s.head.f.Close())
	}
	if s.owned && !s.readOnly && errors.Join(errs...) == nil {
		if err := writeClosed(s.path, time.Now()); err != nil {
			s.log.Warn("the next start takes the store for one that was not closed", "error", err)
		}
	}
	errs = append(errs, s.lock.release())
	return errors.Join(errs...)
}

// poisonedClose is how long closing may take after a write that failed.
const poisonedClose = 3 * time.Second

// closeDB closes a database. It returns an error that wraps errStuck if that does
// not end, as Badger cannot write a table out: the database then stays open.
func (s *Store) closeDB(db *badger.DB, timeout <-chan time.Time) error {
	if err := s.broken.failed(); err != nil {
		return fmt.Errorf("%w: %w", errStuck, err) // it would write out more
	}
	donec := make(chan error, 1)
	go func() { donec <- db.Close() }()
	select {
	case err := <-donec:
		return err
	case <-s.broken.broken():
		return fmt.Errorf("%w: %w", errStuck, s.broken.err)
	case <-timeout:
		return errStuck
	}
}

var errStuck = errors.New("the database cannot write its tables out")

// leave is the Close of a database that cannot be closed: it would write out
// tables to memory maps that the disk has no room for, and the process would be
// killed, or try for ever. All that was written is in the logs, and the next
// Open reads them. The database stays open and locked until the process ends.
func (s *Store) leave(why error) error {
	s.log.Error("the database is left as it is: what is in memory stays in the logs", "reason", why)
	errs := []error{fmt.Errorf("close the database: %w", why)}
	if s.head != nil {
		errs = append(errs, s.syncer.stop(), s.head.f.Close())
	}
	return errors.Join(errs...)
}

// A syncer makes HEAD durable about once a second, if it has changed.
type syncer struct {
	dirty atomic.Bool
	wake  chan struct{}
	stopc chan struct{}
	wg    sync.WaitGroup
	err   error // of the goroutine, once it has ended
}

// syncEvery is how long HEAD may lag behind on the disk.
const syncEvery = time.Second

type syncFile interface{ Sync() error }

// start starts the goroutine, which stop ends.
func (s *syncer) start(f syncFile, log *slog.Logger) {
	s.wake = make(chan struct{}, 1)
	s.stopc = make(chan struct{})
	s.wg.Go(func() { s.err = s.run(f, log) })
}

func (s *syncer) run(f syncFile, log *slog.Logger) error {
	timer := time.NewTimer(syncEvery)
	timer.Stop()
	for {
		select {
		case <-s.wake:
			timer.Reset(syncEvery)
		case <-timer.C:
			s.dirty.Store(false)
			if err := f.Sync(); err != nil {
				log.Error("syncing HEAD", "error", err)
			}
		case <-s.stopc:
			timer.Stop()
			if s.dirty.Load() {
				return f.Sync()
			}
			return nil
		}
	}
}

// changed tells the syncer that there is something to sync. It never blocks.
func (s *syncer) changed() {
	if s.dirty.Swap(true) {
		return // the timer runs
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// stop syncs what is left and ends the goroutine.
func (s *syncer) stop() error {
	close(s.stopc)
	s.wg.Wait()
	return s.err
}
