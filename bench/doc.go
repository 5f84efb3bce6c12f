// Package bench measures sdiff against what else there is, and prints ratios.
//
//	go test -bench . ./bench
//	go test -bench Writes ./bench -args -rounds 5
//
// Seconds depend on the machine and on what else it does, so nothing here is
// to be read as an absolute figure. Whatever is compared runs turn by turn in
// the same run, A B A B, and the median of the ratios is reported. Bytes and
// round trips are exact.
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
