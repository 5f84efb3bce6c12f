package badgerstore

import (
	"errors"
	"fmt"
	"os"
)

// A First opens the database in a directory in another process, by [Try], and
// waits for its end. lock is the directory, open and locked: the process is to
// inherit it, so that nobody else can open the database even if the caller is
// killed meanwhile. It is nil where the lock is Badger's.
//
// It returns what Try returned as notes. An error that wraps store.ErrCorrupt
// says that the process did not come to its end; one that wraps ErrTryAgain,
// that Try returned an error, which Open meets again.
type First func(dir string, lock *os.File) (notes []string, err error)

// ErrTryAgain is wrapped by errors of a First that Open is to find out itself.
var ErrTryAgain = errors.New("the trial returned an error")

// Try opens the database in a directory and closes it again, with all the
// checks of Open. It is for a process that is there for this only: Badger opens
// tables in goroutines of its own, and over damage that the checks do not know
// it panics there, which nobody can catch. lock is what First was called with;
// Try closes it.
func Try(dir string, lock *os.File, opts ...Options) (notes []string, err error) {
	opt := only(opts)
	opt.First = nil
	var l *dirLock
	if lock != nil {
		l = &dirLock{f: lock}
	} else if l, err = lockDir(dir); err != nil {
		return nil, err
	}
	s, err := openLocked(dir, opt, l)
	if err != nil {
		return nil, err
	}
	return s.notes, s.Close()
}

// tryFirst has another process open the database before this one does, unless
// it is new, or is as Close left it. It returns true if that was done, so that
// all checksums have been looked at.
func (s *Store) tryFirst() (tried bool, err error) {
	if s.opt.First == nil {
		return false, nil
	}
	d, err := inspect(s.path)
	if err != nil || !d.manifest {
		return false, nil // check says so, or there is nothing to try
	}
	if _, untouched, err := closedAt(s.path); err == nil && untouched {
		return false, nil
	}
	s.log.Info("the last stop was not clean, or files were touched since: opening the store in a process of its own first")
	var lock *os.File
	if s.lock != nil {
		lock = s.lock.f
	}
	notes, err := s.opt.First(s.path, lock)
	for _, n := range notes {
		s.note(n)
	}
	switch {
	case errors.Is(err, ErrTryAgain):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("open the database in a process of its own: %w", err)
	}
	return true, nil
}
