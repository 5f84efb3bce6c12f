//go:build chaos

package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/transport"
)

// crowdEnv holds the plan, in JSON, of a process that is a crowd.
const crowdEnv = "SDIFF_CHAOS_CROWD"

// A crowdPlan says who a crowd is: followers in memory, whose ids begin with
// Name and who dial over one bad network, and strangers.
type crowdPlan struct {
	Name            string
	Address         string // of the master
	Followers       int
	Silent, Hostile int
}

// A crowdState is what a crowd answers to each line that it is told.
type crowdState struct {
	Followers []replica.Status
	Counts    counts
	Error     string
}

// A crowd is a process of many peers of one master. The processor prefers every
// other process to it: it stands for other machines.
type crowd struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	log  ring
}

// startCrowd starts the test binary once more, as a crowd.
func startCrowd(t testing.TB, plan crowdPlan) *crowd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{name: plan.Name, cmd: exec.Command("nice", "-n", "19", self)}
	c.cmd.Env = append(os.Environ(), crowdEnv+"="+string(text))
	c.cmd.Stderr = &c.log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.signal(syscall.SIGKILL)
		_ = c.cmd.Wait()
	})
	return c
}

func (c *crowd) signal(s syscall.Signal) { _ = syscall.Kill(-c.cmd.Process.Pid, s) }

// tell has the crowd do something: status, rate of its network in bytes per
// second (0 is no bound), refuse or allow connections, bother or leave the
// master. It returns how it stands then.
func (c *crowd) tell(t testing.TB, what string, n int) crowdState {
	t.Helper()
	hung := time.AfterFunc(patience, func() { c.signal(syscall.SIGQUIT) })
	defer hung.Stop()
	if _, err := fmt.Fprintf(c.in, "%s %d\n", what, n); err != nil {
		t.Fatalf("tell the crowd %q: %v\n%s", c.name, err, &c.log)
	}
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("the crowd %q does not answer to %q: %v\n%s", c.name, what, err, &c.log)
	}
	var s crowdState
	if err := json.Unmarshal(line, &s); err != nil {
		t.Fatal(err)
	}
	if s.Error != "" {
		t.Fatalf("the crowd %q: %s", c.name, s.Error)
	}
	return s
}

// A crowdProcess is a crowd from inside.
type crowdProcess struct {
	link      *faultnet.Link
	followers []*replica.Follower
	strangers *strangers

	mu  sync.Mutex
	err error
}

// crowdMain is what a crowd's process does: what it is told on standard input,
// until that ends.
func crowdMain(text string) int {
	var plan crowdPlan
	if err := json.Unmarshal([]byte(text), &plan); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := &crowdProcess{link: faultnet.New(1), strangers: newStrangers(plan)}
	defer p.link.Close()
	dial := transport.DialTCP(plan.Address)
	if plan.Name == "slow" { // the others are spared the detour
		dial = p.link.Dialer(dial)
	}
	for i := range plan.Followers {
		p.follow(ctx, fmt.Sprintf("%s-%02d", plan.Name, i), dial)
	}
	out := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var what string
		var n int
		if _, err := fmt.Sscan(in.Text(), &what, &n); err != nil {
			p.fail(err)
		}
		p.do(what, n)
		if err := out.Encode(p.state()); err != nil {
			return 1
		}
	}
	return 0
}

// follow runs a follower, which has no reason to end before the process does.
func (p *crowdProcess) follow(ctx context.Context, id string, dial func(context.Context) (net.Conn, error)) {
	f, err := replica.NewFollower(store.NewMemory(), replica.FollowerConfig{ID: id, Dial: dial, Scrub: -1})
	if err != nil {
		p.fail(err)
		return
	}
	p.followers = append(p.followers, f)
	go func() {
		if err := f.Run(ctx); ctx.Err() == nil {
			p.fail(fmt.Errorf("follower %s ended: %w", id, err))
		}
	}()
}

func (p *crowdProcess) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = errors.Join(p.err, err)
}

func (p *crowdProcess) do(what string, n int) {
	switch what {
	case "status":
	case "rate":
		p.link.SetRate(faultnet.In, n)
	case "refuse":
		p.link.Refuse(true)
		p.link.Cut(faultnet.Reset)
	case "allow":
		p.link.Refuse(false)
	case "bother":
		p.strangers.begin()
	case "leave":
		p.strangers.end()
	default:
		p.fail(fmt.Errorf("told to %q", what))
	}
}

func (p *crowdProcess) state() crowdState {
	s := crowdState{Counts: p.strangers.counted()}
	s.Counts["pauses for the rate"] = int(p.link.Count(faultnet.Throttle))
	for _, f := range p.followers {
		s.Followers = append(s.Followers, f.Status())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		s.Error = p.err.Error()
	}
	return s
}
