package merkle_test

import (
	"fmt"

	"github.com/sdiff/sdiff/merkle"
)

// Two replicas hold the same items, put in another order; then one of them
// changes. Summaries of ranges tell where.
func Example() {
	hash := merkle.XXH64()
	var master, follower merkle.Tree
	for i := range 1000 {
		key, value := fmt.Appendf(nil, "key%03d", i), fmt.Appendf(nil, "value %d", i)
		master.Put(key, hash.Hash(key, value))
		key, value = fmt.Appendf(nil, "key%03d", 999-i), fmt.Appendf(nil, "value %d", 999-i)
		follower.Put(key, hash.Hash(key, value))
	}
	before := follower.Snapshot()
	follower.Delete([]byte("key042"))

	fmt.Println("before:", before.Summary() == master.Summary())
	fmt.Println("after:", follower.Summary() == master.Summary())
	for _, p := range []string{"key0", "key1", "key2"} {
		a, b := master.Prefix([]byte(p)), follower.Prefix([]byte(p))
		fmt.Println(p, a == b, a.Count, b.Count)
	}
	// Output:
	// before: true
	// after: false
	// key0 false 100 99
	// key1 true 100 100
	// key2 true 100 100
}

func ExampleBuilder() {
	var b merkle.Builder
	for i, key := range []string{"a", "b", "c"} {
		if err := b.Add([]byte(key), uint64(i)); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(b.Add([]byte("b"), 9))
	fmt.Println(b.Tree().Summary())
	// Output:
	// merkle: keys do not ascend
	// 0000000000000003:3
}

func ExampleSnapshot_Ascend() {
	var t merkle.Tree
	for i, key := range []string{"pear", "apple", "plum", "fig"} {
		t.Put([]byte(key), uint64(i))
	}
	p := []byte("p")
	t.Snapshot().Ascend(p, merkle.PrefixEnd(p), func(key []byte, hash uint64) bool {
		fmt.Println(string(key), hash)
		return true
	})
	// Output:
	// pear 0
	// plum 2
}

// Two replicas keep sketches of a thousand items each. What differs is told by
// cells of these alone: how many depends on what differs, not on what there is.
func ExampleDecoder() {
	hash := merkle.XXH64()
	var master, follower merkle.Tree
	master.KeepSketch()
	follower.KeepSketch()
	for i := range 1000 {
		key, value := fmt.Appendf(nil, "key%03d", i), fmt.Appendf(nil, "value %d", i)
		master.Put(key, hash.Hash(key, value))
		follower.Put(key, hash.Hash(key, value))
	}
	key := []byte("key042")
	master.Put(key, hash.Hash(key, []byte("a new value")))
	follower.Delete([]byte("key500"))

	// The master sends its counters. They say how many cells to send back.
	mine, yours := master.Sketch(), follower.Sketch()
	counters, others := mine.Counters(), yours.Counters()
	n := merkle.CellsFor(counters.Difference(&others))
	cells := yours.AppendCells(nil, 1, 0, 0, n)

	d := merkle.NewDecoder(1, 0)
	for i, c := range mine.AppendCells(nil, 1, 0, 0, n) {
		cells[i] = cells[i].Xor(c)
	}
	d.Add(cells)
	fmt.Println(d.Done(), len(d.Found()), "hashes")

	// What is found is believed if it makes one summary of the other.
	snap := master.Snapshot()
	sum := snap.Summary()
	here := make([]bool, len(d.Found()))
	snap.Locate(d.Found(), 0, func(rank uint64, i int) {
		here[i] = true
		key, hash, _ := snap.At(rank)
		sum = sum.Sub(merkle.Summary{Count: 1, Sum: hash})
		fmt.Printf("the follower lacks %s\n", key)
	})
	for i, h := range d.Found() {
		if !here[i] {
			sum = sum.Add(merkle.Summary{Count: 1, Sum: h})
			fmt.Println("the master lacks an item of the follower's")
		}
	}
	fmt.Println(sum == follower.Summary())
	// Output:
	// true 3 hashes
	// the follower lacks key042
	// the follower lacks key500
	// the master lacks an item of the follower's
	// true
}
