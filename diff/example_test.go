package diff_test

import (
	"fmt"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
)

// Two copies of a dataset, of which the second lost a write to "lemon", holds
// another "fig", and has a "plum" too many. Here the messages go from one
// session to the other by hand; in between there may be any connection that
// keeps their order.
func Example() {
	var master, follower merkle.Tree
	hash := merkle.XXH64().Hash
	for _, key := range []string{"apple", "banana", "cherry", "fig", "grape", "lemon"} {
		master.Put([]byte(key), hash([]byte(key), []byte("ripe")))
		follower.Put([]byte(key), hash([]byte(key), []byte("ripe")))
	}
	follower.Delete([]byte("lemon"))
	follower.Put([]byte("fig"), hash([]byte("fig"), []byte("rotten")))
	follower.Put([]byte("plum"), hash([]byte("plum"), []byte("ripe")))

	a := diff.New(master.Snapshot(), diff.Config{})
	b := diff.New(follower.Snapshot(), diff.Config{})
	toB, err := a.Start()
	if err != nil {
		fmt.Println(err)
		return
	}
	for !a.Done() || !b.Done() {
		toA := exchange("follower", b, toB)
		toB = exchange("master", a, toA)
	}
	fmt.Println("could not tell:", a.Left())
	// Output:
	// only the follower holds this fig
	// only the follower holds this plum
	// only the master holds this fig
	// only the master holds this lemon
	// could not tell: 0
}

// exchange gives messages to a session, prints what it finds, and returns what
// it answers.
func exchange(name string, s *diff.Session, in []diff.Message) (out []diff.Message) {
	for _, m := range in {
		answer, err := s.Step(m)
		if err != nil {
			fmt.Println(err)
			return nil
		}
		out = append(out, answer...)
		for found := s.Findings(); len(found) > 0; found = s.Findings() {
			for _, f := range found {
				fmt.Printf("only the %s holds this %s\n", name, f.Key)
			}
		}
	}
	return out
}
