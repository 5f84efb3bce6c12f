// Package store says what a replica needs from a database, and holds the
// simplest one that does it: [Memory], for tests and demonstrations. Package
// badgerstore is the one to use; package storetest is the suite that any other
// must pass.
//
// # What a store holds
//
// The data, bytes to bytes in key order; the log, the newest commits exactly as
// they are sent; a few small named records; and one [Meta], which says what the
// data is a copy of and how far it has come. One [Txn] changes any of them
// together, or none.
//
// # Errors
//
// An error of Write that wraps [ErrRefused] changed nothing: the size checks
// ([LimitError], [KeyError]) and [ErrNoSpace] are of that kind. Any other is the
// end of writing until a restart. [ErrCorrupt] is for damage alone; it is never
// confused with [ErrNotFound].
//
// # Concurrency
//
// One goroutine writes and trims. Everything else is safe for concurrent use,
// except that a [View] belongs to one goroutine at a time.
package store
