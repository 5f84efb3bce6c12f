//go:build chaos

package chaos

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sdiff/sdiff/internal/control"
)

// The defaults are those of a short run.
var (
	boundedMemory  = flag.String("bounded-memory", "256MiB", "the master's budget of memory")
	boundedSync    = flag.String("bounded-sync", "always", "the master's --sync")
	boundedBacklog = flag.Int64("bounded-backlog", 64_000_000, "what the slow and the stopped followers are behind, bytes")
	boundedHealthy = flag.Int("bounded-healthy", 20, "followers that are well")
	boundedSlow    = flag.Int("bounded-slow", 4, "followers that read 1 KB/s")
	boundedStopped = flag.Int("bounded-stopped", 2, "followers that are stopped")
	boundedSilent  = flag.Int("bounded-silent", 1500, "connections that say nothing")
	boundedHostile = flag.Int("bounded-hostile", 8, "hostile peers at once")
	boundedRate    = flag.Int("bounded-rate", 50, "writes per second while latencies are measured")
	boundedPhase   = flag.Duration("bounded-phase", 3*time.Second, "how long they are measured without trouble, and with")
	boundedRounds  = flag.Int("bounded-rounds", 1, "how often each is done, in turn")
	boundedRatio   = flag.Float64("bounded-ratio", 0, "fail if trouble makes p99 of the writes larger than so many times; 0 does not")
)

// slowRate is what a slow follower reads, in bytes per second.
const slowRate = 1000

// mostSilent is how many connections that have not said hello a master has at
// most.
const mostSilent = 1024

// A stage is a master and all that talk to it.
type stage struct {
	testing.TB
	master  *process
	memory  *memoryWatch
	healthy *crowd
	slow    *crowd
	stopped []*crowd
	strange *crowd
	n       counts
}

// TestBounded has a master serve followers that are well, and measures its
// writes; then, in turn with that, it also has slow followers and stopped ones,
// which are far behind, connections that say nothing, and hostile peers. Its
// anonymous memory stays within its budget, a fifth, and the tree; the
// followers that are well stay in sync, the connections are bounded, and when
// the trouble is over all others are in sync, too. How much slower writes were
// is printed. The long run:
//
//	go test -tags chaos ./internal/chaos -run 'TestBounded$' -v -timeout 1h -bounded-backlog 1000000000 -bounded-healthy 70 \
//	  -bounded-slow 20 -bounded-stopped 10 -bounded-silent 2000 -bounded-hostile 20 -bounded-phase 30s -bounded-rounds 3 -bounded-ratio 1.2
func TestBounded(t *testing.T) {
	if runtime.GOOS != "linux" {
		skip(t, "no /proc to read memory from")
	}
	s := newStage(t)
	s.backlog()
	s.healthy = startCrowd(t, crowdPlan{Name: "healthy", Address: s.master.ready.Address, Followers: *boundedHealthy})
	s.settled(s.healthy)
	var calm, troubled []phase
	for range *boundedRounds {
		s.alone()
		calm = append(calm, s.measure("calm"))
		s.trouble()
		troubled = append(troubled, s.measure("trouble"))
		s.allHappened()
		s.settled(s.healthy)
		s.relief()
	}
	s.recover()
	s.checkMemory()
	s.checkCounts()
	ratio50, ratio99 := compare(calm, troubled)
	report(t, s.n)
	fmt.Printf("%s: p50 of writes with trouble %.2f of that without, p99 %.2f\n", t.Name(), ratio50, ratio99)
	if *boundedRatio > 0 && ratio99 > *boundedRatio {
		t.Errorf("with trouble, p99 of writes is %.2f times that without, may be %.2f", ratio99, *boundedRatio)
	}
}

// newStage starts a master and those followers that will be in trouble, and
// waits until these are in sync.
func newStage(t testing.TB) *stage {
	s := &stage{TB: t, n: counts{}}
	s.master = mustStart(t, filepath.Join(t.TempDir(), "master"), "serve", "--listen", "127.0.0.1:0", "--sync", *boundedSync,
		"--memory", *boundedMemory, "--log-size", fmt.Sprint(2**boundedBacklog+1<<30))
	s.memory = watchMemory(t, s.master)
	s.write(s.master.Client, key(0))
	addr := s.master.ready.Address
	s.slow = startCrowd(t, crowdPlan{Name: "slow", Address: addr, Followers: *boundedSlow})
	for i := range *boundedStopped {
		s.stopped = append(s.stopped, startCrowd(t, crowdPlan{Name: fmt.Sprintf("stopped%02d", i), Address: addr, Followers: 1}))
	}
	s.strange = startCrowd(t, crowdPlan{Name: "strangers", Address: addr, Silent: *boundedSilent, Hostile: *boundedHostile})
	s.settled(append(s.stopped, s.slow)...)
	return s
}

// backlog cuts the followers in trouble off and writes what they will be behind.
func (s *stage) backlog() {
	s.cutOff()
	begin := time.Now()
	const size, each = 64 << 10, 16
	for n := int64(0); n < *boundedBacklog; n += size * each {
		ops := make([]control.Op, each)
		for i := range ops {
			ops[i] = control.Op{Key: fmt.Appendf(nil, "large/%03d", rand.IntN(200)), Value: random(size)}
		}
		if _, err := s.master.Write(s.Context(), ops); err != nil {
			s.Fatalf("write: %v\n%s", err, s.master.log)
		}
	}
	s.Logf("a backlog of %d bytes was written in %v", status(s, s.master).Log.Bytes, time.Since(begin).Round(time.Millisecond))
}

// cutOff has the slow followers connect no more, and stops the others.
func (s *stage) cutOff() {
	s.slow.tell(s, "refuse", 0)
	for _, c := range s.stopped {
		c.signal(syscall.SIGSTOP)
	}
}

// alone waits until only the followers that are well are there.
func (s *stage) alone() {
	s.cutOff()
	s.connected(s.healthy.name, *boundedHealthy)
	s.connected("", *boundedHealthy)
	s.settled(s.healthy)
}

// connected waits until so many followers whose ids begin so are connected.
func (s *stage) connected(prefix string, n int) {
	s.Helper()
	eventually(s, func() string {
		have := 0
		for _, f := range status(s, s.master).Followers {
			if f.Connected && strings.HasPrefix(f.ID, prefix) {
				have++
			}
		}
		if have == n {
			return ""
		}
		return fmt.Sprintf("%d followers %s are connected, not %d", have, prefix, n)
	})
}

// trouble begins all of it: when it returns the slow and the stopped followers
// are connected, with all of the backlog before them.
func (s *stage) trouble() {
	s.slow.tell(s, "rate", slowRate)
	s.slow.tell(s, "allow", 0)
	for _, c := range s.stopped {
		c.signal(syscall.SIGCONT)
	}
	for _, c := range s.stopped {
		s.connected(c.name, 1)
		c.signal(syscall.SIGSTOP)
	}
	s.connected(s.slow.name, *boundedSlow)
	s.strange.tell(s, "bother", 0)
}

// allHappened waits until the strangers have done all that they do, however
// slow the machine is.
func (s *stage) allHappened() {
	s.Helper()
	eventually(s, func() string {
		n := s.strange.tell(s, "status", 0).Counts
		for _, a := range hostileActs {
			if n["hostile: "+a.name] == 0 {
				return "never happened: " + a.name
			}
		}
		if n["silent: cut off"] == 0 {
			return "no silent connection was cut off"
		}
		return ""
	})
}

// relief ends the strangers' part of the trouble, and counts what became of the
// rest.
func (s *stage) relief() {
	s.strange.tell(s, "leave", 0)
	head := status(s, s.master).Offset
	for _, f := range s.slow.tell(s, "status", 0).Followers {
		if f.Offset < head {
			s.n["slow followers behind after a phase of trouble"]++
		}
	}
	for _, f := range status(s, s.master).Followers {
		if strings.HasPrefix(f.ID, "stopped") && !f.Connected {
			s.n["stopped followers dropped within a phase of trouble"]++
		}
	}
}

// recover lets all followers catch up, and waits until they have.
func (s *stage) recover() {
	begin := time.Now()
	s.slow.tell(s, "rate", 0)
	s.slow.tell(s, "allow", 0)
	for _, c := range s.stopped {
		c.signal(syscall.SIGCONT)
	}
	s.settled(append(s.stopped, s.slow, s.healthy)...)
	s.Logf("all are in sync after %v", time.Since(begin).Round(time.Millisecond))
	for _, c := range append(s.stopped, s.slow, s.healthy) {
		for _, f := range c.tell(s, "status", 0).Followers {
			s.n["followers in sync at the end"]++
			if r := f.LastRepair; r != nil && c != s.healthy {
				s.n["of these, repaired: "+string(r.Outcome)]++
			}
		}
	}
}

// settled waits until all followers of crowds hold what the master holds. That
// may take long, but not without progress.
func (s *stage) settled(crowds ...*crowd) {
	s.Helper()
	var last uint64
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		var sum uint64
		why := ""
		m := status(s, s.master)
		for _, c := range crowds {
			for _, f := range c.tell(s, "status", 0).Followers {
				sum += f.Offset
				if f.LastRepair != nil {
					sum += f.LastRepair.Put
				}
				if !f.Complete || f.Epoch != m.Epoch || f.Offset != m.Offset || f.Fingerprint != m.Fingerprint || f.InSync == nil || !*f.InSync {
					why = fmt.Sprintf("follower %s is %s at %d of %d, %s of %s: %s", f.ID, f.State, f.Offset, m.Offset, f.Fingerprint, m.Fingerprint, f.Why)
				}
			}
		}
		switch {
		case why == "":
			return
		case sum != last:
			last, end = sum, time.Now().Add(patience)
		case time.Now().After(end):
			s.Fatalf("no progress for %v: %s\n%s", patience, why, s.master.log)
		}
	}
}

// checkMemory holds the master's memory against its budget.
func (s *stage) checkMemory() {
	peak := s.memory.end()
	st := status(s, s.master)
	s.Logf("peak %d MiB of anonymous memory in %d samples, budget %d MiB, tree %d MiB: %.2f of the budget", peak>>20, s.memory.samples,
		st.Memory.Budget>>20, st.Store.TreeHeap>>20, float64(peak-st.Store.TreeHeap)/float64(st.Memory.Budget))
	if most := int64(overBudget*float64(st.Memory.Budget)) + st.Store.TreeHeap; peak > most {
		s.Errorf("peak %d of anonymous memory, may be %d", peak, most)
	}
}

// checkCounts demands that all the trouble was there.
func (s *stage) checkCounts() {
	for what, n := range s.strange.tell(s, "status", 0).Counts {
		s.n[what] += n
	}
	s.n["pauses for the rate"] += s.slow.tell(s, "status", 0).Counts["pauses for the rate"]
	if s.n["pauses for the rate"] == 0 {
		s.Error("no slow follower was slowed down")
	}
	if want := *boundedRounds * *boundedSlow; s.n["slow followers behind after a phase of trouble"] != want {
		s.Errorf("%d slow followers were behind, want %d", s.n["slow followers behind after a phase of trouble"], want)
	}
	// Two for each hostile peer: one is being ended while the next begins. And
	// the master's own.
	if n, most := s.n[socketsOpen], mostSilent+s.followers()+2**boundedHostile+loaders+10; n == 0 || n > most {
		s.Errorf("the master had %d sockets open, may have %d", n, most)
	}
}

func (s *stage) followers() int { return *boundedHealthy + *boundedSlow + *boundedStopped }

// write makes a small commit.
func (s *stage) write(c *control.Client, key []byte) {
	if _, err := c.Write(s.Context(), []control.Op{{Key: key, Value: random(100)}}); err != nil {
		s.Errorf("write: %v\n%s", err, s.master.log)
	}
}

func key(i int) []byte { return fmt.Appendf(nil, "small/%05d", i) }

// random returns so many random bytes, a multiple of four at least.
func random(n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, rand.Uint64())
	}
	return b[:n]
}

// compare returns by how much p50 and p99 are larger in the median phase with
// trouble.
func compare(calm, troubled []phase) (p50, p99 float64) {
	ratio := func(of func(phase) time.Duration) float64 {
		return float64(median(troubled, of)) / float64(median(calm, of))
	}
	return ratio(func(p phase) time.Duration { return p.p50 }), ratio(func(p phase) time.Duration { return p.p99 })
}

func median(all []phase, of func(phase) time.Duration) time.Duration {
	var ds []time.Duration
	for _, p := range all {
		ds = append(ds, of(p))
	}
	slices.Sort(ds)
	return ds[len(ds)/2]
}
