// Peers measures sdiff beside others who do the same or a part of it, checks
// every result, and prints one table and one picture.
//
//	go run . [-n 1000000] [-rounds 3] [-quick] [-only compare|path] [-heal 10s] [-svg file] [-o file]
//
// It has two parts. The comparison finds out where two sets of items differ, in
// one process and without a network: sdiff with sketches, sdiff with ranges
// only, and negentropy. The whole path is two processes with a replica at the
// other end of a TCP connection: sdiff over Badger, a NATS JetStream key-value
// bucket with a mirror, and Redis if redis-server is in the PATH.
//
// All have the same keys, the same values and the same differences. What a
// method says differs is held against what was made to differ, what a replica
// holds is read key by key; a wrong result ends the program with exit code 1.
// Whatever is timed runs turn by turn, A B A B, and the ratios are those of one
// turn, of which the table shows the median. README.md says what is not fair
// to whom.
//
// It is a module of its own, so that none of this is a dependency of sdiff.
package main
