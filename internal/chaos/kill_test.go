//go:build chaos

package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sdiff/sdiff/internal/control"
)

var kills = flag.Int("kills", 3, "TestKill: rounds of killing masters, followers and both; each kind of the others a twentieth as often")

// TestKill kills real processes with SIGKILL at random moments while others
// write, and starts them again: what was acknowledged is there, once, and a
// follower goes on where it was.
func TestKill(t *testing.T) {
	seed := *crashSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-crash-seed %d", seed)
	defer total(t)
	run := func(name string, n int, f func(*pair, int)) {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, rand.New(rand.NewPCG(seed, uint64(n))))
			f(p, n)
			report(t, p.n)
		})
	}
	run("running", *kills, killRunning)
	few := (*kills + 19) / 20
	run("running unsynced", few, killUnsynced)
	run("copying", few, killCopying)
	run("promoting and restoring", few, killPromoting)
	if *kills >= 20 {
		// The log is trimmed every ten seconds only.
		run("repairing", few, killRepairing)
		run("trimming", few, killTrimming)
	}
}

// A pair is a master and a follower on this machine, and what is known of them.
type pair struct {
	*testing.T
	r         *rand.Rand
	l         *ledger
	n         counts
	dir, addr string
	m, f      *process
	mArgs     []string // of the master, beside the usual ones
	writers   int      // so many there have been
	watchM    *watched
	watchF    *watched
	newEpochs bool // each start of the master begins one
	mayRepair bool // the log may have been trimmed, or the follower is new
}

// newPair starts both and waits until they are equal.
func newPair(t *testing.T, r *rand.Rand) *pair {
	p := &pair{T: t, r: r, l: newLedger(r.Uint64()), n: counts{}, dir: memoryDir(t), addr: ownAddress(r)}
	p.watchM, p.watchF = &watched{role: "master"}, &watched{role: "follower"}
	p.startMaster()
	p.addr = p.m.ready.Address
	p.startFollower()
	eventually(t, func() string { return inSync(t, p.m, p.f) })
	return p
}

// ownAddress returns an address with port 0, of which a port that was taken
// once can be taken again: nobody else takes ports of it meanwhile, not for
// connections either.
func ownAddress(r *rand.Rand) string {
	return fmt.Sprintf("127.%d.%d.%d:0", 1+r.IntN(250), r.IntN(250), 1+r.IntN(250))
}

func (p *pair) mdir() string { return filepath.Join(p.dir, "m") }
func (p *pair) fdir() string { return filepath.Join(p.dir, "f") }

func (p *pair) master() []string {
	return append([]string{"serve", "--listen", p.addr}, p.mArgs...)
}

func (p *pair) follower() []string { return []string{"follow", "--from", p.addr, "--id", "killed"} }

func (p *pair) startMaster() {
	p.Helper()
	p.m = mustStart(p, p.mdir(), p.master()...)
	p.notes(p.m)
	p.watchM.begin(p, p.m)
}

func (p *pair) startFollower() {
	p.Helper()
	p.f = mustStart(p, p.fdir(), p.follower()...)
	p.notes(p.f)
	p.watchF.begin(p, p.f)
}

// notes counts what a store says of how it opened.
func (p *pair) notes(x *process) {
	s, err := x.Status(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	for _, note := range s.Store.Notes {
		switch {
		case strings.Contains(note, "which was empty"):
			p.n["empty files met by a start"]++
		case strings.Contains(note, "second attempt"):
			p.n["opened at the second attempt"]++
		default:
			p.Logf("note: %s", note)
		}
	}
}

// load starts writers that have not written before.
func (p *pair) load() *load {
	ld := p.l.start(p, p.m, p.writers, 4, 1+p.r.IntN(3000))
	p.writers += 4
	return ld
}

// settle waits until the pair is equal and checks everything.
func (p *pair) settle() {
	p.Helper()
	eventually(p, func() string { return inSync(p, p.m, p.f) })
	found := p.l.check(p, p.m, p.newEpochs)
	if p.l.count(p.n, found); found.lost > 0 {
		p.Fatalf("LOST: %d acknowledged commits", found.lost)
	}
	p.l.checkItems(p, p.f)
	if v, err := p.f.Verify(p.Context()); err != nil || !v.OK {
		p.Fatalf("verify: %+v, %v", v, err)
	}
	s, err := p.f.Status(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	if s.LastRepair != nil {
		p.n["repairs of the follower"]++
		if !p.mayRepair {
			p.Fatalf("the follower was repaired, though the log reached back to where it was: %+v\n%s", s.LastRepair, p.f.log)
		}
	}
	p.watchM.check(p)
	p.watchF.check(p)
}

// killRunning kills the master, the follower or both while both are at work,
// or while they open.
func killRunning(p *pair, rounds int) {
	p.mayRepair = true
	p.l.fill(p, p.m, p.writers)
	p.writers++
	p.settle()
	p.killFollower()
	p.mayRepair = false // every commit is in the log
	for i := range rounds {
		if i > 0 && i%20 == 0 {
			p.Logf("so far: %v", map[string]int(p.n))
		}
		ld := p.load()
		ld.underway(p)
		wait(p.r, 400)
		switch p.r.IntN(3) {
		case 0:
			p.killMaster(ld)
		case 1:
			p.killFollower()
		case 2:
			ld.end()
			p.f.signal(9)
			p.killMaster(ld)
			p.killFollower()
			p.n["of both"]++
		}
		// The others have written on meanwhile.
		wait(p.r, 50)
		ld.ended.Store(true)
		ld.wait()
		p.settle()
		p.n["rounds"]++
	}
}

// killUnsynced is killRunning with a master that does not sync. A kill loses
// nothing for that, though the master cannot know what ended it.
func killUnsynced(p *pair, rounds int) {
	p.mArgs, p.newEpochs = []string{"--sync", "never"}, true
	p.m.kill()
	p.startMaster()
	killRunning(p, rounds)
}

// killMaster kills the master and starts it again.
func (p *pair) killMaster(ld *load) {
	ld.end()
	p.m.kill()
	ld.wait()
	p.n["kills of the master"]++
	p.hurt(p.mdir(), p.master())
	p.startMaster()
}

// killFollower kills the follower and starts it again.
func (p *pair) killFollower() {
	p.f.kill()
	p.n["kills of the follower"]++
	p.hurt(p.fdir(), p.follower())
	p.startFollower()
}

// hurt does now and then what kills at the worst moments do: it leaves empty
// files as Badger does between making and filling them, or kills the next
// process before it is ready.
func (p *pair) hurt(dir string, args []string) {
	if p.r.IntN(3) == 0 {
		p.emptyFile(dir, ".mem")
	}
	if p.r.IntN(3) == 0 {
		p.emptyFile(dir, ".vlog")
	}
	if p.r.IntN(3) == 0 {
		d := time.Duration(p.r.IntN(200)) * time.Millisecond
		launch(p, d, nil, append(args, "--data", dir)...)
		p.n["kills while starting"]++
	}
}

// emptyFile makes the next of the numbered files with a suffix, as a kill
// leaves it.
func (p *pair) emptyFile(dir, suffix string) {
	p.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		p.Fatal(err)
	}
	next, width := 1, 5
	for _, path := range found {
		name := strings.TrimSuffix(filepath.Base(path), suffix)
		if n, err := strconv.Atoi(name); err == nil && n >= next {
			next, width = n+1, len(name)
		}
	}
	if suffix == ".vlog" {
		width = 6
	}
	path := filepath.Join(dir, fmt.Sprintf("%0*d%s", width, next, suffix))
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		p.Fatal(err)
	}
	p.n["empty "+suffix+" made"]++
}

// wait waits for less than so many milliseconds.
func wait(r *rand.Rand, most int) { <-time.After(time.Duration(r.IntN(most)) * time.Millisecond) }

// A watched is what a replica showed to those who watch it, over all the
// processes it was.
type watched struct {
	role string
	mu   sync.Mutex
	seen map[uint64]commitID // by offset
	last uint64              // the newest offset
	bad  string              // what must not be shown
	gaps int
	done chan struct{}
}

// begin goes on watching with a new process: a master's log from where it was,
// a follower from now on.
func (w *watched) begin(p *pair, x *process) {
	if w.done != nil {
		<-w.done // the watch of the process before has ended with it
	}
	w.done = make(chan struct{})
	req := control.Watch{}
	if w.role == "master" {
		req.From = w.last + 1
	}
	ctx, cancel := context.WithCancel(p.Context())
	go func() {
		<-x.done
		cancel()
	}()
	go func() {
		defer close(w.done)
		c := control.NewClient(x.dir)
		defer c.Close()
		for ch, err := range c.Watch(ctx, req) {
			if err != nil {
				return // the process was killed
			}
			w.note(p.l, ch)
		}
	}()
}

// note notes a change. Its last op has the number of its commit.
func (w *watched) note(l *ledger, c control.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case c.Gap:
		w.gaps++
		return
	case c.Repair || !c.Last:
		return
	case c.Offset <= w.last:
		w.bad = fmt.Sprintf("offset %d was shown after %d", c.Offset, w.last)
	case w.role == "master" && c.Offset != w.last+1:
		w.bad = fmt.Sprintf("offset %d was shown after %d", c.Offset, w.last)
	}
	id, ok := parseValue(l.seed, c.Value)
	if !ok {
		w.bad = fmt.Sprintf("offset %d was shown with a value that nobody wrote", c.Offset)
	}
	if w.seen == nil {
		w.seen = make(map[uint64]commitID)
	}
	w.seen[c.Offset], w.last = id, c.Offset
}

// check holds what was shown against what is in the master's log. Nobody
// writes.
func (w *watched) check(p *pair) {
	p.Helper()
	head := uint64(len(p.l.commits))
	if w.role == "master" {
		eventually(p, func() string {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.bad == "" && w.last < head {
				return fmt.Sprintf("the watch of the master is at %d of %d", w.last, head)
			}
			return ""
		})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bad != "" {
		p.Fatalf("watch of the %s: %s", w.role, w.bad)
	}
	for offset, id := range w.seen {
		if offset > head || p.l.commits[offset-1].commitID != id {
			p.Fatalf("the %s showed %v at offset %d; the log has %d commits", w.role, id, offset, head)
		}
	}
	p.n["commits shown by the "+w.role] += len(w.seen)
	p.n["gaps shown by the "+w.role] += w.gaps
	w.seen, w.gaps = nil, 0
}
