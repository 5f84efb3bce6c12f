//go:build chaos

package chaos

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
)

var ioErrors = flag.Int("io-errors", 6, "I/O errors to inject into masters and followers, by strace")

// traced starts sdiff under strace, which does to its system calls what expr
// says. What was injected is in the file that is returned.
func traced(t *testing.T, dir, expr string, args ...string) (*process, string, error) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		skip(t, "needs strace")
	}
	out := filepath.Join(t.TempDir(), "strace")
	call, _, _ := strings.Cut(expr, ":")
	args = append([]string{"-f", "-qq", "-o", out, "-e", "trace=" + call, "-e", "inject=" + expr, program}, append(args, "--data", dir, "-o", "json")...)
	p, err := startWith(t, exec.Command("strace", args...), dir)
	if b, _ := os.ReadFile(out); err != nil && len(b) == 0 {
		skip(t, "does not let strace trace")
	}
	return p, out, err
}

// injected returns how many system calls were tampered with.
func injected(t *testing.T, file string) int {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte("INJECTED")) + bytes.Count(b, []byte("DELAYED"))
}

// writeUntil writes keys one after another until the process ends, refuses, or
// n are written, and returns those that were acknowledged.
func writeUntil(t *testing.T, p *process, prefix string, n int) (acked map[string]string, err error) {
	acked = map[string]string{}
	for i := range n {
		k, v := fmt.Sprint(prefix, i), fmt.Sprint(i, strings.Repeat("v", 500))
		if _, err = p.Write(t.Context(), []control.Op{{Key: []byte(k), Value: []byte(v)}}); err != nil {
			return acked, err
		}
		acked[k] = v
	}
	return acked, nil
}

// holds demands that a process holds all of these.
func holds(t *testing.T, p *process, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if got, err := p.Get(t.Context(), []byte(k)); err != nil || string(got) != v {
			t.Fatalf("%s was acknowledged, and is %.20q, %v", k, got, err)
		}
	}
}

// C4 28: an I/O error, at any call, costs at most what was not acknowledged. The
// store is poisoned: the process ends and says so. A restart finds out what is
// there, and every acknowledged write is. A follower never holds what its
// master does not (L2): it is not parked by the restart.
func TestIOErrors(t *testing.T) {
	calls := []string{"msync", "fsync", "pwrite64", "fdatasync", "ftruncate", "write"}
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	ended, fired := 0, map[string]int{}
	for i := range *ioErrors {
		call := calls[i/2%len(calls)]
		most := 4
		if call == "msync" || call == "pwrite64" || call == "write" {
			most = 16 // there are many of them; threads count theirs one by one
		}
		expr := fmt.Sprintf("%s:error=EIO:when=%d", call, 1+r.IntN(most))
		if r.IntN(2) == 0 {
			expr += "+" // and all that follow
		}
		role := []string{"master", "follower"}[i%2]
		t.Run(fmt.Sprintf("%d %s of a %s", i, expr, role), func(t *testing.T) {
			n, died := ioError(t, role, expr)
			fired[call] += n
			if died {
				ended++
			}
		})
	}
	t.Logf("%d rounds, %d processes ended, injected: %v", *ioErrors, ended, fired)
	if fired["msync"] == 0 && *ioErrors > 1 && !t.Failed() {
		t.Error("no msync failed: this tested nothing")
	}
}

func ioError(t *testing.T, role, expr string) (fired int, died bool) {
	mdir, fdir := t.TempDir(), t.TempDir()
	var m, f *process
	var file string
	var err error
	serve := []string{"serve", "--listen", "127.0.0.1:0"}
	if role == "master" {
		m, file, err = traced(t, mdir, expr, serve...)
	} else {
		m = mustStart(t, mdir, serve...)
	}
	acked := map[string]string{}
	if err == nil {
		follow := []string{"follow", "--from", m.ready.Address}
		if role == "follower" {
			f, file, err = traced(t, fdir, expr, follow...)
		} else {
			f = mustStart(t, fdir, follow...)
		}
		var werr error
		acked, werr = writeUntil(t, m, "a", 60)
		if role == "follower" && werr != nil {
			t.Fatalf("a master took harm from its follower's disk: %v", werr)
		}
	}
	died = err != nil
	for _, p := range []*process{f, m} {
		if p == nil {
			continue
		}
		died = p.ended() || died
		p.signal(syscall.SIGTERM)
		<-p.done
		if p.cmd.Args[0] != "strace" {
			continue
		}
		code, text := p.cmd.ProcessState.ExitCode(), p.log.String()
		switch {
		case strings.Contains(text, "SIGBUS") || strings.Contains(text, "panic:") || strings.Contains(text, "goroutine "):
			t.Errorf("it crashed, exit code %d:\n%s", code, text)
		case code == 2 && strings.HasPrefix(expr, "write:"):
			// Go's runtime writes to an eventfd of its own, and throws.
		case code != 0 && code != 4 && code != 8:
			t.Errorf("exit code %d:\n%s", code, text)
		case code != 0 && !strings.Contains(text, "input/output error") && !strings.Contains(text, "outcome"):
			t.Errorf("exit code %d without a word about why:\n%s", code, text)
		}
	}
	if err != nil && !strings.Contains(err.Error(), "input/output error") && !strings.Contains(err.Error(), "exit status") {
		t.Errorf("it did not start: %v", err)
	}
	fired = injected(t, file)
	m = mustStart(t, mdir, serve...)
	f = mustStart(t, fdir, "follow", "--from", m.ready.Address)
	holds(t, m, acked)
	eventually(t, func() string { return inSync(t, m, f) })
	holds(t, f, acked)
	if text := f.log.String(); strings.Contains(text, "state=parked") {
		t.Errorf("the follower had more than its master:\n%s", text)
	}
	f.stop(t)
	m.stop(t)
	return fired, died
}

// C4 28, at the sync that costs most: when Badger has named a new table in
// MANIFEST and cannot sync that, it removes the table. The next start goes on
// without it, as all it held is in the write-ahead log.
func TestSyncErrorsOfMANIFEST(t *testing.T) {
	fired := 0
	for _, when := range []string{"1+", "2+", "3+", "4+", "5+", "6+", "3", "4", "5"} {
		for _, role := range []string{"master", "follower"} {
			t.Run(fmt.Sprintf("%s fsync %s", role, when), func(t *testing.T) {
				n, _ := ioError(t, role, "fsync:error=EIO:when="+when)
				fired += n
			})
		}
	}
	if fired == 0 && !t.Failed() {
		t.Error("no sync failed: this tested nothing")
	}
}

// C4 29: a disk that takes 300 ms to 5 s for a sync makes writes slow and
// nothing else: status answers, heartbeats go on, and no session is lost, be it
// the master's disk or the follower's.
func TestSlowSyncs(t *testing.T) {
	for _, tt := range []struct {
		role  string
		delay time.Duration
	}{{"master", 300 * time.Millisecond}, {"master", 5 * time.Second}, {"follower", 3 * time.Second}} {
		t.Run(fmt.Sprintf("%s %v", tt.role, tt.delay), func(t *testing.T) {
			t.Parallel()
			slowSyncs(t, tt.role, tt.delay)
		})
	}
}

func slowSyncs(t *testing.T, role string, delay time.Duration) {
	mdir, fdir := t.TempDir(), t.TempDir()
	m := mustStart(t, mdir, "serve", "--listen", "127.0.0.1:0")
	f := mustStart(t, fdir, "follow", "--from", m.ready.Address)
	eventually(t, func() string { return inSync(t, m, f) })
	slow := m
	if role == "follower" {
		slow = f
	}
	file := delaySyncs(t, slow, delay)
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 6*delay+30*time.Second)
	defer cancel()
	const writers = 8
	writes := 3
	if delay > time.Second {
		writes = 1
	}
	errc := make(chan error, writers)
	for i := range writers {
		go func() {
			var err error
			for j := 0; j < writes && err == nil; j++ {
				_, err = m.Write(ctx, []control.Op{{Key: fmt.Append(nil, i), Value: fmt.Append(nil, j)}})
			}
			errc <- err
		}()
	}
	var slowest time.Duration
	for left := writers; left > 0 || time.Since(began) < delay; {
		select {
		case err := <-errc:
			if left--; err != nil {
				t.Errorf("a write: %v", err)
			}
		case <-time.After(50 * time.Millisecond):
		}
		for _, p := range []*process{m, f} {
			at := time.Now()
			s, err := p.Status(t.Context())
			slowest = max(slowest, time.Since(at))
			if err != nil || s.State == replica.Connecting {
				t.Errorf("status of the %s: %s %s, %v", s.Role, s.State, s.Why, err)
			}
			if s.LastContact != nil && role == "master" && time.Since(*s.LastContact) > 8*time.Second {
				t.Errorf("nothing was heard from the master for %v", time.Since(*s.LastContact))
			}
		}
	}
	if took := time.Since(began); role == "master" && took < delay {
		t.Errorf("the writes took %v: they did not wait for the disk", took)
	}
	if slowest > 3*time.Second {
		t.Errorf("status took %v", slowest)
	}
	t.Logf("writes took %v, the slowest status %v", time.Since(began).Round(time.Millisecond), slowest.Round(time.Millisecond))
	eventually(t, func() string { return inSync(t, m, f) })
	if text := f.log.String(); strings.Contains(text, "session with the master ended") {
		t.Errorf("the session was lost:\n%s", text)
	}
	if injected(t, file) == 0 {
		t.Error("no sync was slow: this tested nothing")
	}
}

// delaySyncs attaches strace to a running process until the test ends.
func delaySyncs(t *testing.T, p *process, d time.Duration) (file string) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		skip(t, "needs strace")
	}
	file = filepath.Join(t.TempDir(), "strace")
	expr := fmt.Sprintf("inject=fsync,msync,fdatasync:delay_enter=%d", d.Microseconds())
	cmd := exec.Command("strace", "-f", "-qq", "-o", file, "-e", "trace=fsync,msync,fdatasync", "-e", expr, "-p", fmt.Sprint(p.ready.PID))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	eventually(t, func() string {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.ready.PID)); err != nil || bytes.Contains(b, []byte("TracerPid:\t0\n")) {
			return fmt.Sprintf("strace is not attached: %v %s", err, said.String())
		}
		return ""
	})
	return file
}

// code returns the code of an error that a process answered.
func code(err error) control.Code {
	if e, ok := errors.AsType[*control.Error](err); ok {
		return e.Code
	}
	return ""
}
