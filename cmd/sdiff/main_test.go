package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
)

// TestMain makes this binary sdiff for the scripts, which run real processes.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sdiff": main})
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
