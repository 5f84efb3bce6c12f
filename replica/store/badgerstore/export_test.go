package badgerstore

import "github.com/dgraph-io/badger/v4"

// BadgerOptions returns the options of a database of our own that does not
// sync.
func BadgerOptions(dir string) badger.Options {
	opt := badgerOptions(dir, Options{NoSync: true}, false, newBreakage())
	opt.BypassLockGuard = false
	return opt
}

// Unmerged returns options with which tables stay as they were written out.
func Unmerged() Options { return Options{NoSync: true, unmerged: true} }
