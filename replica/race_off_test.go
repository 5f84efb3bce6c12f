//go:build !race

package replica_test

const raced = false
