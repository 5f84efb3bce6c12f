package badgerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Open opens the database in a directory, or makes one, and returns the store
// in it, which owns it: Close closes both. Without Options it is Options{}; more
// than one panics.
func Open(dir string, opts ...Options) (*Store, error) {
	opt := only(opts)
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	return openLocked(dir, opt, lock)
}

// makeDir makes a directory and those above it, and makes the names of those
// that are new durable: what is in them would be lost with them.
func makeDir(dir string) error {
	var above []string // of new directories
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil || d == filepath.Dir(d) {
			break
		}
		above = append(above, filepath.Dir(d))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, d := range above {
		// A directory that may be written and not read cannot be synced.
		if err := syncDir(d); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

// openLocked opens a database under a lock, which it takes over.
func openLocked(dir string, opt Options, lock *dirLock) (*Store, error) {
	s := &Store{opt: opt, path: dir, sync: !opt.NoSync, owned: true, lock: lock, broken: newBreakage()}
	if err := s.open(); err != nil {
		if s.db != nil {
			err = errors.Join(err, s.closeDB(s.db, nil))
		}
		if !errors.Is(err, errStuck) { // then it stays locked, too
			lock.release()
		}
		return nil, err
	}
	s.drain.start(s.db)
	return s, nil
}

// open opens the database under the lock.
func (s *Store) open() error {
	s.log = s.opt.log()
	if err := s.opt.checkMemory(); err != nil {
		return err
	}
	if err := roomToOpen(s.path, s.opt.Reserve); err != nil {
		return err
	}
	tried, err := s.tryFirst()
	if err != nil {
		return err
	}
	found, err := check(s.path, s.opt.SkipVerify || tried)
	if err != nil {
		return err
	}
	for _, n := range found.notes {
		s.note(n)
	}
	if err := removeClosed(s.path); err != nil {
		return err
	}
	if err := s.openDB(badgerOptions(s.path, s.opt, found.compressed, s.broken)); err != nil {
		return err
	}
	return s.init(s.path)
}

// openDB opens the database itself. If it was left with larger tables in memory
// than are wanted now, these are written out first.
func (s *Store) openDB(bopt badger.Options) error {
	left, err := leftTable(s.path, len(s.opt.Prefix), bopt.MemTableSize)
	if err != nil {
		return err
	}
	if left > bopt.MemTableSize {
		db, note, err := openBadger(bopt.WithMemTableSize(left))
		if err != nil {
			return err
		}
		if note != "" {
			s.note(note)
		}
		if err := s.closeDB(db, nil); err != nil {
			return fmt.Errorf("write out the tables in memory: %w", err)
		}
	}
	db, note, err := openBadger(bopt)
	if err != nil {
		return err
	}
	s.db = db
	if note != "" {
		s.note(note)
	}
	return nil
}

// roomToOpen returns an error if the disk is too full to open a database on it:
// Badger would be killed, now and at every other try.
func roomToOpen(dir string, reserve int64) error {
	s := newSpace(dir, reserve)
	return s.toOpen()
}

// An InUseError says that another process has the database open.
type InUseError struct {
	Dir string
	PID string // as that process wrote it, or empty
}

// Error names the directory and, if it is known, the process.
func (e *InUseError) Error() string {
	if e.PID == "" {
		return fmt.Sprintf("the directory %q is in use by another process", e.Dir)
	}
	return fmt.Sprintf("the directory %q is in use by process %s", e.Dir, e.PID)
}

// A dirLock is the lock that Badger takes on the directory of a database. It is
// taken here instead, so that nobody opens it while it is being looked at.
type dirLock struct {
	f   *os.File
	pid string // path of the file with the process id; empty if that is another's
}

// dyingTime is how long the lock of a process that is gone may stay.
const dyingTime = 10 * time.Second

func lockDir(dir string) (*dirLock, error) {
	if !ownLock {
		return nil, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	pid := filepath.Join(dir, "LOCK")
	for end := time.Now().Add(dyingTime); ; time.Sleep(dyingTime / 1000) {
		if err = flock(f); err == nil {
			break
		}
		b, _ := os.ReadFile(pid)
		holder := strings.TrimSpace(string(b))
		// The one who holds it may have been killed: what it leaves behind, a
		// child that it gave the lock to among them, ends a little later.
		if n, err := strconv.Atoi(holder); err != nil || lives(n) || time.Now().After(end) {
			f.Close()
			return nil, &InUseError{Dir: dir, PID: holder}
		}
	}
	if err := os.WriteFile(pid, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
		f.Close()
		return nil, err
	}
	return &dirLock{f: f, pid: pid}, nil
}

func (l *dirLock) release() error {
	if l == nil {
		return nil
	}
	var err error
	if l.pid != "" {
		err = os.Remove(l.pid)
	}
	if cerr := l.f.Close(); err == nil {
		err = cerr
	}
	return err
}
