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
//	go test -run '^$' -benchtime 1x -timeout 2h ./bench -bench Name -args -ops 1000000 …
//
//	                                      Name                 …
//	comparison, bytes, round trips        Differences          -seeds 100
//	sustained writes                      Writes
//	one write until it is visible         Latency              -seconds 10
//	256 callers of Put, each on disk      Durable/writers=256  -seconds 20
//	first copy                            Copy
//	60,000 writes missed, log kept        CatchUp              -rounds 9
//	60,000 keys missed, log gone          LogGone              -rounds 9
//	ops lost or garbled on the way in     Damage               -rounds 9
//	items changed behind the store        Tamper               -long
//	tree and sketch, for a put            Tree/put
//	memory of a master                    Heap
//	time to start                         Start
//	a hundred followers                   Crowd
//	nothing to do                         Idle                 -seconds 30
//
// With -ops 10000000 Differences, with few -seeds, and Start tell whether that
// goes on with ten times as many.
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
