//go:build race

package replica_test

// raced says that the race detector is on, which makes everything some ten
// times slower: what is there for its numbers does less then.
const raced = true
