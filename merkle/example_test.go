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
