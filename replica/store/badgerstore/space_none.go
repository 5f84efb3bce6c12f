//go:build !linux && !darwin && !windows

package badgerstore

func diskSpace(string) (free, size int64) { return -1, -1 }
