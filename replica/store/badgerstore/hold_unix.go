//go:build linux || darwin

package badgerstore

import (
	"os"
	"syscall"
)

// flockShared locks a directory without waiting, against flock but not against
// itself.
func flockShared(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
}
