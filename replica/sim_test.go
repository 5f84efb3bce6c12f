package replica_test

import (
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	simSeeds   = flag.Uint64("sim.seeds", 12, "how many seeds TestSimulation runs over")
	simFirst   = flag.Uint64("sim.first", 1, "the first of them")
	simVerbose = flag.Bool("sim.trace", false, "print the trace of every seed")
)

// A simResult is what a run has come to.
type simResult struct {
	events []simEvent
	lines  []string
	took   time.Duration // simulated
	past   *simPast
}

// simulate runs a plan in fake time and holds what happened against all
// promises.
func simulate(t *testing.T, plan *simPlan, c *simCounts) (res simResult) {
	defer func() { res.report(t, plan) }()
	synctest.Test(t, func(t *testing.T) {
		w := &simWorld{t: t, plan: plan, r: &simRecorder{began: time.Now()}, c: &simCounts{}, stopc: make(chan struct{})}
		defer func() {
			w.end()
			res.events, res.lines, res.took = w.r.events, w.lines, time.Since(w.r.began)
			c.merge(w.c)
		}()
		w.begin()
		w.run()
	})
	res.past = simReplay(res.events, simValidators)
	return res
}

// report prints what is needed to run a seed again.
func (res simResult) report(t *testing.T, plan *simPlan) {
	if res.past != nil {
		for _, v := range res.past.found[:min(5, len(res.past.found))] {
			t.Errorf("%v\n%s", v, res.context(v.event))
		}
	}
	if !t.Failed() && !*simVerbose {
		return
	}
	lines := res.lines
	if n := 120; len(lines) > n && !*simVerbose {
		lines = lines[len(lines)-n:]
	}
	t.Logf("to run it again: go test ./replica -run 'TestSimulation$' -sim.first %d -sim.seeds 1 -count 10\n%v\n%s", plan.seed, plan, strings.Join(lines, "\n"))
}

// context returns the events of one node that led to an event.
func (res simResult) context(i int) string {
	var before []string
	for j := i; j >= 0 && len(before) < 15; j-- {
		if e := &res.events[j]; e.node == res.events[i].node && (j == i || e.kind == simStored || e.kind == simReload || e.kind == simConsent || e.kind == simRun || e.kind == simTamper || e.who == res.events[i].who && e.kind == res.events[i].kind || e.kind == simWatchOn) {
			before = append(before, fmt.Sprintf("    event %d: %v", j, e))
		}
	}
	slices.Reverse(before)
	return strings.Join(before, "\n")
}

// TestSimulationPlan wants a seed to decide all faults, alone: a failure can be
// looked for again. What happens at one and the same moment comes in an order
// of its own, which is why that may take more than one run.
func TestSimulationPlan(t *testing.T) {
	for seed := range uint64(50) {
		a, b, other := newSimPlan(seed).String(), newSimPlan(seed).String(), newSimPlan(seed+1).String()
		if a != b || a == other {
			t.Errorf("seed %d: its plan is the same twice: %v, the same as the next one's: %v", seed, a == b, a == other)
		}
	}
}

// simRare are the paths that a long run must have taken, every one.
var simRare = []string{
	"write acknowledged", "write refused", "write timed out", "write of unknown outcome", "reads", "WaitFor came back",
	"watch: change", "watch: gap", "watch: resumed", "watch: slow", "watch: trimmed",
	"network: delay", "network: throttle", "network: stall", "network: black hole", "network: cut", "network: half-close",
	"network: split", "network: merge", "network: flip", "network: duplicate", "network: swap", "network: drop", "network: refuse",
	"silence noticed", "older than the log", "log trimmed", "log read",
	"crash", "transactions lost in a crash", "ended by itself", "promotion lost",
	"write refused: disk full", "write failed", "write failed with its effect", "slow write",
	"items damaged", "transactions lost to damage", "found by verify", "master's damage found by verify", "unsendable keys met",
	"garbled transaction", "drift noticed", "master refused to start", "loss accepted",
	"backup in the master's place", "rollback accepted", "parked before another master",
	"promotion", "promotion refused", "restored from a follower", "restore refused",
	"repair: same", "repair: repaired", "repair: different", "repair: could not tell", "repair cut off", "repair of several rounds",
	"compared by sketch", "compared by ranges",
	"keys put by repairs", "keys deleted by repairs", "guard stopped a repair", "mass delete allowed",
	"state: connecting", "state: initializing", "state: catching up", "state: streaming", "state: comparing",
	"state: repairing", "state: drifted", "state: parked", "state: failed", "state: ended", "convergences",
}

// simRarest are those that a run of some hundred may do without.
var simRarest = []string{"state: stalled"}

// TestSimulation runs worlds of three to five replicas in fake time, each as a
// seed decides, and holds the recorded history of each against every promise.
// It prints what happened, and fails if over 200 seeds or more something never
// did, or over 2,000 one of the rarest.
func TestSimulation(t *testing.T) {
	var total simCounts
	var simulated atomic.Int64
	var next atomic.Uint64
	next.Store(*simFirst)
	began := time.Now()
	t.Run("seeds", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("worker", func(t *testing.T) {
				t.Parallel()
				for seed := next.Add(1) - 1; seed < *simFirst+*simSeeds; seed = next.Add(1) - 1 {
					t.Run(fmt.Sprint(seed), func(t *testing.T) {
						plan := newSimPlan(seed)
						res := simulate(t, plan, &total)
						simulated.Add(int64(res.took))
						total.count("events recorded", len(res.events))
					})
				}
			})
		}
	})
	t.Logf("%d seeds, %.1f simulated hours, %.0f s\n%s", *simSeeds, time.Duration(simulated.Load()).Hours(), time.Since(began).Seconds(), total.table())
	if *simSeeds < 200 {
		return
	}
	rares := simRare
	if *simSeeds >= 2000 {
		rares = append(slices.Clone(rares), simRarest...)
	}
	for _, rare := range rares {
		if total.n[rare] == 0 {
			t.Errorf("it never happened: %s", rare)
		}
	}
}

// table returns the counts, one a line.
func (c *simCounts) table() string {
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(c.n)) {
		fmt.Fprintf(&b, "| %s | %d |\n", what, c.n[what])
	}
	return b.String()
}
