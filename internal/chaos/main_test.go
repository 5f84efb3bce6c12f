//go:build chaos

package chaos

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// program is the sdiff under test, built once.
var program string

var withRace = flag.Bool("race-program", false, "build the program under test with the race detector")

// skips counts what the machine could not do, by reason.
var skips struct {
	sync.Mutex
	why map[string]int
}

func TestMain(m *testing.M) {
	if plan := os.Getenv(crowdEnv); plan != "" {
		os.Exit(crowdMain(plan))
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sdiff-chaos-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "sdiff")
	args := []string{"build", "-o", program}
	if *withRace {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "../../cmd/sdiff")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build sdiff: %v\n%s", err, out)
		return 1
	}
	code := m.Run()
	skips.Lock()
	defer skips.Unlock()
	for why, n := range skips.why {
		fmt.Printf("*** SKIPPED: %d of the tests, %s ***\n", n, why)
	}
	return code
}

// skip skips a test that this machine cannot run, and counts it.
func skip(t testing.TB, why string) {
	t.Helper()
	skips.Lock()
	if skips.why == nil {
		skips.why = map[string]int{}
	}
	skips.why[why]++
	skips.Unlock()
	t.Skip(why)
}
