//go:build !linux && !darwin && !windows

package badgerstore

func diskSpace(string) (free, size int64) { return -1, -1 }

func diskFiles(string) (left int64, readOnly bool) { return -1, false }
