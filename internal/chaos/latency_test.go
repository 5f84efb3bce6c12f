//go:build chaos

package chaos

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sdiff/sdiff/internal/control"
)

// loaders is how many writes may be under way.
const loaders = 64

// A phase is what was measured of a master's writes in it.
type phase struct {
	writes             int
	p50, p99, p999     time.Duration
	longest            time.Duration
	master, peers, all float64 // CPUs in use: by the master, by its peers, by everybody
}

// measure writes at the rate of the flag, whatever each write takes, through
// the control socket, and looks at how much of the processors is used meanwhile.
func (s *stage) measure(name string) phase {
	before, begin := s.cpu(), time.Now()
	took := s.load(begin)
	elapsed := time.Since(begin).Seconds()
	after := s.cpu()
	slices.Sort(took)
	at := func(share float64) time.Duration { return took[min(len(took)-1, int(share*float64(len(took))))] }
	p := phase{
		writes: len(took), p50: at(.5), p99: at(.99), p999: at(.999), longest: took[len(took)-1],
		master: (after[0] - before[0]) / elapsed, peers: (after[1] - before[1]) / elapsed, all: (after[2] - before[2]) / elapsed,
	}
	s.n[name+": writes"] += p.writes
	s.Logf("%-7s %6d writes: p50 %v, p99 %v, p99.9 %v, most %v; CPUs: master %.2f, peers %.2f, all %.2f", name, p.writes,
		p.p50.Round(10*time.Microsecond), p.p99.Round(10*time.Microsecond), p.p999.Round(10*time.Microsecond), p.longest.Round(10*time.Microsecond),
		p.master, p.peers, p.all)
	return p
}

// load writes for as long as the flag says, each at its time, and returns what
// the writes took.
func (s *stage) load(begin time.Time) (took []time.Duration) {
	free := make(chan *control.Client, loaders)
	for range loaders {
		c := control.NewClient(s.master.dir)
		defer c.Close()
		free <- c
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	tick := time.NewTicker(time.Second / time.Duration(*boundedRate))
	defer tick.Stop()
	for n := 0; time.Since(begin) < *boundedPhase; n++ {
		<-tick.C
		select {
		case c := <-free:
			wg.Go(func() {
				sent := time.Now()
				s.write(c, key(rand.IntN(20_000)))
				d := time.Since(sent)
				mu.Lock()
				took = append(took, d)
				mu.Unlock()
				free <- c
			})
		default:
			s.n["writes left out, as too many were under way"]++
		}
		if n%*boundedRate == 0 {
			s.countSockets()
		}
	}
	wg.Wait()
	return took
}

// countSockets notes how many sockets the master has open.
func (s *stage) countSockets() {
	dir := fmt.Sprintf("/proc/%d/fd", s.master.cmd.Process.Pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		s.Fatal(err)
	}
	sockets := 0
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			sockets++
		}
	}
	s.n[socketsOpen] = max(s.n[socketsOpen], sockets)
}

// socketsOpen counts the most sockets that the master was seen to have open.
const socketsOpen = "sockets open at once, most"

// cpu returns the processor time in seconds that was used by the master, by its
// peers, and by everybody.
func (s *stage) cpu() (used [3]float64) {
	used[0] = s.used(s.master.cmd.Process.Pid)
	for _, c := range append(s.stopped, s.healthy, s.slow, s.strange) {
		used[1] += s.used(c.cmd.Process.Pid)
	}
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		s.Fatal(err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	for i, f := range bytes.Fields(line)[1:] {
		if i != 3 && i != 4 && i < 8 { // idle, waiting for I/O, and what is counted twice
			used[2] += ticks(f)
		}
	}
	return used
}

// used returns the processor time of a process.
func (s *stage) used(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		s.Fatal(err)
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	return ticks(fields[11]) + ticks(fields[12])
}

// ticks parses a processor time, which Linux counts in hundredths of a second.
func ticks(b []byte) float64 {
	n, _ := strconv.ParseFloat(string(b), 64)
	return n / 100
}
