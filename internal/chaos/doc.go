// Package chaos holds no code but tests: the real sdiff program, in real
// processes over real sockets and real disks, while it is killed, cut off,
// starved and damaged. They are behind a build tag, because they take their
// time and some need root:
//
//	go test -tags chaos ./internal/chaos -v
//
// runs a short slice of each kind, as the checks of the project do. The flags
// of the tests make it as long as wanted. docs/GUARANTEES.md has the commands
// and what came out.
//
// What a machine cannot do (no root, no loop device, no strace) is skipped, and
// the last line says how many tests were.
package chaos
