//go:build chaos

package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
)

// killCopying kills a follower again and again while it makes its first copy.
// It has to come further each time.
func killCopying(p *pair, rounds int) {
	p.mayRepair = true
	p.l.fill(p, p.m, p.writers)
	p.writers++
	for range rounds {
		p.f.kill()
		if err := os.RemoveAll(p.fdir()); err != nil {
			p.Fatal(err)
		}
		p.startFollower()
		for range 4 {
			p.untilRepairing()
			wait(p.r, 100)
			p.killAtWork()
		}
		p.settle()
		p.n["copies"]++
	}
}

// killAtWork kills the follower, counts whether it was making its copy complete,
// and checks that the next one begins with all keys that this one had.
func (p *pair) killAtWork() {
	p.Helper()
	s, err := p.f.Status(p.Context())
	if err != nil {
		p.Fatalf("status: %v\n%s", err, p.f.log)
	}
	p.f.kill()
	p.n["kills of the follower"]++
	if !s.Complete {
		p.n["while the copy was incomplete"]++
	}
	p.startFollower()
	if p.f.ready.Keys < s.Keys {
		p.Fatalf("the follower had %d keys and begins with %d: a repair deleted none of them", s.Keys, p.f.ready.Keys)
	}
}

// killPromoting kills promotions and restores of copies and begins them again.
func killPromoting(p *pair, rounds int) {
	p.mayRepair = true
	p.l.fill(p, p.m, p.writers)
	p.writers++
	for i := range rounds {
		p.settle()
		p.stopBoth()
		old := p.copyOf(p.mdir(), fmt.Sprintf("old%d", i))
		p.startMaster()
		p.startFollower()
		ld := p.load()
		wait(p.r, 1000)
		ld.ended.Store(true)
		ld.wait()
		p.settle()
		p.stopBoth()

		promoted := p.copyOf(p.fdir(), fmt.Sprintf("promoted%d", i))
		p.again("promote", promoted)
		p.serves(promoted)
		for _, to := range []string{old, filepath.Join(p.dir, fmt.Sprintf("new%d", i))} {
			p.again("restore", to, "--from", p.copyOf(p.fdir(), filepath.Base(to)+"-from"))
			p.serves(to)
		}
		p.startMaster()
		p.startFollower()
		p.n["rounds"]++
	}
	p.settle()
}

// stopBoth ends both processes cleanly, so that copies of their directories
// are as good as the originals.
func (p *pair) stopBoth() {
	p.f.stop(p)
	p.m.stop(p)
}

// copyOf copies the directory of a replica that nobody runs.
func (p *pair) copyOf(dir, name string) string {
	p.Helper()
	to := filepath.Join(p.dir, name)
	must(p, "cp", "--recursive", "--sparse=always", dir, to)
	return to
}

// again begins a command several times, kills it, and then lets it come to its
// end.
func (p *pair) again(command, dir string, args ...string) {
	p.Helper()
	args = append([]string{command, "--data", dir}, args...)
	for range min(3, (*kills+9)/10) {
		launch(p, time.Duration(p.r.IntN(250))*time.Millisecond, nil, args...)
		p.n["kills of "+command]++
	}
	_, stderr, code := sdiff(p, args...)
	if code == 0 {
		return
	}
	if command == "promote" && code == 2 && strings.Contains(stderr, "role") {
		p.n["promoted before it was killed"]++
		return
	}
	p.Fatalf("%s after it was killed: exit %d\n%s", command, code, stderr)
}

// serves checks that a directory is that of a master that holds what the pair
// holds, in an epoch of its own.
func (p *pair) serves(dir string) {
	p.Helper()
	m := mustStart(p, dir, "serve", "--listen", "127.0.0.1:0")
	s, err := m.Status(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	if s.Epoch == p.l.epoch || s.Offset < uint64(len(p.l.commits)) || s.Dataset != p.m.ready.Dataset {
		p.Fatalf("%s serves epoch %s of %s at %d; the pair was in %s of %s at %d",
			dir, s.Epoch, s.Dataset, s.Offset, p.l.epoch, p.m.ready.Dataset, len(p.l.commits))
	}
	p.l.checkItems(p, m)
	if v, err := m.Verify(p.Context()); err != nil || !v.OK {
		p.Fatalf("verify: %+v, %v", v, err)
	}
	m.stop(p)
}

// killRepairing kills a follower, the master or both while a repair is under
// way, because the log no longer reaches back to where the follower was.
func killRepairing(p *pair, rounds int) {
	p.mayRepair = true
	p.l.fill(p, p.m, p.writers)
	for range rounds {
		p.settle()
		p.f.kill()
		p.l.fill(p, p.m, p.writers) // the same keys, other values
		p.l.count(p.n, p.l.check(p, p.m, false))
		p.trim(func() {})
		p.startFollower()
		for range 5 {
			p.untilRepairing()
			wait(p.r, 60)
			if p.r.IntN(3) == 0 {
				p.m.kill()
				p.n["kills of the master"]++
				p.startMaster()
			}
			p.killAtWork()
		}
		p.settle()
		p.untrimmed()
		p.n["rounds"]++
	}
}

// untrimmed starts the master anew with a log that is not trimmed.
func (p *pair) untrimmed() {
	p.mArgs = nil
	p.m.kill()
	p.startMaster()
}

// trim starts the master anew with the smallest log, and returns once the old
// end of it is being removed. The log begins at head then.
func (p *pair) trim(begun func()) {
	p.Helper()
	start := p.logStart()
	p.m.kill()
	p.mArgs = []string{"--log-size", "1"}
	p.startMaster()
	eventually(p, func() string {
		if p.logStart() == start {
			return fmt.Sprintf("the log still begins at %d", start)
		}
		return ""
	})
	p.n["trimmed"]++
	begun()
}

func (p *pair) logStart() uint64 {
	p.Helper()
	s, err := p.m.Status(p.Context())
	if err != nil {
		p.Fatalf("status: %v\n%s", err, p.m.log)
	}
	return s.Log.Start
}

// untilRepairing waits until the follower repairs, or has done so.
func (p *pair) untilRepairing() {
	p.Helper()
	head := offsetOf(p, p.m)
	eventually(p, func() string {
		s, err := p.f.Status(p.Context())
		switch {
		case err != nil:
			return err.Error()
		case s.State == replica.Initializing, s.State == replica.Comparing, s.State == replica.Repairing:
			return ""
		case s.Offset == head && s.Complete && s.InSync != nil && *s.InSync:
			return ""
		}
		return fmt.Sprintf("the follower is %s: %s", s.State, s.Why)
	})
}

// killTrimming kills a master while it removes the old end of its log. What is
// left of it afterwards has no hole, and a follower that was away longer is
// repaired.
func killTrimming(p *pair, rounds int) {
	p.mayRepair = true
	for range rounds {
		p.f.kill()
		// Many commits: they are removed a thousand records at a time.
		ld := p.load()
		<-time.After(5 * time.Second)
		ld.ended.Store(true)
		ld.wait()
		p.l.count(p.n, p.l.check(p, p.m, false))
		p.trim(func() {
			wait(p.r, 30)
			p.m.kill()
			p.n["kills while trimming"]++
		})
		p.startMaster()
		p.wholeLog()
		p.startFollower()
		p.settle()
		p.untrimmed()
		p.n["rounds"]++
	}
}

// wholeLog reads the master's log from where it says that it begins to its
// head, if that is not the same place.
func (p *pair) wholeLog() {
	p.Helper()
	start, head := p.logStart(), offsetOf(p, p.m)
	if start >= head {
		return
	}
	next := start + 1
	for c, err := range p.m.Watch(p.Context(), control.Watch{From: next}) {
		if err != nil || c.Offset != next || c.Gap {
			p.Fatalf("the log is said to begin after %d; at %d comes %+v, %v", start, next, c, err)
		}
		if !c.Last {
			continue
		}
		p.n["commits left in the log"]++
		if next++; next > head {
			return
		}
	}
}
