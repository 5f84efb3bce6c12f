//go:build chaos

package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A disk is an ext4 file system in an image file, mounted through a loop
// device. What is in the image is what has reached the disk: the page cache of
// the mounted file system is not part of it.
type disk struct {
	dir    string     // where it is mounted
	image  string     // the file that backs the loop device
	device string     // such as loop0
	cache  *cacheDisk // what serves the image; nil for a file
}

// loopFS makes a file system of so many megabytes (2^20 bytes) and mounts it
// until the test ends; processes in it are to be started after this, so that
// they are killed before. The image is sparse. mkfsArgs go to mkfs.ext4. It
// skips the test where there is no root or no loop device.
func loopFS(t testing.TB, megabytes int, mkfsArgs ...string) *disk {
	t.Helper()
	return loopFSIn(t, t.TempDir(), megabytes, mkfsArgs...)
}

// loopFSIn is loopFS with the image in a directory that outlives the test.
func loopFSIn(t testing.TB, in string, megabytes int, mkfsArgs ...string) *disk {
	t.Helper()
	needLoop(t)
	image := filepath.Join(in, "image")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(megabytes) << 20); err != nil {
		t.Fatal(err)
	}
	makeFS(t, image, mkfsArgs...)
	return mountImage(t, image)
}

// makeFS makes the file system in an image.
func makeFS(t testing.TB, image string, args ...string) {
	t.Helper()
	args = append([]string{"-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"}, args...)
	must(t, "mkfs.ext4", append(args, image)...)
}

// mountImage mounts an image with a file system until the test ends. Like any
// mount after a power cut it replays the journal.
func mountImage(t testing.TB, image string) *disk {
	t.Helper()
	needLoop(t)
	// A short path: that of a unix socket in it is bounded.
	dir, err := os.MkdirTemp("", "sdiff-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	dev := strings.TrimSpace(must(t, "losetup", "--find", "--show", image))
	d := &disk{dir: dir, image: image, device: filepath.Base(dev)}
	if out, err := exec.Command("mount", "-t", "ext4", dev, dir).CombinedOutput(); err != nil {
		_ = exec.Command("losetup", "--detach", dev).Run()
		t.Fatalf("mount: %v\n%s", err, out)
	}
	t.Cleanup(func() { d.unmount(t) })
	return d
}

// unmount unmounts the file system, if it is mounted, and frees the device.
// Nobody may have files open in it.
func (d *disk) unmount(t testing.TB) {
	if d.device == "" {
		return
	}
	dev := filepath.Join("/dev", d.device)
	d.device = ""
	out, err := exec.Command("umount", d.dir).CombinedOutput()
	if err != nil {
		t.Errorf("umount: %v\n%s", err, out)
		_ = exec.Command("umount", "--lazy", d.dir).Run()
	}
	if out, err := exec.Command("losetup", "--detach", dev).CombinedOutput(); err != nil {
		t.Errorf("losetup --detach: %v\n%s", err, out)
	}
}

// needLoop skips the test where file systems cannot be mounted from images.
func needLoop(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "needs root to mount file systems")
	}
	for _, tool := range []string{"losetup", "mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			skip(t, "needs "+tool)
		}
	}
	if out, err := exec.Command("losetup", "--find").CombinedOutput(); err != nil {
		skip(t, fmt.Sprintf("has no loop device: %s", strings.TrimSpace(string(out))))
	}
}

// must runs a command that has to succeed and returns what it printed.
func must(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}
