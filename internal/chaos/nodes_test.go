//go:build chaos

package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
)

// A node is a directory and the process that runs in it, as a master or as a
// follower behind a link of its own.
type node struct {
	i      int
	dir    string
	addr   string // where it listens when it is the master
	link   *faultnet.Link
	via    []string // its way to each node's port, through the link
	broken bool     // its files were damaged: its process may end by itself

	running atomic.Pointer[running]
}

// A running is a process of a node that has come up.
type running struct {
	*process
	serial int
	master bool
	tb     *processTB
}

// A cluster is what TestChaos runs: one master, its followers, and what was
// done to them. But for running, hist and the bookmark, only the test's own
// goroutine uses it.
type cluster struct {
	tb     testing.TB
	rng    *rand.Rand
	nodes  []*node
	master int
	serial int
	epoch  string // the master's
	parent string // of the epoch in which the next master comes up; empty is epoch
	lossy  bool   // and it lacks something, by a person's word

	hist   atomic.Pointer[hist]
	writes sync.RWMutex // held by writers; who locks it has them wait
	mark   bookmark
	counts map[string]uint64
	log    []string // what was done in this round
	// unclear are refusals of damaged files that do not say so.
	unclear []string
	faults  int       // in this round
	start   time.Time // of the round
}

// A processTB is a test whose cleanups are those of one process: an hour has
// thousands of them, and those that have ended need none.
type processTB struct {
	testing.TB
	clean []func()
}

func (p *processTB) Cleanup(f func()) { p.clean = append(p.clean, f) }

// newCluster makes the nodes and their links; nothing runs yet.
func newCluster(t *testing.T, dir string, seed uint64, followers int) *cluster {
	t.Helper()
	c := &cluster{tb: t, rng: rand.New(rand.NewPCG(seed, 0)), counts: map[string]uint64{}}
	for i := range followers + 1 {
		c.nodes = append(c.nodes, &node{i: i, dir: filepath.Join(dir, fmt.Sprintf("n%d", i)), addr: freeAddr(t), link: faultnet.New(seed + uint64(i))})
	}
	for _, n := range c.nodes {
		t.Cleanup(func() { n.link.Close() })
		for _, to := range c.nodes {
			addr, err := n.link.ListenProxy(to.addr)
			if err != nil {
				t.Fatal(err)
			}
			n.via = append(n.via, addr)
		}
	}
	return c
}

// freeAddr returns an address at which nobody listens, on a loopback address of
// its own: there no other process takes the port while a master is down.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250)))
	if err != nil {
		skip(t, "it has only one loopback address")
	}
	defer l.Close()
	return l.Addr().String()
}

// did writes down what was done, for whoever has to find out.
func (c *cluster) did(format string, args ...any) {
	c.log = append(c.log, fmt.Sprintf("%7.3fs  %s", time.Since(c.start).Seconds(), fmt.Sprintf(format, args...)))
}

// count counts a fault that has happened.
func (c *cluster) count(kind string) { c.counts[kind]++ }

// up starts a node in its role. A follower whose files were damaged may refuse
// them, with a clear word and the exit code for damage; then it gets an empty
// directory.
func (c *cluster) up(i int) {
	c.tb.Helper()
	n := c.nodes[i]
	err := c.tryUp(i)
	if err == nil {
		return
	}
	var exit *exec.ExitError
	if n.broken && i != c.master && errors.As(err, &exit) {
		if exit.ExitCode() != 8 || strings.Contains(err.Error(), "goroutine ") {
			c.unclear = append(c.unclear, err.Error())
		}
		c.count("damage refused")
		c.did("node %d refuses what it finds: %s", i, lastLine(err.Error()))
		c.tb.Logf("node %d refuses its damaged files: %s", i, lastLine(err.Error()))
		c.wipe(i)
		err = c.tryUp(i)
	}
	if err != nil {
		c.fatalf("node %d does not come up: %v", i, err)
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// tryUp starts a node in its role.
func (c *cluster) tryUp(i int) error {
	n := c.nodes[i]
	sync := "always"
	if c.rng.IntN(4) == 0 {
		sync = "never"
		c.count("runs with sync=never")
	}
	args := []string{"follow", "--from", n.via[c.master], "--id", fmt.Sprintf("node%d", i)}
	if i == c.master {
		size := []string{"-1", "200000", "3000000"}[c.rng.IntN(3)]
		args = []string{"serve", "--listen", n.addr, "--log-size", size}
	}
	args = append(args, "--sync", sync, "--scrub", "0.2", "--data", n.dir, "-o", "json")
	tb := &processTB{TB: c.tb}
	p, err := startWith(tb, exec.Command(program, args...), n.dir)
	if err != nil {
		return err
	}
	c.serial++
	r := &running{process: p, serial: c.serial, master: i == c.master, tb: tb}
	if i == c.master {
		st, err := p.Status(c.tb.Context())
		if err != nil {
			return err
		}
		c.mark.begin(r.serial, st.Offset, c.lossy)
		c.newEpoch(st.Epoch, st.Offset)
	}
	c.did("node %d is up: %s, at %d", i, strings.Join(args[:3], " "), p.ready.Offset)
	n.running.Store(r)
	return nil
}

// newEpoch notes the epoch in which a master has come up.
func (c *cluster) newEpoch(epoch string, offset uint64) {
	if epoch != c.epoch {
		parent := c.parent
		if parent == "" {
			parent = c.epoch
		}
		if h := c.hist.Load(); h != nil {
			h.addEpoch(histEpoch{id: epoch, parent: parent, start: offset, lossy: c.lossy})
		}
		c.did("epoch %.6s goes on from %.6s at %d", epoch, parent, offset)
		c.epoch = epoch
	}
	c.parent, c.lossy = "", false
}

// kill ends a node's process with SIGKILL.
func (c *cluster) kill(i int) {
	n := c.nodes[i]
	if r := n.running.Swap(nil); r != nil {
		r.kill()
		c.count("processes killed")
		c.ended(r)
		c.did("killed node %d", i)
	}
}

// ended notes what an ended process has told in its log.
func (c *cluster) ended(r *running) {
	r.Close()
	log := r.log.String()
	c.counts["log trimmed"] += uint64(strings.Count(log, "trimming the log"))
	c.counts["older than the log"] += uint64(strings.Count(log, "the log starts at"))
	if strings.Contains(log, "BUG: ") || strings.Contains(log, "DATA RACE") {
		c.fatalf("a process has found a bug of its own:\n%s", log)
	}
}

// end kills what still runs.
func (c *cluster) end() {
	for _, n := range c.nodes {
		if r := n.running.Swap(nil); r != nil {
			for _, f := range r.tb.clean {
				f()
			}
			c.ended(r)
		}
	}
}

// stop ends a node's process as a person does.
func (c *cluster) stop(i int) {
	n := c.nodes[i]
	r := n.running.Swap(nil)
	if r == nil {
		return
	}
	if n.broken {
		r.kill() // damage may keep it from ending cleanly
	} else {
		r.stop(c.tb)
	}
	c.ended(r)
	c.did("stopped node %d", i)
}

// wipe removes a stopped node's directory.
func (c *cluster) wipe(i int) {
	n := c.nodes[i]
	if err := os.RemoveAll(n.dir); err != nil {
		c.fatalf("%v", err)
	}
	n.broken = false
	c.hist.Load().addReset(histReset{node: i, all: true})
	c.did("wiped node %d", i)
}

// alive fails if a process has ended by itself. One whose files were damaged may
// have: then it starts again over nothing.
func (c *cluster) alive() {
	for i, n := range c.nodes {
		r := n.running.Load()
		if r == nil || !r.ended() {
			continue
		}
		if !n.broken {
			c.fatalf("node %d has ended by itself: %v\n%s", i, r.exit(), r.log)
		}
		c.count("ended by damage")
		c.did("node %d has ended by itself: %s", i, lastLine(r.log.String()))
		c.tb.Logf("node %d, whose files were damaged, has ended by itself: %v: %s", i, r.exit(), lastLine(r.log.String()))
		n.running.Store(nil)
		c.ended(r)
		c.wipe(i)
		c.up(i)
	}
}

// fatalf ends the test with all that is needed to find out why.
func (c *cluster) fatalf(format string, args ...any) {
	c.tb.Helper()
	for i, n := range c.nodes {
		if r := n.running.Load(); r != nil {
			log := r.log.String()
			c.tb.Logf("the end of node %d's log:\n%s", i, log[max(0, len(log)-6000):])
		}
	}
	c.tb.Logf("what was done in this round:\n%s", strings.Join(c.log, "\n"))
	c.tb.Fatalf(format, args...)
}

// follower picks a follower.
func (c *cluster) follower() int {
	return (c.master + 1 + c.rng.IntN(len(c.nodes)-1)) % len(c.nodes)
}

// wait lets time pass.
func (c *cluster) wait(least, most time.Duration) {
	t := time.NewTimer(least + time.Duration(c.rng.Int64N(int64(most-least)+1)))
	defer t.Stop()
	<-t.C
}

// signal sends a signal to a node's process.
func (c *cluster) signal(i int, s syscall.Signal) {
	if r := c.nodes[i].running.Load(); r != nil {
		r.process.signal(s)
	}
}

// A bookmark is where the watch of the master goes on, whoever is master.
type bookmark struct {
	mu     sync.Mutex
	serial int
	from   uint64
}

// begin notes that a process is the master, and that its history goes on after
// offset. If lossy, what was seen beyond that is no more.
func (b *bookmark) begin(serial int, offset uint64, lossy bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.serial = serial
	if lossy || b.from == 0 {
		b.from = offset + 1
	}
}

// next returns where to go on with a process.
func (b *bookmark) next() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.from
}

// set notes where to go on, if the process still is the master.
func (b *bookmark) set(serial int, from uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.serial == serial {
		b.from = from
	}
}
