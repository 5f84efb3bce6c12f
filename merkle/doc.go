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
// # Sketches
//
// Summaries tell that two sets differ; to find out where, one compares those of
// ever smaller ranges, turn by turn. A sketch tells what differs at once. It is
// a list of cells. Each item belongs to a few of them, as its hash decides, and
// a [Cell] holds the exclusive or of its items' hashes, and the exclusive or of a
// check computed from each hash. Two things make that useful:
//
//   - It is linear. What is in two sets cancels out when their cells are
//     combined, so what is left are the cells of the difference, as if there had
//     never been another item. For the same reason a change of one item changes
//     a few cells, whatever else there is, and cells of parts of a set combine
//     to those of the whole.
//   - It can be peeled. A cell with one hash left is recognized by its check and
//     gives the hash away. Taken out of the other cells it belongs to, it leaves
//     some of them with one hash, and so on. Cell j has an item with a
//     probability of 1/(1+j/2): the first cells have nearly all items, later
//     ones ever fewer, so there are always some with just one left, provided
//     there are enough cells for the difference. If not, the next ones are added
//     to those at hand; none is sent twice.
//
// That is a rateless invertible Bloom lookup table, of Yang, Gilad and Alizadeh
// ("Practical Rateless Set Reconciliation", SIGCOMM 2024). The number of cells
// it takes depends on how many items differ and not on how many there are: in
// this package's tests 1.75 for each hash that differs of eight, 1.50 of 64,
// 1.40 of 400 and 1.35 of 30,000, at 12 bytes each. An item whose value differs is
// two hashes, the old one and the new one. [Counters], 160 bytes, tell beforehand
// about how many differ, and [CellsFor] how many cells to send.
//
// [Tree.KeepSketch] makes a tree keep the first cells up to date: 4 MiB for up
// to a million items. It has them in 64 parts, by hash, as many small
// differences are found faster than a large one. [Tree.Sketch] takes O(1), as a
// snapshot does. A [Decoder] does the peeling, and [Snapshot.Locate] finds the
// items of the hashes found, by one pass over the leaves.
//
// A sketch that nobody kept, of a range or of more cells than are kept, is made
// when it is needed: [Snapshot.Clip] has the items of a range, in O(log n), and
// [MakeSketch] reads those and no others.
//
// What a sketch does not do: it proves nothing. Two items of equal hash cancel
// out, a cell of several hashes may by chance look like one of a single one, and
// whoever sends cells can add to them what he likes; whoever can choose item
// hashes can choose some that cancel out, which takes no more than solving linear
// equations. So what was found is believed only if it turns the one summary into
// the other, and else ranges are compared; and against people who write values on
// purpose a [Hasher] with a secret is needed, as everywhere in this package.
//
// # Concurrency
//
// A Tree belongs to one goroutine at a time, as a Builder does. A Snapshot never
// changes and may be read from any number of goroutines, also while the tree it
// was taken from is changed (T4); nor does a Sketch. A Decoder belongs to one
// goroutine. Summary, Cell, Counters and Hasher are values. The package starts no
// goroutine, takes no lock, and does no I/O.
package merkle
