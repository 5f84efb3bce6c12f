package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/sdiff/sdiff/replica"
)

// A call tells a process of ours what to do. Which fields count depends on Do.
type call struct {
	Do     string
	Dir    string
	Addr   string
	Tuned  bool // Badger with the options of badgerstore
	Sync   bool // what is written is on disk when the write returns
	Memory bool // a store in memory instead of Badger
	NoLog  bool // a master that keeps no more commits than it must
	Faulty bool // a follower whose ops can be damaged on their way in
	Refuse bool // while cut off, attempts to connect fail instead of waiting
	Seed   uint64
	Skip   int // ops of the workload that come before
	N      int
	Commit int // ops of a commit
	Rate   int // commits a second
	Offset uint64
	Pos    string
}

// An answer is what came of a call.
type answer struct {
	Err    string          `json:",omitempty"`
	Addr   string          `json:",omitempty"`
	Offset uint64          `json:",omitempty"`
	Pos    string          `json:",omitempty"`
	Bytes  uint64          `json:",omitempty"`
	Heap   int64           `json:",omitempty"` // in use after a collection
	CPU    time.Duration   // of the process so far
	Times  []time.Duration `json:",omitempty"`
	Times2 []time.Duration `json:",omitempty"`

	Repairs []replica.Report `json:",omitempty"`
}

// A player is a process of ours, from the inside.
type player interface {
	do(c call) (answer, error)
	close() error
}

// play is the main function of a process of ours: it answers calls until
// standard input ends.
func play(role string) (err error) {
	p, ok := map[string]func() player{
		"sdiff master":    func() player { return new(sdiffMaster) },
		"sdiff follower":  func() player { return new(sdiffFollower) },
		"sdiff crowd":     func() player { return new(sdiffCrowd) },
		"straw master":    func() player { return new(strawMaster) },
		"straw follower":  func() player { return new(strawFollower) },
		"backup source":   func() player { return new(backupSource) },
		"backup receiver": func() player { return new(backupReceiver) },
	}[role]
	if !ok {
		return errors.New("no such role")
	}
	stop, err := profile(role)
	if err != nil {
		return err
	}
	player := p()
	defer func() { err = errors.Join(err, player.close(), stop()) }()
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var c call
		if err := in.Decode(&c); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		a, err := player.do(c)
		if err != nil {
			a.Err = fmt.Sprintf("%s: %v", c.Do, err)
		}
		if c.Do == "heap" {
			a.Heap = inUse()
		}
		a.CPU = cpuTime()
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

// profileEnv names a directory to which each process of ours writes where it
// spent its time, for go tool pprof.
const profileEnv = "SDIFF_BENCH_PROFILE"

func profile(role string) (stop func() error, err error) {
	dir := os.Getenv(profileEnv)
	if dir == "" {
		return func() error { return nil }, nil
	}
	f, err := os.CreateTemp(dir, strings.ReplaceAll(role, " ", "-")+"-*.pprof")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() error { pprof.StopCPUProfile(); return f.Close() }, nil
}

// A child is a process of ours, from the outside.
type child struct {
	tb   testing.TB
	role string
	cmd  *exec.Cmd
	in   io.WriteCloser
	enc  *json.Encoder
	dec  *json.Decoder
}

// start starts the test binary in a role. It ends with the test, or with stop.
func start(tb testing.TB, role string) *child {
	tb.Helper()
	tb.TempDir() // what is registered first is removed last: after the process has ended
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	c := &child{tb: tb, role: role, cmd: exec.Command(exe)}
	c.cmd.Env = append(os.Environ(), roleEnv+"="+role)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	c.enc, c.dec = json.NewEncoder(c.in), json.NewDecoder(out)
	tb.Cleanup(c.stop)
	return c
}

// stop ends the process and waits for it. It may be called again.
func (c *child) stop() {
	if c.in == nil {
		return
	}
	c.in.Close()
	c.in = nil
	if err := c.cmd.Wait(); err != nil {
		c.tb.Errorf("%s: %v", c.role, err)
	}
}

// do makes a call and waits for the answer.
func (c *child) do(what call) answer {
	c.tb.Helper()
	var a answer
	err := c.enc.Encode(what)
	if err == nil {
		err = c.dec.Decode(&a)
	}
	if err == nil && a.Err != "" {
		err = errors.New(a.Err)
	}
	if err != nil {
		c.tb.Fatalf("%s: %v", c.role, err)
	}
	return a
}

// cpu returns the processor time of some processes so far.
func cpu(children ...*child) (sum time.Duration) {
	for _, c := range children {
		sum += c.do(call{Do: "cpu"}).CPU
	}
	return sum
}
