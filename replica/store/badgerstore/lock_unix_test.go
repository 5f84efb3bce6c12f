//go:build linux || darwin

package badgerstore_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sdiff/sdiff/replica/store/badgerstore"
)

// TestOpenAfterKillWhileChildHoldsLock opens the directory of a process that
// was killed while a child of its own, which ends a little later, had the lock:
// it was refused as in use by the process that was gone.
func TestOpenAfterKillWhileChildHoldsLock(t *testing.T) {
	dir := t.TempDir()
	gone := exec.Command(os.Args[0], "-test.run=^$")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(gone.Process.Pid)
	if err := os.WriteFile(filepath.Join(dir, "LOCK"), []byte(pid+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	child, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	if err := syscall.Flock(int(child.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { child.Close() })
	closeStore(t, mustOpen(t, dir, badgerstore.Options{NoSync: true}))
}
