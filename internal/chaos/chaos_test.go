//go:build chaos

package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/replica"
)

var (
	chaosFor       = flag.Duration("for", 20*time.Second, "how long TestChaos injects faults and heals")
	chaosSeed      = flag.Uint64("seed", 0, "seed of TestChaos; 0 draws one")
	chaosFollowers = flag.Int("followers", 3, "followers in TestChaos")
)

// convergeWithin bounds how long it takes, after the last fault, until all
// replicas hold the same: ten seconds until a dead connection is noticed, ten
// until the next attempt, as many again if the master still has the old
// session, and the repair.
const convergeWithin = 60 * time.Second

// longRun is how long TestChaos must run to have seen every kind of fault.
const longRun = 10 * time.Minute

// A chaosTotal is what a run adds up.
type chaosTotal struct {
	histCounts
	rounds   int
	longest  time.Duration // until all had converged
	problems map[string]int
	writes   atomic.Int64 // numbers given to writes
}

// TestChaos runs a master and followers as processes, and has everything go
// wrong that can, in rounds: first faults, while clients write and readers look;
// then all is healed, and the replicas must converge. What was seen in a round
// is held against the promises.
func TestChaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	again := fmt.Sprintf("go test -tags chaos ./internal/chaos -run 'TestChaos$' -v -timeout 0 -for %v -seed %d -followers %d -race-program=%v", *chaosFor, seed, *chaosFollowers, *withRace)
	t.Logf("to repeat its schedule: %s", again)
	dir, err := os.MkdirTemp("", "sdiff-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, dir, seed, *chaosFollowers)
	total := &chaosTotal{problems: map[string]int{}}
	defer func() {
		c.end()
		t.Logf("%s", c.table(total))
		if t.Failed() {
			t.Logf("the directories are left in %s; to repeat: %s", dir, again)
			return
		}
		os.RemoveAll(dir)
	}()
	base := histBase{state: map[string]int64{}, older: map[string]bool{}}
	for end := time.Now().Add(*chaosFor); time.Now().Before(end); {
		base = c.round(base, total)
		if t.Failed() {
			return
		}
	}
	c.end()
	c.mustHaveFired(total)
}

// round runs one round and returns the state in which it ended.
func (c *cluster) round(base histBase, total *chaosTotal) histBase {
	c.log, c.faults, c.start = nil, 0, time.Now()
	total.rounds++
	if base.epoch == "" {
		c.up(c.master)
		base.epoch = c.epoch
	}
	h := newHist(base)
	c.hist.Store(h)
	t := c.begin(h, func() int64 { return total.writes.Add(1) })
	for i := range c.nodes {
		if c.nodes[i].running.Load() == nil {
			c.up(i)
		}
	}
	c.inject(c.roundTime())
	took := c.settle(t)
	total.longest = max(total.longest, took)
	c.conclude(t, h, total)
	base.older[base.epoch] = true
	for _, e := range h.epochs {
		base.older[e.id] = true
	}
	first := h.final[0]
	c.tb.Logf("round %d: %d faults, converged in %.1f s, %d keys at %d", total.rounds, c.faults, took.Seconds(), len(first.state), first.status.offset)
	return histBase{epoch: first.status.epoch, offset: first.status.offset, state: first.state, older: base.older}
}

// roundTime draws how long faults are injected in a round: now and then so long
// that the log is trimmed.
func (c *cluster) roundTime() time.Duration {
	if c.rng.IntN(4) == 0 {
		return 16 * time.Second
	}
	return time.Duration(4000+c.rng.IntN(5000)) * time.Millisecond
}

// settle ends all faults, waits until all replicas have converged and are
// verified, and returns how long that took. Whoever is parked is told that a person agrees.
func (c *cluster) settle(t *traffic) time.Duration {
	c.alive()
	for _, n := range c.nodes {
		c.heal(n.link)
	}
	c.did("healed")
	began := time.Now()
	t.quit()
	t.pens.Wait()
	var why string
	for time.Since(began) < convergeWithin {
		c.alive()
		why = ""
		for i := range c.nodes {
			if i != c.master && why == "" {
				why = c.behind(i)
			}
		}
		if why == "" {
			why = c.verify()
		}
		if why == "" {
			return time.Since(began)
		}
		c.wait(20*time.Millisecond, 50*time.Millisecond)
	}
	c.fatalf("not converged after %v: %s", convergeWithin, why)
	return 0
}

// verify has every node read all it holds, and compare itself with its master.
// It returns why that could not be told: a session may turn out to be dead.
func (c *cluster) verify() (why string) {
	for i, n := range c.nodes {
		switch stdout, _, code := sdiff(c.tb, "verify", "--data", n.dir, "-o", "json"); code {
		case 0:
		case 4:
			why = stdout
		default:
			c.fatalf("node %d: verify ended with %d: %s", i, code, stdout)
		}
	}
	return why
}

// behind returns "" once a follower holds what the master holds, verified, and
// why not otherwise.
func (c *cluster) behind(i int) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	master, follower := c.nodes[c.master].running.Load(), c.nodes[i].running.Load()
	if master == nil || follower == nil {
		return fmt.Sprintf("node %d or the master is down", i)
	}
	m, err := master.Status(ctx)
	if err != nil {
		return fmt.Sprintf("the master: %v", err)
	}
	f, err := follower.Status(ctx)
	if err != nil {
		return fmt.Sprintf("node %d: %v", i, err)
	}
	if f.State == replica.Parked {
		c.unpark(ctx, i, f)
	}
	if f.Complete && f.State == replica.Streaming && f.Epoch == m.Epoch && f.Offset == m.Offset && f.Fingerprint == m.Fingerprint && f.InSync != nil && *f.InSync {
		return ""
	}
	return fmt.Sprintf("node %d is %s (%s) at %.6s:%d %s, the master at %.6s:%d %s; its last repair: %+v", i, f.State, f.Why, f.Epoch, f.Offset, f.Fingerprint, m.Epoch, m.Offset, m.Fingerprint, f.LastRepair)
}

// unpark lets a parked follower give up what its master does not have, be it the
// larger part. There must be a reason for it: a history that a person has given
// up.
func (c *cluster) unpark(ctx context.Context, i int, st replica.Status) {
	h := c.hist.Load()
	if !slices.ContainsFunc(h.epochs, func(e histEpoch) bool { return e.lossy }) {
		c.fatalf("node %d is parked at %.6s:%d without a reason: %s", i, st.Epoch, st.Offset, st.Why)
	}
	h.addReset(histReset{node: i, all: true})
	rep, err := c.nodes[i].running.Load().Repair(ctx, control.Repair{AcceptRollback: true, AllowMassDelete: true}, nil)
	c.did("node %d was parked (%s): repair said %v, %v", i, st.Why, rep.Outcome, err)
	if err == nil {
		c.count("rollback accepted")
	}
}

// conclude checks a round: everything that the replicas hold, then the history.
func (c *cluster) conclude(t *traffic, h *hist, total *chaosTotal) {
	for i, n := range c.nodes {
		r := n.running.Load()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		f := histFinal{node: i, state: map[string]int64{}}
		items, ok := t.list(ctx, r, "")
		if !ok || !r.status(ctx, &f.status) {
			c.fatalf("node %d cannot be listed", i)
		}
		cancel()
		for _, it := range items {
			f.state[it.key] = it.val
		}
		h.final = append(h.final, f)
	}
	t.stop()
	t.wg.Wait()
	c.tally(h)
	problems := validate(h, &total.histCounts)
	for i, p := range problems {
		total.problems[p.kind]++
		if i < 20 {
			c.tb.Errorf("%s: %s", p.kind, p.text)
		}
	}
	if len(problems) > 0 {
		c.fatalf("round %d breaks %d promises", total.rounds, len(problems))
	}
}

// tally counts what only the history knows to have happened.
func (c *cluster) tally(h *hist) {
	for _, w := range h.watches {
		for _, e := range w.events {
			if e.repair {
				c.count("repairs seen by a watch")
				break
			}
		}
	}
}

// table returns the totals of a run.
func (c *cluster) table(total *chaosTotal) string {
	c.netCounts()
	var b strings.Builder
	line := func(name string, n any) { fmt.Fprintf(&b, "  %-34s %v\n", name, n) }
	fmt.Fprintf(&b, "totals:\n")
	line("rounds", total.rounds)
	line("kills", c.counts["processes killed"])
	line("cuts", c.sum("net cut", "net half-close", "net black hole", "net refuse"))
	line("pauses", c.sum("pause master", "pause follower", "pause beyond silence"))
	line("damages", c.sum("keys deleted", "keys changed", "keys added", "file damaged", "directory wiped"))
	line("writes acknowledged", total.acked)
	line("changes watched", total.changes)
	line("lost", total.problems["durable"])
	line("false deletes", total.problems["false delete"])
	line("going back", total.problems["no key back"])
	line("longest convergence", fmt.Sprintf("%.1f s", total.longest.Seconds()))
	fmt.Fprintf(&b, "what was looked at:\n")
	line("writes of unknown outcome", total.unknown)
	line("writes refused", total.failed)
	line("watches", total.sessions)
	line("gaps told", total.gaps)
	line("samples of replicas", total.samples)
	line("keys seen in them", total.items)
	line("states held against the history", total.prefixes)
	line("fingerprints checked", total.prints)
	line("puts by repairs checked", total.puts)
	line("deletes by repairs checked", total.deletes)
	line("epochs with an unknown commit", total.holes)
	fmt.Fprintf(&b, "promises broken:\n")
	for _, v := range []string{"bookmarkable", "ordered", "unique", "atomic", "reliable", "resumable", "honest", "parks", "convergent"} {
		line(v, total.problems[v])
	}
	fmt.Fprintf(&b, "what went wrong, and how often:\n")
	var kinds []string
	for k := range c.counts {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	for _, k := range kinds {
		line(k, c.counts[k])
	}
	return b.String()
}

// sum adds up some counts.
func (c *cluster) sum(kinds ...string) (n uint64) {
	for _, k := range kinds {
		n += c.counts[k]
	}
	return n
}

// netCounts takes over what the links have counted.
func (c *cluster) netCounts() {
	for f := faultnet.Delay; f <= faultnet.Refuse; f++ {
		var sum uint64
		for _, n := range c.nodes {
			sum += n.link.Count(f)
		}
		c.counts["net "+f.String()] = sum
	}
}

// mustHaveFired fails a long run in which a kind of fault never happened.
func (c *cluster) mustHaveFired(total *chaosTotal) {
	c.netCounts()
	for _, text := range c.unclear {
		c.tb.Errorf("damage was refused, but not clearly: %s", text)
	}
	var never []string
	for _, kind := range mustFire {
		if c.counts[kind] == 0 {
			never = append(never, kind)
		}
	}
	switch {
	case total.acked == 0 || total.prefixes == 0 || total.changes == 0:
		c.tb.Errorf("nothing was seen: %+v", total.histCounts)
	case len(never) > 0 && *chaosFor >= longRun:
		c.tb.Errorf("never happened: %s", strings.Join(never, ", "))
	case len(never) > 0:
		c.tb.Logf("did not happen in this short run: %s", strings.Join(never, ", "))
	}
}
