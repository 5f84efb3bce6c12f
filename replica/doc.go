// Package replica keeps copies of a key-value dataset identical, and proves it.
//
// One [Master] takes writes, logs them and streams them to any number of
// [Follower]s, each in its own process over its own store. Every commit carries
// the fingerprint of the whole dataset after it, so a follower notices at the
// next commit or heartbeat that its copy differs, whatever the reason, and has
// the difference found and mended while writes go on.
//
// Both are made over a [store.Store], such as badgerstore gives, and run until
// their context ends:
//
//	st, err := badgerstore.Open(dir)
//	m, err := replica.NewMaster(st, replica.MasterConfig{Listener: l})
//	err = m.Run(ctx)
//
// # Concurrency
//
// All methods of Master and Follower are safe for concurrent use. One goroutine
// of a master, the writer, owns its tree, its offsets and the write side of its
// store; one goroutine for each follower, the middleman, owns that session. One
// goroutine of a follower owns its tree, its position, its store and its
// session. Nobody waits for a peer: a slow follower costs its master nothing.
//
// # Cancellation
//
// Run ends when its context does, and when it returns nothing it started is
// alive. A call that waits returns when its context ends; a result that is
// ready is preferred to a context that has ended. A write whose context ends
// before the writer has taken it has no effect.
package replica
