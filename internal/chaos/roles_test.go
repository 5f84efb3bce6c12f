//go:build chaos

package chaos

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
)

// quiet has the writers wait and a follower catch up, and reports whether it
// did. The caller ends the quiet by c.writes.Unlock.
func (c *cluster) quiet(i int) bool {
	c.writes.Lock()
	c.heal(c.nodes[i].link)
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); c.wait(20*time.Millisecond, 50*time.Millisecond) {
		c.alive()
		if c.behind(i) == "" {
			return true
		}
	}
	c.did("node %d has not caught up, so nothing is done", i)
	return false
}

// apart cuts a follower off its master and returns where it stands then, in
// which it stays as long as it is cut off. ok is false if it has nothing.
func (c *cluster) apart(i int) (st histStatus, ok bool) {
	l := c.nodes[i].link
	l.Refuse(true)
	l.Cut(faultnet.Reset)
	r := c.nodes[i].running.Load()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); c.wait(20*time.Millisecond, 50*time.Millisecond) {
		s, err := r.Status(c.tb.Context())
		if err == nil && (s.State == "connecting" || s.State == "parked") {
			return toHistStatus(r.serial, s), s.Epoch != ""
		}
	}
	return st, false
}

// promoteInSync makes a follower the master after it has caught up: nothing may
// be lost.
func (c *cluster) promoteInSync() {
	i := c.follower()
	defer c.writes.Unlock()
	if !c.quiet(i) {
		return
	}
	st, ok := c.apart(i)
	if c.promote(i, st, ok, false) {
		c.count("promoted in sync")
	}
}

// promoteBehind makes a follower the master as it is: what the old one had
// acknowledged beyond it is given up.
func (c *cluster) promoteBehind() {
	i := c.follower()
	st, ok := c.apart(i)
	c.wait(0, time.Second)
	c.kill(c.master)
	if c.promote(i, st, ok, true) {
		c.count("promoted behind")
	}
}

// promote makes a follower that stands at st the master, and the old master's
// node a follower with an empty directory. The fellows are pointed at it. It
// reports whether that was done: a copy in doubt must be refused.
func (c *cluster) promote(i int, st histStatus, ok, lossy bool) bool {
	c.stop(i)
	c.halt(c.master)
	stdout, stderr, code := sdiff(c.tb, "promote", "--data", c.nodes[i].dir, "-o", "json")
	c.nodes[i].link.Refuse(false)
	// Not inSync: a parked follower does not claim that, but its copy is whole.
	whole := ok && st.complete && st.own == st.master
	if code != 0 {
		if whole && !c.nodes[i].broken {
			c.fatalf("node %d was complete at %d and is not promoted: %s%s", i, st.offset, stdout, stderr)
		}
		c.did("node %d is not promoted: %s", i, lastLine(stdout))
		c.count("promotion refused")
		c.up(c.master)
		c.up(i)
		return false
	}
	if !whole {
		c.fatalf("node %d was promoted, though it was at %+v", i, st)
	}
	var pos struct {
		Epoch  string `json:"epoch"`
		Offset uint64 `json:"offset"`
	}
	if err := json.Unmarshal([]byte(stdout), &pos); err != nil || pos.Offset != st.offset {
		c.fatalf("node %d at %d was promoted: %s", i, st.offset, stdout)
	}
	old := c.master
	c.wipe(old)
	c.master = i
	c.parent, c.lossy = st.epoch, lossy
	c.mark.begin(0, pos.Offset, lossy)
	c.newEpoch(pos.Epoch, pos.Offset)
	c.repoint()
	return true
}

// repoint starts the master and, with their new master, all followers.
func (c *cluster) repoint() {
	c.up(c.master)
	for i := range c.nodes {
		if i != c.master {
			c.halt(i)
			c.up(i)
		}
	}
}

// restoreInSync takes the master's directory away, or some of its keys, and
// restores it from a follower that had caught up: nothing may be lost.
func (c *cluster) restoreInSync() {
	i := c.follower()
	defer c.writes.Unlock()
	if !c.quiet(i) {
		return
	}
	st, ok := c.apart(i)
	c.stop(i)
	c.stop(c.master)
	switch c.rng.IntN(3) {
	case 0:
		c.wipe(c.master)
	case 1:
		c.harm(c.master)
		c.refusedMaster()
	}
	if !ok {
		c.fatalf("node %d was in sync and is at %+v", i, st)
	}
	if c.restore(i, st, false) {
		c.count("restored in sync")
	}
}

// restoreBehind restores a master whose directory is gone from a follower as it
// is.
func (c *cluster) restoreBehind() {
	i := c.follower()
	st, ok := c.apart(i)
	if !ok || !st.complete || !st.inSync || c.nodes[i].broken {
		c.nodes[i].link.Refuse(false)
		c.did("node %d has nothing to restore from", i)
		return
	}
	c.kill(c.master)
	c.halt(i)
	c.wipe(c.master)
	if c.restore(i, st, true) {
		c.count("restored behind")
	}
}

// refusedMaster checks that a master whose store was changed behind its back
// does not start, and that it says why with the exit code for damage.
func (c *cluster) refusedMaster() {
	stdout, _, code := sdiff(c.tb, "serve", "--data", c.nodes[c.master].dir, "--listen", c.nodes[c.master].addr, "-o", "json")
	if code != 8 {
		c.fatalf("a harmed master ended with %d: %s", code, stdout)
	}
	c.count("harmed master refused")
}

// restore makes the stopped master hold what stopped follower i holds, which
// stood at st.
func (c *cluster) restore(i int, st histStatus, lossy bool) bool {
	stdout, stderr, code := sdiff(c.tb, "restore", "--data", c.nodes[c.master].dir, "--from", c.nodes[i].dir, "-o", "json")
	c.nodes[i].link.Refuse(false)
	if code != 0 {
		c.fatalf("node %d, at %d, is not restored from: %s%s", i, st.offset, stdout, stderr)
	}
	if !strings.Contains(stdout, `"outcome"`) {
		c.fatalf("no report: %s", stdout)
	}
	c.parent, c.lossy = st.epoch, lossy
	c.up(c.master)
	c.up(i)
	return true
}
