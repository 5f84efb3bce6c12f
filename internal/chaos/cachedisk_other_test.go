//go:build chaos && !linux

package chaos

import (
	"math/rand/v2"
	"testing"
)

// A cacheDisk is there on Linux only.
type cacheDisk struct{ path string }

func newCacheDisk(testing.TB, string, int64, map[int64][]byte) *cacheDisk { return nil }

func (*cacheDisk) unmount(testing.TB)                          {}
func (*cacheDisk) flush()                                      {}
func (*cacheDisk) cutPower(*rand.Rand) (map[int64][]byte, int) { return nil, 0 }
