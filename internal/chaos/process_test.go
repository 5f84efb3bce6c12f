//go:build chaos

package chaos

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sdiff/sdiff/internal/control"
)

// patience is how long anything may take before a test gives up on it: it only
// ever ends what hangs.
const patience = 2 * time.Minute

// ready is what serve and follow print with -o json.
type ready struct {
	Role        string `json:"role"`
	Address     string `json:"address"`
	PID         int    `json:"pid"`
	Dataset     string `json:"dataset"`
	Offset      uint64 `json:"offset"`
	Keys        uint64 `json:"keys"`
	Fingerprint string `json:"fingerprint"`
}

// A process is one running sdiff serve or follow.
type process struct {
	*control.Client
	dir   string
	ready ready // once start has returned
	cmd   *exec.Cmd
	log   *ring
	done  chan struct{} // closed once it has ended
	err   error         // how it ended; read after done
}

// start runs sdiff with a directory and waits until it says that it is ready.
// It returns the process's log with the error if it ends before that.
func start(t testing.TB, dir string, args ...string) (*process, error) {
	t.Helper()
	return startWith(t, exec.Command(program, append(args, "--data", dir, "-o", "json")...), dir)
}

// startWith is start for a command line of one's own, such as one under strace.
func startWith(t testing.TB, cmd *exec.Cmd, dir string) (*process, error) {
	t.Helper()
	p := &process{Client: control.NewClient(dir), dir: dir, cmd: cmd, log: &ring{}, done: make(chan struct{})}
	cmd.Stderr = p.log
	// Its children, too, are killed with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	first := make(chan string, 1)
	go func() {
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n')
		first <- line
		_, _ = io.Copy(io.Discard, r)
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() { p.kill(); p.Close() })
	select {
	case line := <-first:
		if line == "" {
			<-p.done
			return nil, fmt.Errorf("%v: %w\n%s", cmd.Args, p.exit(), p.log)
		}
		if err := json.Unmarshal([]byte(line), &p.ready); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		if p.ready.PID == 0 { // an error is an object, too
			<-p.done
			return nil, fmt.Errorf("%v: %w\n%s%s", cmd.Args, p.exit(), p.log, line)
		}
		return p, nil
	case <-time.After(patience):
		p.quit()
		return nil, fmt.Errorf("%v is not ready after %v\n%s", cmd.Args, patience, p.log)
	}
}

// mustStart is start for a process that has to come up.
func mustStart(t testing.TB, dir string, args ...string) *process {
	t.Helper()
	p, err := start(t, dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// signal sends a signal to the process and its children, unless it has ended:
// its number may be somebody else's then.
func (p *process) signal(s syscall.Signal) {
	if !p.ended() {
		_ = syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

// freeze stops the process with SIGSTOP, and waits until it stands still: what
// it does between the signal and that would be counted as done while stopped.
func (p *process) freeze(t testing.TB) {
	t.Helper()
	p.signal(syscall.SIGSTOP)
	eventually(t, func() string { return stillRuns(p.cmd.Process.Pid) })
}

// stillRuns says which thread of a process that was stopped may still do
// something: one that runs on could acknowledge what came after the cut. One
// that waits for a disk stops before it sees the answer.
func stillRuns(pid int) string {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		// The state follows the name, which is in parentheses.
		_, state, _ := strings.Cut(string(b), ") ")
		if state == "" || !strings.Contains("TtDZX", state[:1]) {
			return fmt.Sprintf("thread %s is not stopped: %.1s", filepath.Base(filepath.Dir(task)), state)
		}
	}
	return ""
}

// kill ends the process with SIGKILL, as a crash would.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// quit makes the process print its stacks and end, for one that hangs.
func (p *process) quit() {
	p.signal(syscall.SIGQUIT)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.kill()
	}
}

// stop ends the process as Ctrl-C does, and fails the test if it does not end
// cleanly.
func (p *process) stop(t testing.TB) {
	t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.quit()
		t.Fatalf("%v has not ended %v after SIGTERM\n%s", p.cmd.Args, patience, p.log)
	}
	if p.err != nil {
		t.Fatalf("%v: %v\n%s", p.cmd.Args, p.exit(), p.log)
	}
}

// exit says how an ended process ended.
func (p *process) exit() error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}

// ended says whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// sdiff runs a command to its end and returns what it printed and its exit
// code.
func sdiff(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	hung := time.AfterFunc(patience, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) })
	defer hung.Stop()
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// A ring keeps the newest part of a process's log. It is safe for concurrent
// use.
type ring struct {
	mu sync.Mutex
	b  []byte
}

const ringBytes = 64 << 10

func (r *ring) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.b = append(r.b, b...); len(r.b) > 2*ringBytes {
		r.b = append([]byte(nil), r.b[len(r.b)-ringBytes:]...)
	}
	return len(b), nil
}

func (r *ring) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.b)
}

// eventually polls until ok returns an empty string, and fails with what it
// returned last if that takes longer than patience. Real processes cannot be
// waited for in any other way.
func eventually(t testing.TB, ok func() string) {
	t.Helper()
	var why string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if why = ok(); why == "" {
			return
		}
	}
	t.Fatalf("after %v: %s", patience, why)
}

// inSync returns "" once the follower holds what the master holds, verified,
// and why not otherwise.
func inSync(t testing.TB, master, follower *process) string {
	if master.ended() {
		t.Fatalf("the master ended: %v\n%s", master.exit(), master.log)
	}
	if follower.ended() {
		t.Fatalf("the follower ended: %v\n%s", follower.exit(), follower.log)
	}
	m, err := master.Status(t.Context())
	if err != nil {
		return err.Error()
	}
	f, err := follower.Status(t.Context())
	if err != nil {
		return err.Error()
	}
	if !f.Complete || f.Epoch != m.Epoch || f.Offset != m.Offset || f.Fingerprint != m.Fingerprint || f.InSync == nil || !*f.InSync {
		return fmt.Sprintf("follower %s at %d of %d, %s of %s: %s", f.State, f.Offset, m.Offset, f.Fingerprint, m.Fingerprint, f.Why)
	}
	return ""
}
