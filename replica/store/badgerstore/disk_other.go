//go:build !linux && !darwin

package badgerstore

import (
	"io/fs"
	"os"
)

func allocated(fs.FileInfo) (int64, bool) { return 0, false }

// ownLock is false where the lock is left to Badger.
const ownLock = false

func flock(*os.File) error { return nil }

func syncDir(string) error { return nil }

// lives says that a process lives if that cannot be told.
func lives(int) bool { return true }
