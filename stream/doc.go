// Package stream holds what a master tells its followers: ops, grouped into
// commits, at numbered offsets, and the encoding they have on disk, in memory
// and on the wire, which is one and the same. A commit is encoded once, by
// [AppendCommit], and decoded where it is applied, by a [Decoder].
//
// A [Record] is a group of encoded commits. A [Tail] keeps the newest records
// in memory, bounded in bytes; whoever follows is a cursor into it. A reader
// that falls behind the tail costs nothing: it finds out when it comes back
// and reads the log instead.
//
// # Bounds
//
// A commit has 1 to [MaxOps] ops that count together, by [Size], at most
// [MaxCommitBytes]. Its encoding then takes at most [MaxEncoded] bytes. Keys
// are never empty.
//
// # Concurrency
//
// A Tail is safe for concurrent use. Decoders are not; everything else is a
// plain value or a pure function. Nothing here starts a goroutine.
//
// The body of a record is shared: by the tail, by readers of the tail, by the
// ops that a Decoder returns. Nobody changes one after it has been made.
package stream
