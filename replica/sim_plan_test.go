package replica_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
)

// simPatience is within what time after the faults every follower must be in
// sync again.
const simPatience = 30 * time.Second

// simForeign begins every value that no client wrote.
const simForeign = "~"

// A simPlan is all that a seed decides. It depends on nothing else.
type simPlan struct {
	seed   uint64
	nodes  []simNodePlan // the first is the first master
	master replica.MasterConfig
	gap    time.Duration // between two writes of a client, about
	phases [][]simStep
}

type simNodePlan struct {
	noSync bool
	policy replica.RepairPolicy
	scrub  float64
	beat   time.Duration
}

// A simStep is one thing that happens to the world.
type simStep struct {
	action int
	node   int
	x      [4]int // what else there is to decide, each below simChoices
	pause  time.Duration
}

// simChoices bounds a choice of a step. Many numbers divide it.
const simChoices = 720720

func newSimPlan(seed uint64) *simPlan {
	rng := rand.New(rand.NewPCG(seed, 0x5d1ff))
	p := &simPlan{seed: seed}
	p.master = replica.MasterConfig{
		TailBytes:  []int{1, 4 << 10, 64 << 10, 1 << 20}[rng.IntN(4)],
		LogBytes:   []int64{10 << 10, 40 << 10, 200 << 10}[rng.IntN(3)],
		LogAge:     []time.Duration{20 * time.Second, 2 * time.Minute, time.Hour}[rng.IntN(3)],
		MaxRepairs: 1 + rng.IntN(3),
		Heartbeat:  []time.Duration{time.Second, time.Second, 3 * time.Second}[rng.IntN(3)],
		Scrub:      []float64{-1, 0.05, 0.5}[rng.IntN(3)],
	}
	policies := []replica.RepairPolicy{
		{}, {}, {}, {Every: 20 * time.Second}, {Every: 3 * time.Minute}, {NoDrift: true}, {NoConnect: true}, {Manual: true},
	}
	for range 3 + rng.IntN(3) {
		p.nodes = append(p.nodes, simNodePlan{
			noSync: rng.IntN(3) == 0,
			policy: policies[rng.IntN(len(policies))],
			scrub:  []float64{-1, 0.05, 0.5}[rng.IntN(3)],
			beat:   p.master.Heartbeat,
		})
	}
	p.gap = []time.Duration{50 * time.Millisecond, 200 * time.Millisecond, time.Second}[rng.IntN(3)]
	// Not every fault happens in every run, so that each also has the others
	// out of its way now and then.
	var enabled []int
	for i, a := range simActions {
		if rng.IntN(10) < 7 {
			for range a.weight {
				enabled = append(enabled, i)
			}
		}
	}
	for range 2 + rng.IntN(2) {
		var phase []simStep
		for range 4 + rng.IntN(10) {
			if len(enabled) > 0 {
				phase = append(phase, newSimStep(rng, enabled[rng.IntN(len(enabled))]))
			}
		}
		p.phases = append(p.phases, phase)
	}
	last := len(p.phases) - 1
	p.phases[last] = append(p.phases[last], newSimStep(rng, simIdle))
	return p
}

func newSimStep(rng *rand.Rand, action int) simStep {
	pauses := []time.Duration{0, time.Millisecond, 30 * time.Millisecond, 200 * time.Millisecond, time.Second, time.Second, 3 * time.Second, 7 * time.Second, 16 * time.Second}
	s := simStep{action: action, node: rng.IntN(simChoices), pause: pauses[rng.IntN(len(pauses))]}
	for i := range s.x {
		s.x[i] = rng.IntN(simChoices)
	}
	return s
}

func (s simStep) String() string {
	return fmt.Sprintf("%s %d %v, then %v", simActions[s.action].name, s.node, s.x, s.pause)
}

func (p *simPlan) String() string {
	var b strings.Builder
	m := p.master
	fmt.Fprintf(&b, "tail %d, log %d bytes %v, %d repairs at once, heartbeat %v, scrub %v, a write every %v\n", m.TailBytes, m.LogBytes, m.LogAge, m.MaxRepairs, m.Heartbeat, m.Scrub, p.gap)
	for i, n := range p.nodes {
		fmt.Fprintf(&b, "n%d: sync %v, repair %+v, scrub %v\n", i, !n.noSync, n.policy, n.scrub)
	}
	for i, phase := range p.phases {
		for _, s := range phase {
			fmt.Fprintf(&b, "phase %d: %v\n", i, s)
		}
	}
	return b.String()
}

// newMemory returns an empty store for a node.
func (n simNodePlan) newMemory() *store.Memory {
	return store.NewMemoryWith(store.MemoryConfig{NoSync: n.noSync, Keep: 40})
}
