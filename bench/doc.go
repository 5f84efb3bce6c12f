// Package bench measures sdiff against what else there is, and prints ratios.
//
//	go test -run '^$' -bench . -benchtime 1x ./bench
//	go test -run '^$' -bench Writes -benchtime 1x ./bench -args -rounds 5
//
// Seconds depend on the machine and on what else it does, so nothing here is
// to be read as an absolute figure. Whatever is compared runs turn by turn in
// the same run, A B A B, and the median of the ratios is reported. Bytes and
// round trips are exact.
//
// # Full size
//
// By themselves the benchmarks are small, so that all of them take two minutes.
// The figures that are published are of a million keys and more:
//
//	go test -run '^$' -benchtime 1x -timeout 2h ./bench -bench '…' -args …
//
//	comparison, round trips               Differences         -items 1000000 -seeds 100
//	the same at ten million keys          Differences         -items 10000000 -seeds 3
//	tree and sketch, for a put            Tree/put
//	sustained writes, sync off            Writes/sync=off
//	sustained writes, sync on             Writes/sync=on      -items 1000000
//	sustained writes, stores in memory    Writes/memory       -items 1000000
//	one write until it is visible         Latency             -seconds 10
//	256 callers of Put, each on disk      Durable/writers=256 -seconds 10
//	first copy                            Copy
//	60,000 writes missed, log kept        CatchUp             -rounds 9
//	60,000 keys missed, log gone          LogGone             -items 1000000 -rounds 9
//	ops lost or garbled on the way in     Damage              -items 1000000
//	items changed behind the store        Tamper              -items 1000000 -long
//	memory of a master                    Heap                -items 1000000
//	start, also of ten million keys       Start               -items 1000000
//	a hundred followers                   Crowd               -items 1000000
//	nothing to do                         Idle                -seconds 30
//
// What -items does not say has a million keys, or as many as -ops.
//
// # The straw man
//
// What any two Badger databases that replicate must pay, and no more: a Badger
// WriteBatch of a thousand, a frame of msgpack over one TCP connection, a
// WriteBatch at the other end, an acknowledgement. It has no tree, no
// fingerprints, no log and no repair. Its databases have Badger's default
// options but for SyncWrites, which is off at both ends on either side of a
// comparison. Where that matters most, BenchmarkWrites, there is a second one
// beside it, the tuned straw man, with the options that package badgerstore
// uses.
//
// # Processes
//
// Where two replicas are measured, each runs in a process of its own, the test
// binary started again with a role; the process of the test only tells them
// what to do.
package bench
