package bench

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

var (
	rounds  = flag.Int("rounds", 3, "turns that each side of a comparison has")
	ops     = flag.Int("ops", 100_000, "ops and keys of the large benchmarks")
	seeds   = flag.Int("seeds", 10, "sets of differences of each size that BenchmarkDifferences makes")
	long    = flag.Bool("long", false, "also what takes minutes whatever its size")
	seconds = flag.Float64("seconds", 2, "length of one turn where it is not given by the ops")
)

// roleEnv tells a process of ours that it is not the test.
const roleEnv = "SDIFF_BENCH_ROLE"

func TestMain(m *testing.M) {
	flag.Parse()
	if role := os.Getenv(roleEnv); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}
