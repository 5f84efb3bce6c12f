//go:build chaos

package chaos

import (
	"bufio"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
)

var (
	memoryBytes   = flag.Int64("memory-bytes", 100_000_000, "data that is written in each of the tests of memory, bytes")
	memoryBudgets = flag.String("memory-budgets", "128MiB", "budgets that are tested, with commas; the empty one is the default")
)

// overBudget is how far the anonymous memory may exceed the budget and the
// tree.
const overBudget = 1.2

// TestMemory writes at full speed to a master and its follower and looks all
// the time at how much anonymous memory each takes: no more than its budget, a
// fifth of it, and the tree. The same keys are written again and again, so that
// the tree stays small and the database has to merge a lot. A second follower
// comes late and asks for all of the log.
func TestMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		skip(t, "no /proc to read memory from")
	}
	for budget := range strings.SplitSeq(*memoryBudgets, ",") {
		t.Run("budget="+budget, func(t *testing.T) { testMemory(t, budget) })
	}
}

func testMemory(t *testing.T, budget string) {
	dir := t.TempDir()
	var limit []string
	if budget != "" {
		limit = []string{"--memory", budget}
	}
	run := func(name string, args ...string) *process {
		return mustStart(t, filepath.Join(dir, name), append(args, limit...)...)
	}
	m := run("master", "serve", "--listen", "127.0.0.1:0", "--sync", "never")
	f := run("follower", "follow", "--from", m.ready.Address, "--sync", "never")
	mm, fm := watchMemory(t, m), watchMemory(t, f)
	begin := time.Now()
	n := churn(t, m, *memoryBytes)
	took := time.Since(begin)
	late := run("late follower", "follow", "--from", m.ready.Address, "--sync", "never", "--repair", "manual")
	lm := watchMemory(t, late)
	eventually(t, func() string { return inSync(t, m, f) })
	backlog := status(t, m).Log.Bytes
	eventually(t, func() string {
		if s := status(t, late); s.Offset < status(t, m).Offset {
			return fmt.Sprintf("the late follower is at %d: %s, %s", s.Offset, s.State, s.Why)
		}
		return ""
	})
	t.Logf("%d bytes in %v, a log of %d bytes", n, took.Round(time.Millisecond), backlog)
	for _, w := range []*memoryWatch{mm, fm, lm} {
		peak := w.end()
		s := status(t, w.p)
		most := int64(overBudget*float64(s.Memory.Budget)) + s.Store.TreeHeap
		name := filepath.Base(w.p.dir)
		t.Logf("%s: peak %d MiB of anonymous memory, budget %d MiB, tree %d MiB: %.2f of the budget; status says %d MiB", name, peak>>20,
			s.Memory.Budget>>20, s.Store.TreeHeap>>20, float64(peak-s.Store.TreeHeap)/float64(s.Memory.Budget), s.Memory.Used>>20)
		if w.samples == 0 || peak > most {
			t.Errorf("%s: peak %d in %d samples, may be %d", name, peak, w.samples, most)
		}
	}
}

// churn writes so many bytes to a master, in commits of a thousand ops over
// 200,000 keys and, one in twenty, of a few large values. It returns how many it
// wrote.
func churn(t testing.TB, p *process, bytes int64) int64 {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var done int64
	for w := range 2 {
		wg.Go(func() {
			c := control.NewClient(p.dir)
			defer c.Close()
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for {
				ops := churnOps(r)
				n := int64(0)
				for i := range ops {
					n += int64(len(ops[i].Key) + len(ops[i].Value))
				}
				mu.Lock()
				enough := done >= bytes
				done += n
				mu.Unlock()
				if enough {
					return
				}
				if _, err := c.Write(t.Context(), ops); err != nil {
					t.Errorf("write: %v\n%s", err, p.log)
					return
				}
			}
		})
	}
	wg.Wait()
	return done
}

func churnOps(r *rand.Rand) []control.Op {
	n, size := 1000, 100
	if r.IntN(20) == 0 {
		n, size = 8, 1<<16+r.IntN(1<<15)
	}
	ops := make([]control.Op, n)
	for i := range ops {
		value := make([]byte, size)
		for j := 0; j+8 <= size; j += 8 {
			binary.LittleEndian.PutUint64(value[j:], r.Uint64())
		}
		ops[i] = control.Op{Key: fmt.Appendf(nil, "key/%010d", r.IntN(200_000)), Value: value}
	}
	return ops
}

// A memoryWatch reads a process's anonymous memory until it is ended.
type memoryWatch struct {
	p       *process
	cancel  context.CancelFunc
	done    chan struct{}
	peak    int64 // bytes
	samples int
}

func watchMemory(t testing.TB, p *process) *memoryWatch {
	ctx, cancel := context.WithCancel(t.Context())
	w := &memoryWatch{p: p, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for more := true; more; { // once more when it is over
			if n, err := anonymous(p.cmd.Process.Pid); err == nil {
				w.samples++
				w.peak = max(w.peak, n)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				more = false
			}
		}
	}()
	return w
}

// end returns the largest number that was seen.
func (w *memoryWatch) end() int64 {
	w.cancel()
	<-w.done
	return w.peak
}

// anonymous returns the bytes of anonymous memory that a process has in use.
func anonymous(pid int) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if kb, ok := strings.CutPrefix(s.Text(), "Anonymous:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(kb, "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("no line on anonymous memory of process %d", pid)
}

// status asks a process for its status.
func status(t testing.TB, p *process) replica.Status {
	t.Helper()
	s, err := p.Status(t.Context())
	if err != nil {
		t.Fatalf("status: %v\n%s", err, p.log)
	}
	return s
}
