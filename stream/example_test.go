package stream_test

import (
	"fmt"

	"github.com/sdiff/sdiff/stream"
)

func ExampleParsePosition() {
	p, err := stream.ParsePosition("8f2b6c1d00000000000000000000002a/17/9f86d081884c7d65:4")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Offset, p.Fingerprint.Count)
	// Output: 17 4
}

// A reader of a tail is a cursor: the offset that it wants next.
func ExampleTail() {
	tail := stream.NewTail(64 << 20)
	tail.Append(stream.Record{First: 1, Last: 2, Body: []byte("two encoded commits")})

	next := uint64(1)
	for {
		changed := tail.Changed() // before the read, so that nothing is missed
		records, ok := tail.Read(next, 256<<10)
		if !ok {
			fmt.Println("fell off the tail: read the log")
			return
		}
		for _, r := range records {
			fmt.Printf("commits %d to %d\n", r.First, r.Last)
			next = r.Last + 1
		}
		if next > 2 {
			return // enough for an example
		}
		<-changed
	}
	// Output: commits 1 to 2
}
