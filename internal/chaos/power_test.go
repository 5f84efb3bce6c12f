//go:build chaos

package chaos

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	cuts      = flag.Int("cuts", 2, "TestPowerCut: cut the power of a master so often; of a follower, and of a master that does not sync, a quarter as often")
	perDisk   = flag.Int("cuts-per-disk", 10, "TestPowerCut: begin with a new disk after so many cuts")
	crashSeed = flag.Uint64("crash-seed", 0, "TestPowerCut, TestKill: the seed of writers and moments; 0 takes the time")
)

// TestPowerCut cuts the power of real processes under load: it stops the
// process, takes what has reached the disk by then, ends the process, mounts
// what it took and goes on from there. What follows each cut is held against
// what was acknowledged before it.
func TestPowerCut(t *testing.T) {
	needLoop(t)
	defer total(t)
	t.Run("master", func(t *testing.T) { eachDisk(t, *cuts, cutMaster) })
	t.Run("unsynced", func(t *testing.T) {
		lost := 0
		eachDisk(t, quarter(*cuts), func(t *testing.T, r *rand.Rand, n int) { lost += cutUnsynced(t, r, n) })
		// Or the cuts above prove nothing; a single one may happen to lose nothing.
		if !t.Failed() && lost == 0 && quarter(*cuts) >= 5 {
			t.Error("no cut lost an acknowledged commit of a master that does not sync: this is no power cut")
		}
	})
	t.Run("follower", func(t *testing.T) { eachDisk(t, quarter(*cuts), cutFollower) })
}

func quarter(n int) int { return (n + 3) / 4 }

// eachDisk calls f with a number of cuts to make on one disk, until there were
// n in all.
func eachDisk(t *testing.T, n int, f func(t *testing.T, r *rand.Rand, cuts int)) {
	seed := *crashSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	for n > 0 && !t.Failed() {
		// A test of its own, so that the disk goes with it.
		t.Run(fmt.Sprintf("crash-seed=%d", seed), func(t *testing.T) {
			f(t, rand.New(rand.NewPCG(seed, 0)), min(n, *perDisk))
		})
		n -= *perDisk
		seed++
	}
}

// powerMiB is the size of a disk for power cuts: a database makes its logs
// 128 MiB long and leaves most of that out, and some space is kept free.
const powerMiB = 1536

// powerDisk makes a disk for power cuts, in memory, where there is room: how
// fast it is decides how many commits a cut meets. Half of them have a volatile
// cache, of which a cut loses some; of the others it takes what was written.
func powerDisk(t testing.TB, r *rand.Rand, n counts) *disk {
	t.Helper()
	dir := memoryDir(t)
	if r.IntN(2) == 0 {
		if c := newCacheDisk(t, dir, powerMiB<<20, make(map[int64][]byte)); c != nil {
			makeFS(t, c.path, "-J", "size=16")
			c.flush()
			n["disks with a volatile cache"]++
			d := mountImage(t, c.path)
			d.cache = c
			return d
		}
	}
	n["disks without a cache"]++
	return loopFSIn(t, dir, powerMiB, "-J", "size=16")
}

// memoryDir returns a directory for the test, in memory if there is a place for
// that.
func memoryDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "sdiff-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// cut cuts the power of a disk on which a process works: it returns the disk
// as the next start of the machine finds it. The process is gone then. Frozen
// is called while the process stands still.
func (d *disk) cut(t testing.TB, r *rand.Rand, n counts, p *process, frozen func()) *disk {
	t.Helper()
	p.freeze(t)
	frozen()
	next := d.taken(t, r, n)
	p.kill()
	return d.replace(t, next)
}

// taken returns the disk, not mounted yet, as it is if the power is cut now.
func (d *disk) taken(t testing.TB, r *rand.Rand, n counts) *disk {
	t.Helper()
	if d.cache == nil {
		return &disk{image: d.copy(t)}
	}
	blocks, lost := d.cache.cutPower(r)
	n["blocks lost in caches"] += lost
	c := newCacheDisk(t, filepath.Dir(d.image), powerMiB<<20, blocks)
	if c == nil {
		t.Fatal("there was FUSE and now there is not")
	}
	return &disk{image: c.path, cache: c}
}

// replace unmounts the disk and mounts the one that was taken of it.
func (d *disk) replace(t testing.TB, next *disk) *disk {
	t.Helper()
	d.unmount(t)
	if d.cache != nil {
		d.cache.unmount(t)
	} else if err := os.Remove(d.image); err != nil {
		t.Fatal(err)
	}
	m := mountImage(t, next.image)
	m.cache = next.cache
	return m
}

// copy copies the image as it is at one moment: if anything was written
// meanwhile, it begins again. It returns the path of the copy.
func (d *disk) copy(t testing.TB) string {
	t.Helper()
	f, err := os.CreateTemp(filepath.Dir(d.image), "image-")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for range 100 {
		before := d.writes(t)
		must(t, "cp", "--sparse=always", d.image, f.Name())
		if before != "" && before == d.writes(t) {
			return f.Name()
		}
	}
	t.Fatal("the disk is never at rest: no copy is of one moment")
	return ""
}

// writes returns how much has been written to the device so far, or nothing if
// a write is under way.
func (d *disk) writes(t testing.TB) string {
	b, err := os.ReadFile(filepath.Join("/sys/block", d.device, "stat"))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b))
	if len(f) < 11 || f[8] != "0" {
		return ""
	}
	return strings.Join(f[4:7], " ")
}

// A moment is when to cut.
type moment struct {
	suffix string        // once a file with it has come or gone; empty: any time
	after  time.Duration // and so much later
}

// pick picks a moment. Where a table in memory becomes a file the order of
// writes matters most.
func pick(r *rand.Rand) moment {
	kind := r.IntN(8)
	if *cuts < 10 {
		kind = 2 // filling a table takes seconds
	}
	switch kind {
	case 0:
		return moment{".sst", time.Duration(r.IntN(20)) * time.Millisecond}
	case 1:
		return moment{".mem", time.Duration(r.IntN(20)) * time.Millisecond}
	}
	return moment{"", time.Duration(20+r.IntN(1200)) * time.Millisecond}
}

// wait waits for the moment in the directory of a database, and for at most
// some seconds. It reports whether it came.
func (m moment) wait(dir string) bool {
	came := m.suffix == ""
	if !came {
		before := names(dir, m.suffix)
		for end := time.Now().Add(6 * time.Second); !came && time.Now().Before(end); {
			<-time.After(500 * time.Microsecond)
			came = names(dir, m.suffix) != before
		}
	}
	<-time.After(m.after)
	return came
}

// names returns the names of the files that end in a suffix.
func names(dir, suffix string) string {
	found, _ := filepath.Glob(filepath.Join(dir, "*"+suffix))
	return strings.Join(found, " ")
}

// size is how large the values of a load are: large ones fill tables, with
// small ones more commits are under way.
func (m moment) size(r *rand.Rand) int {
	if m.suffix != "" || r.IntN(10) == 0 {
		return 100 << 10
	}
	return 1 + r.IntN(2000)
}

// name says what the moment is.
func (m moment) name() string {
	if m.suffix == "" {
		return "any time"
	}
	return "a change of " + m.suffix
}

// data is the directory of the database on a disk: not its root, which has a
// directory of the file system's own.
func data(d *disk) string { return filepath.Join(d.dir, "d") }

// serve starts a master on a disk.
func serve(t testing.TB, d *disk, args ...string) *process {
	t.Helper()
	return mustStart(t, data(d), append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
}

// launch starts sdiff without waiting for it, lets it be for a while, and kills
// it at whatever it does then: it alone, its children have to end by themselves.
// With frozen all of them are stopped, and killed once frozen has returned.
func launch(t testing.TB, d time.Duration, frozen func(), args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-time.After(d)
	if frozen != nil {
		// It has not been waited for, so the number is its own.
		group := cmd.Process.Pid
		_ = syscall.Kill(-group, syscall.SIGSTOP)
		frozen()
		_ = syscall.Kill(-group, syscall.SIGKILL)
		defer eventually(t, func() string {
			if syscall.Kill(-group, 0) == nil {
				return "a child of a process that was killed lives on"
			}
			return ""
		})
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// syncSome writes to the disk what is to be written of some files, or of all:
// without it nothing of a life this short would be on the disk.
func syncSome(t testing.TB, r *rand.Rand, d *disk) {
	files, err := os.ReadDir(data(d))
	if err != nil {
		t.Fatal(err)
	}
	all := r.IntN(2) == 0
	for _, e := range files {
		if !e.Type().IsRegular() || !all && r.IntN(2) == 0 {
			continue
		}
		f, err := os.Open(filepath.Join(data(d), e.Name()))
		if err != nil {
			continue // it has gone
		}
		err = f.Sync()
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// offsetOf returns a replica's offset.
func offsetOf(t testing.TB, p *process) uint64 {
	t.Helper()
	s, err := p.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Offset
}

// epoch returns a replica's epoch.
func (p *process) epoch(t testing.TB) string {
	t.Helper()
	s, err := p.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Epoch
}

// ackedBy returns what a follower has acknowledged to its master.
func ackedBy(t testing.TB, m *process, id string) uint64 {
	t.Helper()
	s, err := m.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range s.Followers {
		if f.ID == id {
			return f.Acked
		}
	}
	t.Fatalf("the master does not know of %s", id)
	return 0
}

// caughtUp waits until a follower holds, verified, what its master held when
// this was called, or more: the master takes writes meanwhile.
func caughtUp(t testing.TB, m, f *process) {
	t.Helper()
	head := offsetOf(t, m)
	eventually(t, func() string {
		if f.ended() {
			t.Fatalf("the follower ended: %v\n%s", f.exit(), f.log)
		}
		s, err := f.Status(t.Context())
		if err != nil {
			return err.Error()
		}
		if !s.Complete || s.Offset < head || s.InSync == nil || !*s.InSync {
			return fmt.Sprintf("the follower is %s at %d of %d: %s", s.State, s.Offset, head, s.Why)
		}
		return ""
	})
}

// counts count what a run has done and met.
type counts map[string]int

// report logs them, and adds them to what total prints.
func report(t testing.TB, n counts) {
	t.Logf("%v", map[string]int(n))
	names := strings.SplitN(t.Name(), "/", 3)
	name := strings.Join(names[:min(2, len(names))], "/")
	totals.Lock()
	defer totals.Unlock()
	if totals.of == nil {
		totals.of = make(map[string]counts)
	}
	sum := totals.of[name]
	if sum == nil {
		sum = counts{}
		totals.of[name] = sum
	}
	for what, k := range n {
		sum[what] += k
	}
}

// totals are the counts of a run, by test and first subtest.
var totals struct {
	sync.Mutex
	of map[string]counts
}

// total prints what the subtests of a test have counted.
func total(t testing.TB) {
	totals.Lock()
	defer totals.Unlock()
	for _, name := range slices.Sorted(maps.Keys(totals.of)) {
		if strings.HasPrefix(name, t.Name()+"/") {
			fmt.Printf("%s: %v\n", name, map[string]int(totals.of[name]))
		}
	}
}

// count adds what a check has found.
func (l *ledger) count(n counts, f finding) {
	n["acknowledged commits looked for"] += f.acked
	n["acknowledged commits lost"] += f.lost
	n["commits there that nobody was told of"] += f.unacked
}
