package replica_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/transport"
)

// A master inside a service, over the Badger database that the service has
// anyway, and a follower that in real life runs somewhere else.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	masterDir, followerDir := tempDir(), tempDir()
	defer os.RemoveAll(masterDir)
	defer os.RemoveAll(followerDir)

	// The master: the keys under "users/" of a database of yours.
	db, err := badger.Open(badger.DefaultOptions(masterDir).
		WithSyncWrites(true).WithValueThreshold(1 << 20).WithLogger(nil))
	check(err)
	st, err := badgerstore.New(db, "users/")
	check(err)
	listener, err := transport.Listen("127.0.0.1:0")
	check(err)
	master, err := replica.NewMaster(st, replica.MasterConfig{Listener: listener})
	check(err)
	masterDone := run(ctx, master.Run)

	// The follower: a directory of its own.
	copySt, err := badgerstore.Open(followerDir)
	check(err)
	follower, err := replica.NewFollower(copySt, replica.FollowerConfig{
		ID:   "copy-1",
		Dial: transport.DialTCP(listener.Addr().String()),
	})
	check(err)
	followerDone := run(ctx, follower.Run)

	// Write here, read your own write there.
	_, err = master.Put(ctx, []byte("ada"), []byte("Countess of Lovelace"))
	check(err)
	position, err := master.Update(ctx, func(tx *replica.Tx) error {
		name, err := tx.Get([]byte("ada"))
		if err != nil {
			return err
		}
		return tx.Put([]byte("ada"), append(name, ", born 1815"...))
	})
	check(err)
	check(follower.WaitFor(ctx, position))
	value, err := follower.Get(ctx, []byte("ada"))
	check(err)
	fmt.Printf("%s\n", value)

	// Prove that the copy is identical; had it not been, it would be now.
	report, err := follower.Repair(ctx, replica.RepairOptions{})
	check(err)
	fmt.Println(report.Outcome, report.After == report.Master)

	stop()
	<-followerDone
	<-masterDone
	check(copySt.Close())
	check(st.Close())
	check(db.Close())
	// Output:
	// Countess of Lovelace, born 1815
	// same true
}

func ExampleMaster_Ascend() {
	ctx, stop := context.WithCancel(context.Background())
	dir := tempDir()
	defer os.RemoveAll(dir)
	st, err := badgerstore.Open(dir)
	check(err)
	master, err := replica.NewMaster(st, replica.MasterConfig{})
	check(err)
	done := run(ctx, master.Run)
	for _, key := range []string{"fruit/apple", "fruit/pear", "tool/saw"} {
		_, err := master.Put(ctx, []byte(key), []byte("1"))
		check(err)
	}

	// All keys with a prefix.
	prefix := []byte("fruit/")
	for item, err := range master.Ascend(ctx, prefix, merkle.PrefixEnd(prefix)) {
		check(err)
		fmt.Printf("%s\n", item.Key)
	}
	// Every change since the first, and then those to come.
	for change, err := range master.Watch(ctx, 1) {
		check(err)
		fmt.Printf("%d %s\n", change.Position.Offset, change.Key)
		if change.Position.Offset == 3 {
			break
		}
	}

	stop()
	<-done
	check(st.Close())
	// Output:
	// fruit/apple
	// fruit/pear
	// 1 fruit/apple
	// 2 fruit/pear
	// 3 tool/saw
}

// run runs a replica until ctx ends.
func run(ctx context.Context, f func(context.Context) error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	return done
}

func tempDir() string {
	dir, err := os.MkdirTemp("", "sdiff-example-")
	check(err)
	return dir
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
