package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
)

// TestMain makes this binary sdiff for the scripts, which run real processes,
// and a program that does not end when it is asked to.
func TestMain(m *testing.M) {
	commands := map[string]func(){"sdiff": main, "stubborn": stubborn}
	maps.Copy(commands, endings)
	testscript.Main(m, commands)
}

// stubborn says when it runs and when it was asked to end, and never does.
func stubborn() {
	os.Exit(untilSignal(func(ctx context.Context) int {
		fmt.Println("running")
		<-ctx.Done()
		fmt.Println(context.Cause(ctx))
		select {}
	}))
}

// TestSecondSignal shows that a second signal ends the program at once, and
// that two at the same time, as timeout(1) sends them, are one.
func TestSecondSignal(t *testing.T) {
	for sig, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		cmd := exec.Command("stubborn")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		if got, err := lines.ReadString('\n'); got != "running\n" {
			t.Errorf("it says %q, %v; want running", got, err)
		}
		donec := make(chan error, 1)
		first, sent := time.Now(), 0
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ended := false; !ended; sent++ {
			if err := cmd.Process.Signal(sig); err != nil && sent < 2 {
				t.Fatal(err)
			}
			if sent == 0 {
				if got, err := lines.ReadString('\n'); got != "ended by a signal: "+sig.String()+"\n" {
					t.Errorf("it says %q, %v; want that it was asked to end", got, err)
				}
				go func() { donec <- cmd.Wait() }()
			}
			select {
			case err = <-donec:
				ended = true
			case <-tick.C:
			}
		}
		if err == nil || cmd.ProcessState.ExitCode() != want {
			t.Errorf("after two of %v: %v, want exit code %d", sig, err, want)
		}
		if took := time.Since(first); sent < 2 || took < sameSignal {
			t.Errorf("it ended after %v and %d of %v, want none of the first %v to count", took, sent, sig, sameSignal)
		}
	}
}

// A result is what a call in this process printed and returned.
type result struct {
	exit           int
	stdout, stderr string
}

// call runs a command line in this process.
func call(ctx context.Context, stdin string, env []string, args ...string) result {
	var stdout, stderr bytes.Buffer
	exit := run(ctx, args, strings.NewReader(stdin), &stdout, &stderr, env)
	return result{exit, stdout.String(), stderr.String()}
}

// objects parses standard output as JSON, one object a line and nothing else.
func (r result) objects(t *testing.T) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(r.stdout) {
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("standard output has the line %q: %v", line, err)
		}
		all = append(all, o)
	}
	return all
}

// A process is serve or follow running in this process.
type process struct {
	ready  ready
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	exit   int
	stderr bytes.Buffer
}

// start runs serve or follow until it says that it is ready. The test's end
// stops it.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{}
	ctx, cancel := context.WithCancelCause(context.Background())
	p.cancel = cancel
	r, w := io.Pipe()
	p.wg.Go(func() {
		p.exit = run(ctx, append(args, "-o", "json"), strings.NewReader(""), w, &p.stderr, nil)
		w.Close()
	})
	t.Cleanup(func() { p.stop() })
	line, err := bufio.NewReader(r).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.ready)
	}
	if err != nil || p.ready.Role == "" {
		p.stop()
		t.Fatalf("%v: %v, printed %s\n%s", args, err, line, p.stderr.String())
	}
	return p
}

// stop ends the process as Ctrl-C does and returns its exit code.
func (p *process) stop() int {
	p.cancel(&signalError{os.Interrupt})
	p.wg.Wait()
	return p.exit
}

// pair starts a master and a follower that has caught up with it.
func pair(t *testing.T, followFlags ...string) (master, follower string, m, f *process) {
	t.Helper()
	base := t.TempDir()
	master, follower = filepath.Join(base, "m"), filepath.Join(base, "f")
	m = start(t, "serve", "--data", master, "--listen", "127.0.0.1:0")
	f = start(t, append([]string{"follow", "--data", follower, "--from", m.ready.Address}, followFlags...)...)
	return master, follower, m, f
}

// await polls a status until it is as wanted.
func await(t *testing.T, dir, what string, ok func(replica.Status) bool) {
	t.Helper()
	c := control.NewClient(dir)
	defer c.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var s replica.Status
	var err error
	for range 2000 {
		if s, err = c.Status(t.Context()); err == nil && ok(s) {
			return
		}
		<-tick.C
	}
	t.Fatalf("%s never became %s: %+v, %v", dir, what, s, err)
}

func streaming(s replica.Status) bool { return s.State == replica.Streaming }
