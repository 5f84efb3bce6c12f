//go:build chaos

package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
)

// fill fills a file system to its last byte with a file that is not sdiff's.
func (d *disk) fill(t testing.TB) (foreign string) {
	t.Helper()
	foreign = filepath.Join(d.dir, "foreign")
	f, err := os.OpenFile(foreign, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return foreign
}

// state waits until a process is in a state and says why with these words.
func state(t testing.TB, p *process, want replica.State, why string) {
	t.Helper()
	eventually(t, func() string {
		if p.ended() {
			t.Fatalf("it ended: %v\n%s", p.exit(), p.log)
		}
		s, err := p.Status(t.Context())
		if err != nil || s.State != want || !strings.Contains(s.Why, why) {
			return fmt.Sprintf("%s (%s), %v; want %s (%s)\n%s", s.State, s.Why, err, want, why, p.log)
		}
		return ""
	})
}

// wantCode ends a process and demands its exit code.
func (p *process) wantCode(t testing.TB, code int, words ...string) {
	t.Helper()
	p.signal(syscall.SIGTERM)
	<-p.done
	text := p.log.String()
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("%v: exit code %d, want %d\n%s", p.cmd.Args, got, code, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%v does not say %q:\n%s", p.cmd.Args, w, text)
		}
	}
}

// C4 30, 31, L7: writes are refused before the disk is full. When others have
// filled it to the last byte the master still reads, tells its status and
// repairs followers; it ends when asked, it refuses to start and says how many
// bytes it takes, without a crash; and it goes on when there is space, with
// everything that was acknowledged.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	d := loopFS(t, 48)
	dir := filepath.Join(d.dir, "d")
	serve := []string{"serve", "--listen", "127.0.0.1:0"}
	m := mustStart(t, dir, serve...)
	f := mustStart(t, t.TempDir(), "follow", "--from", m.ready.Address)
	acked, err := writeUntil(t, m, "a", 100)
	if err != nil {
		t.Fatal(err)
	}
	more := 0
	for ; err == nil; more++ {
		ops := []control.Op{{Key: fmt.Append(nil, "more", more), Value: make([]byte, 200_000)}}
		if _, err = m.Write(t.Context(), ops); err == nil {
			acked[string(ops[0].Key)] = string(ops[0].Value)
		}
	}
	if code(err) != control.ReadOnly || more < 20 {
		t.Fatalf("%d writes, %v; want some and then read_only", more, err)
	}
	state(t, m, replica.ReadOnly, "nearly full")
	foreign := d.fill(t)
	for range 3 {
		if _, err := m.Write(t.Context(), []control.Op{{Key: []byte("b")}}); code(err) != control.ReadOnly {
			t.Errorf("a write on a full disk: %v", err)
		}
	}
	state(t, m, replica.ReadOnly, "nearly full")
	holds(t, m, acked)
	if rep, err := m.Verify(t.Context()); err != nil || !rep.OK {
		t.Errorf("verify: %+v, %v", rep, err)
	}
	late := mustStart(t, t.TempDir(), "follow", "--from", m.ready.Address)
	eventually(t, func() string { return inSync(t, m, f) })
	eventually(t, func() string { return inSync(t, m, late) })
	m.wantCode(t, 4, "nearly full", "is left as it is")
	for range 3 {
		if out, errs, code := sdiff(t, append(serve, "--data", dir)...); code != 4 || !strings.Contains(errs, "are free, opening takes") {
			t.Errorf("start on a full disk: exit code %d, %s%s", code, out, errs)
		}
	}
	if out, errs, code := sdiff(t, "doctor", "--data", dir); code != 0 || !strings.Contains(out, "\nok    lock") || !strings.Contains("\n"+out, "\nwarn  space") || !strings.Contains(out, "the next start is refused") {
		t.Errorf("doctor on a full disk: exit code %d, %s%s", code, out, errs)
	}
	if err := os.Remove(foreign); err != nil {
		t.Fatal(err)
	}
	m = mustStart(t, dir, "serve", "--listen", m.ready.Address)
	holds(t, m, acked)
	if _, err := m.Write(t.Context(), []control.Op{{Key: []byte("b"), Value: []byte("there is space")}}); err != nil {
		t.Errorf("a write when there is space: %v", err)
	}
	eventually(t, func() string { return inSync(t, m, f) })
	t.Logf("%d writes were acknowledged, none lost", len(acked))
	for _, p := range []*process{f, late, m} {
		p.stop(t)
	}
}

// C4 30: others fill the disk and make room again while writes go on. The
// latch closes and opens; nothing crashes, nothing acknowledged is lost.
func TestDiskThatFillsUnderWrites(t *testing.T) {
	t.Parallel()
	d := loopFS(t, 96)
	dir := filepath.Join(d.dir, "d")
	m := mustStart(t, dir, "serve", "--listen", "127.0.0.1:0", "--log-size", "1MiB")
	f := mustStart(t, t.TempDir(), "follow", "--from", m.ready.Address)
	var n, refused atomic.Int64
	endc, donec := make(chan struct{}), make(chan map[string]string)
	go func() {
		acked := map[string]string{}
		defer func() { donec <- acked }()
		for i := 0; ; i++ {
			select {
			case <-endc:
				return
			default:
			}
			k, v := fmt.Sprint("k", i%3000), fmt.Sprint(i, strings.Repeat("v", 1000))
			switch _, err := m.Write(t.Context(), []control.Op{{Key: []byte(k), Value: []byte(v)}}); {
			case err == nil:
				acked[k] = v
				n.Add(1)
			case code(err) == control.ReadOnly:
				refused.Add(1)
			default:
				t.Errorf("a write: %v", err)
				return
			}
		}
	}()
	for range 4 {
		before := n.Load()
		eventually(t, func() string {
			if n.Load() < before+100 && !m.ended() {
				return "no writes"
			}
			return ""
		})
		foreign := d.fill(t)
		state(t, m, replica.ReadOnly, "nearly full")
		if err := os.Remove(foreign); err != nil {
			t.Fatal(err)
		}
		state(t, m, replica.Serving, "")
	}
	close(endc)
	acked := <-donec
	holds(t, m, acked)
	eventually(t, func() string { return inSync(t, m, f) })
	if refused.Load() == 0 {
		t.Error("no write was refused: this tested nothing")
	}
	t.Logf("%d writes were acknowledged, none lost; %d were refused", n.Load(), refused.Load())
	f.stop(t)
	m.stop(t)
}

// C4 30: a file system on which no file can be made is full, too.
func TestNoInodesLeft(t *testing.T) {
	t.Parallel()
	d := loopFS(t, 48, "-N", "64")
	dir := filepath.Join(d.dir, "d")
	m := mustStart(t, dir, "serve", "--listen", "127.0.0.1:0")
	acked, err := writeUntil(t, m, "a", 50)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; ; n++ {
		if err := os.WriteFile(filepath.Join(d.dir, fmt.Sprint("x", n)), nil, 0o600); errors.Is(err, syscall.ENOSPC) {
			break
		} else if err != nil || n > 1000 {
			t.Fatal(n, err)
		}
	}
	eventually(t, func() string { // the disk is asked now and then only
		if _, err := m.Write(t.Context(), []control.Op{{Key: []byte("b")}}); code(err) != control.ReadOnly {
			return fmt.Sprintf("a write without inodes: %v", err)
		}
		return ""
	})
	state(t, m, replica.ReadOnly, "more files can be made")
	holds(t, m, acked)
	m.wantCode(t, 4, "more files can be made")
	if out, errs, code := sdiff(t, "serve", "--listen", "127.0.0.1:0", "--data", dir); code != 4 {
		t.Errorf("start without inodes: exit code %d, %s%s", code, out, errs)
	}
	for i := range n {
		_ = os.Remove(filepath.Join(d.dir, fmt.Sprint("x", i)))
	}
	m = mustStart(t, dir, "serve", "--listen", "127.0.0.1:0")
	holds(t, m, acked)
	if _, err := m.Write(t.Context(), []control.Op{{Key: []byte("b")}}); err != nil {
		t.Errorf("a write with inodes: %v", err)
	}
	m.stop(t)
}

// C4 37: a file system that becomes read-only, as ext4 does when it meets an
// error: nothing tells of it before a write fails. The process ends by itself
// and says why, does not start, and when the file system has been checked and
// mounted again everything that was acknowledged is there.
func TestReadOnlyFileSystem(t *testing.T) {
	for _, role := range []string{"master", "follower"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			readOnlyFS(t, role)
		})
	}
}

func readOnlyFS(t *testing.T, role string) {
	d := loopFS(t, 48)
	must(t, "mount", "-o", "remount,errors=remount-ro", d.dir)
	mdir, fdir := filepath.Join(d.dir, "d"), t.TempDir()
	if role == "follower" {
		mdir, fdir = fdir, mdir
	}
	m := mustStart(t, mdir, "serve", "--listen", "127.0.0.1:0")
	acked, err := writeUntil(t, m, "a", 50)
	if err != nil {
		t.Fatal(err)
	}
	f := mustStart(t, fdir, "follow", "--from", m.ready.Address)
	eventually(t, func() string { return inSync(t, m, f) })
	trigger := filepath.Join("/sys/fs/ext4", d.device, "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("made by a test"), 0); err != nil {
		skip(t, "cannot make ext4 meet an error")
	}
	hurt := m
	_, werr := m.Write(t.Context(), []control.Op{{Key: []byte("b"), Value: []byte("1")}})
	if role == "follower" {
		if hurt = f; werr != nil {
			t.Errorf("the master took harm: %v", werr)
		}
	} else if c := code(werr); c != control.ReadOnly && c != control.OutcomeUnknown && c != control.CutOff {
		t.Errorf("a write: %v", werr)
	}
	select {
	case <-hurt.done:
	case <-time.After(patience):
		hurt.quit()
		t.Fatalf("it has not ended\n%s", hurt.log)
	}
	hurt.wantCode(t, 4, "read-only file system", "outcome of the write is unknown")
	start := []string{"serve", "--listen", "127.0.0.1:0"}
	if out, errs, code := sdiff(t, append(start, "--data", hurt.dir)...); code == 0 || code == 8 || !strings.Contains(errs, "read-only") {
		t.Errorf("start on a read-only file system: exit code %d, %s%s", code, out, errs)
	}
	must(t, "umount", d.dir)
	_ = exec.Command("fsck.ext4", "-y", filepath.Join("/dev", d.device)).Run() // 1 is: corrected
	must(t, "mount", "-t", "ext4", filepath.Join("/dev", d.device), d.dir)
	if role == "master" {
		m = mustStart(t, mdir, "serve", "--listen", m.ready.Address)
		holds(t, m, acked)
	} else {
		f = mustStart(t, fdir, "follow", "--from", m.ready.Address)
	}
	eventually(t, func() string { return inSync(t, m, f) })
	f.stop(t)
	m.stop(t)
}

// A directory that is removed under a running process: it soon takes no more
// writes, which would be nowhere, and ends when it is asked to, once.
func TestDirectoryRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	m := mustStart(t, dir, "serve", "--listen", "127.0.0.1:0")
	f := mustStart(t, t.TempDir(), "follow", "--from", m.ready.Address)
	acked, err := writeUntil(t, m, "a", 50)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string { return inSync(t, m, f) })
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	// The control socket went with the directory: an open connection is all that
	// is left. The store looks after every 10 ms of writing.
	eventually(t, func() string {
		if _, err := m.Write(t.Context(), []control.Op{{Key: []byte("b")}}); err == nil {
			return "writes are acknowledged"
		}
		return ""
	})
	m.wantCode(t, 4, "removed or moved")
	holds(t, f, acked)
}
