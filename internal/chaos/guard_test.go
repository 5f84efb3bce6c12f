//go:build chaos

package chaos

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
)

var pauseFor = flag.Duration("pause", 13*time.Second, "how long to stop a follower, and a master, with SIGSTOP; over the limit of silence, 10s")

// C4 23: a directory belongs to one process. Every other command that would open
// it is refused, with exit code 2 and the process that has it; also while that
// one is being killed, when the next one gets it or is refused, and nothing
// in between.
func TestTwoProcessesOnOneDirectory(t *testing.T) {
	dir, fdir := t.TempDir(), t.TempDir()
	m := mustStart(t, dir, "serve", "--listen", "127.0.0.1:0")
	f := mustStart(t, fdir, "follow", "--from", m.ready.Address)
	acked, err := writeUntil(t, m, "a", 50)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string { return inSync(t, m, f) })
	for _, args := range [][]string{
		{"serve", "--listen", "127.0.0.1:0", "--data", dir},
		{"follow", "--from", m.ready.Address, "--data", dir},
		{"promote", "--data", fdir},
		{"restore", "--from", fdir, "--data", dir + ".new"},
		{"restore", "--from", dir, "--data", dir + ".new"},
		{"doctor", "--data", dir},
	} {
		pid := fmt.Sprint(m.ready.PID)
		if args[len(args)-1] == fdir || strings.Contains(strings.Join(args, " "), "--from "+fdir) {
			pid = fmt.Sprint(f.ready.PID)
		}
		out, errs, code := sdiff(t, args...)
		if args[0] == "doctor" {
			// It tells of a running process instead.
			if !strings.Contains(out+errs, pid) {
				t.Errorf("%v: exit code %d, %s%s; want the process %s", args, code, out, errs, pid)
			}
		} else if code != 2 || !strings.Contains(errs, pid) {
			t.Errorf("%v: exit code %d, %s%s; want 2 and process %s", args, code, out, errs, pid)
		}
	}
	took := 0
	for range 10 {
		go m.signal(syscall.SIGKILL)
		next, err := start(t, dir, "serve", "--listen", "127.0.0.1:0")
		<-m.done
		if err != nil {
			if !strings.Contains(err.Error(), "in use") {
				t.Fatalf("while the first is being killed: %v", err)
			}
			next = mustStart(t, dir, "serve", "--listen", "127.0.0.1:0")
		} else {
			took++
		}
		m = next
		holds(t, m, acked)
	}
	t.Logf("%d of 10 took the directory from a process that was being killed", took)
}

// C4 57: with 64 file descriptors a master accepts what it can, says in its log
// that it cannot accept more, keeps those it serves, and takes others when some
// have gone. A follower with as few works.
func TestFewFileDescriptors(t *testing.T) {
	if _, err := exec.LookPath("prlimit"); err != nil {
		skip(t, "needs prlimit")
	}
	dir, fdir := t.TempDir(), t.TempDir()
	limited := func(dir string, args ...string) *process {
		t.Helper()
		p, err := startWith(t, exec.Command("prlimit", append([]string{"--nofile=64", program}, append(args, "--data", dir, "-o", "json")...)...), dir)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	m := limited(dir, "serve", "--listen", "127.0.0.1:0")
	f := limited(fdir, "follow", "--from", m.ready.Address)
	eventually(t, func() string { return inSync(t, m, f) })
	keep, err := m.Status(t.Context()) // keeps a connection to the control socket
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	// A stranger has five seconds to say hello: there are always more.
	for len(conns) < 300 && !strings.Contains(m.log.String(), "cannot accept a connection") {
		c, err := net.DialTimeout("tcp", m.ready.Address, time.Second)
		if err == nil {
			conns = append(conns, c)
		}
	}
	eventually(t, func() string {
		if !strings.Contains(m.log.String(), "cannot accept a connection") {
			return "the master does not say that it can accept no more"
		}
		return ""
	})
	acked, err := writeUntil(t, m, "a", 20)
	if err != nil {
		t.Fatalf("a write: %v", err)
	}
	eventually(t, func() string { return inSync(t, m, f) })
	if s, err := m.Status(t.Context()); err != nil || s.State != replica.Serving || !s.Followers[0].Since.Equal(keep.Followers[0].Since) && s.Followers[0].State != replica.Streaming {
		t.Errorf("the follower that was served: %+v, %v", s.Followers, err)
	}
	if text := f.log.String(); strings.Contains(text, "session with the master ended") {
		t.Errorf("the follower lost its session:\n%s", text)
	}
	for _, c := range conns {
		c.Close()
	}
	conns = nil
	late := mustStart(t, t.TempDir(), "follow", "--from", m.ready.Address)
	eventually(t, func() string { return inSync(t, m, late) })
	holds(t, late, acked)
	for _, p := range []*process{late, f, m} {
		p.stop(t)
	}
}

// C4 19: while a follower is stopped nobody claims that it is in sync: its
// master shows how long ago it was heard, and lets it go. It comes back as if it
// had been cut off.
func TestStoppedFollower(t *testing.T) {
	t.Parallel()
	m := mustStart(t, t.TempDir(), "serve", "--listen", "127.0.0.1:0")
	f := mustStart(t, t.TempDir(), "follow", "--from", m.ready.Address)
	if _, err := writeUntil(t, m, "a", 10); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string { return inSync(t, m, f) })
	f.freeze(t)
	stopped := time.Now()
	acked, err := writeUntil(t, m, "b", 10)
	if err != nil {
		t.Fatal(err)
	}
	dropped := false
	look := func() string {
		s, err := m.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fs, age := s.Followers[0], time.Since(stopped)
		dropped = dropped || !fs.Connected
		switch {
		case dropped && fs.InSync != nil, age > 2*time.Second && (fs.LagCommits != 10 || time.Since(fs.LastContact) < age-2*time.Second):
			t.Fatalf("stopped for %v, and the master says %+v", age, fs)
		case !dropped || age < *pauseFor:
			return fmt.Sprintf("stopped for %v, the master says %+v", age, fs)
		}
		return ""
	}
	eventually(t, look)
	f.signal(syscall.SIGCONT)
	eventually(t, func() string { return inSync(t, m, f) })
	holds(t, f, acked)
	f.stop(t)
	m.stop(t)
}

// C4 20: while a master is stopped its follower says how long ago it heard of
// it, and gives up in time. When it goes on it serves what it acknowledged, and
// its history goes on: one epoch, no offset twice.
func TestStoppedMaster(t *testing.T) {
	t.Parallel()
	m := mustStart(t, t.TempDir(), "serve", "--listen", "127.0.0.1:0")
	f := mustStart(t, t.TempDir(), "follow", "--from", m.ready.Address)
	acked, err := writeUntil(t, m, "a", 10)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string { return inSync(t, m, f) })
	before, err := m.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m.freeze(t)
	stopped := time.Now()
	gone := false
	look := func() string {
		s, err := f.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		age := time.Since(stopped)
		if age > 2*time.Second && (time.Since(*s.LastContact) < age-2*time.Second || time.Since(s.Progress) < age-2*time.Second) {
			b, _ := json.Marshal(s)
			t.Fatalf("stopped for %v, and the follower says %s", age, b)
		}
		holds(t, f, acked)
		if gone = gone || s.State == replica.Connecting; gone && age >= *pauseFor {
			return ""
		}
		return fmt.Sprintf("stopped for %v, and the follower is %s", age, s.State)
	}
	eventually(t, look)
	m.signal(syscall.SIGCONT)
	if _, err := m.Write(t.Context(), []control.Op{{Key: []byte("b"), Value: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string { return inSync(t, m, f) })
	if s, err := m.Status(t.Context()); err != nil || s.Epoch != before.Epoch || s.Offset != before.Offset+1 {
		t.Errorf("epoch %s, offset %d, %v; want %s and %d", s.Epoch, s.Offset, err, before.Epoch, before.Offset+1)
	}
	f.stop(t)
	m.stop(t)
}

// timeout(1) sends SIGTERM to the process and to its group: that is one request
// to end.
func TestTimeoutEndsCleanly(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("timeout"); err != nil {
		skip(t, "needs timeout")
	}
	dir := t.TempDir()
	for range 2 {
		cmd := exec.Command("timeout", "4", program, "serve", "--listen", "127.0.0.1:0", "--data", dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 124 || !strings.Contains(string(out), "ended cleanly") || strings.Contains(string(out), "not clean") {
			t.Fatalf("exit code %d, %v\n%s", code, err, out)
		}
	}
	if _, err := os.Stat(dir + "/CLOSED"); err != nil {
		t.Error(err)
	}
}
