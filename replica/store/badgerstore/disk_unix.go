//go:build linux || darwin

package badgerstore

import (
	"io/fs"
	"os"
	"syscall"
)

// diskSpace returns the bytes that the file system of path has for us, and in
// all, or -1.
func diskSpace(path string) (free, size int64) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return -1, -1
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize)
}

// diskFiles returns how many files can still be made on the file system of a
// path, -1 if it does not count them, and whether it is read-only.
func diskFiles(path string) (left int64, readOnly bool) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return -1, false
	}
	left = -1
	if st.Files > 0 {
		left = int64(st.Ffree)
	}
	const rdOnly = 1 // ST_RDONLY, MNT_RDONLY
	return left, st.Flags&rdOnly != 0
}

// allocated returns the bytes on disk that a file takes.
func allocated(info fs.FileInfo) (int64, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Blocks * 512, true
}

// ownLock says that flock locks a directory as Badger does, and instead of it.
const ownLock = true

// flock locks a directory without waiting.
func flock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// lives reports whether there is a process with a number.
func lives(pid int) bool {
	return pid > 0 && syscall.Kill(pid, 0) != syscall.ESRCH
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
