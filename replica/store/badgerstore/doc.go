// Package badgerstore keeps a replica's store in a Badger database: one of its
// own ([Open]) or, under a prefix, one that a program has anyway ([New]).
//
// # What is in the database
//
// The user's items as they are, so that any Badger tool can read them; under
// "!sdiff!" the log, the named records and the meta. Everything is in the
// tables, nothing in the value log, where damage goes unnoticed. docs/FORMAT.md
// has every byte.
//
// # What is beside it
//
// The file HEAD says what the newest transaction was. A database that lost its
// end agrees with itself; only HEAD tells.
//
// # Trust
//
// Badger takes a damaged directory for an older or an empty one more often than
// not, or panics in a goroutine of its own. Open looks at the files first and
// returns an error that wraps store.ErrCorrupt instead.
//
// What strikes the files while they are open is another matter. A read then
// returns an error that wraps store.ErrCorrupt, or Badger ends the process, or
// it reads a damaged block as an empty one: items seem not to be there, and
// nothing says so. Whoever has a tree of the items compares with it.
//
// # Concurrency
//
// As package store says. A Store of Open or of a database on disk has one
// goroutine, which syncs HEAD about once a second and ends in Close. Close
// waits for calls that are inside; a callback must not call it.
package badgerstore
