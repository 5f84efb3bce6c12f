// Package merkle is an ordered set of items, key and item hash, that knows the
// Summary of any range of its keys: how many items it holds and the sum of
// their hashes. Two sets with equal summaries hold the same items, so two
// replicas find out where they differ by comparing summaries of ever smaller
// ranges.
//
// A [Tree] is a B+-tree over keys in byte order. Each entry of an inner node
// holds its child's summary: that of the whole tree, its fingerprint, is read
// in O(1), and that of a range costs two ways from the root to a leaf.
// Summaries add up, so the fingerprint depends on the items alone, not on their
// history nor on the shape of the tree (T3). A [Hasher] makes item hashes from
// keys and values; the tree itself does not see values.
//
// # Memory
//
// Leaves are packed: what their keys begin with is stored once, then of each
// item eight bytes of hash and the rest of the key, one after another. There is
// no pointer per key, so the garbage collector does not notice how many there
// are. A million random keys of 16 bytes take about 25 bytes each after a
// [Builder] made the tree, and about 28 after they were put one by one.
//
// # Snapshots
//
// [Tree.Snapshot] takes O(1). Every node carries a mark of the tree that may
// change it in place; taking a snapshot changes the mark of the tree, so that
// all nodes made so far are left alone and copied when a change reaches them:
// each once, and only those on the way from the root to the key (T5).
//
// # Concurrency
//
// A Tree belongs to one goroutine at a time, as a Builder does. A Snapshot never
// changes and may be read from any number of goroutines, also while the tree it
// was taken from is changed (T4). Summary and Hasher are values. The package
// starts no goroutine, takes no lock, and does no I/O.
package merkle
