package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
	"github.com/sdiff/sdiff/transport"
)

// A sdiffCrowd is many followers with stores in memory in one process.
type sdiffCrowd struct {
	followers []*replica.Follower
	stops     []func() error
	repairs   atomic.Int64
}

func (s *sdiffCrowd) do(c call) (a answer, err error) {
	switch c.Do {
	case "open":
		for i := range c.N {
			if err := s.add(i, c.Addr); err != nil {
				return a, err
			}
		}
	case "wait": // until all hold everything up to Pos
		err = s.wait(c.Pos)
		a.Offset = uint64(s.repairs.Load())
	}
	return a, err
}

func (s *sdiffCrowd) add(i int, addr string) error {
	f, err := replica.NewFollower(store.NewMemory(), replica.FollowerConfig{
		ID: fmt.Sprintf("bench-%d", i), Dial: transport.DialTCP(addr),
		Observer: replica.Observer{Repair: func(replica.Report) { s.repairs.Add(1) }},
	})
	if err != nil {
		return err
	}
	s.followers, s.stops = append(s.followers, f), append(s.stops, background(f.Run))
	return nil
}

func (s *sdiffCrowd) wait(text string) error {
	pos, err := stream.ParsePosition(text)
	if err != nil {
		return err
	}
	for _, f := range s.followers {
		if err := f.WaitFor(context.Background(), pos); err != nil {
			return err
		}
		if st := f.Status(); st.Fingerprint != st.Master || st.Offset != pos.Offset {
			return fmt.Errorf("follower %s holds %s at %d, its master %s", st.ID, st.Fingerprint, st.Offset, st.Master)
		}
	}
	return nil
}

func (s *sdiffCrowd) close() error {
	var errs []error
	for _, stop := range s.stops {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

// BenchmarkCrowd measures the processor time of a master for each op, in commits
// of 1000, until all of a hundred followers in another process have it, as a
// multiple of that with one follower. It has a tenth of -ops ops.
func BenchmarkCrowd(b *testing.B) {
	for b.Loop() {
		benchCrowd(b, 100, *ops/10)
	}
}

func benchCrowd(b meter, followers, n int) {
	one, many := startCrowd(b, 1), startCrowd(b, followers)
	var ones, manys, rates []float64
	for round := range *rounds {
		load := call{Do: "churn", N: n, Commit: 1000, Seed: uint64(round + 1)}
		used, _ := one.masterCPU(b, load, 1)
		ones = append(ones, micros(used)/float64(n))
		used, took := many.masterCPU(b, load, followers)
		manys = append(manys, micros(used)/float64(n))
		rates = append(rates, float64(n)/took.Seconds())
	}
	b.ReportMetric(median(ones), "one-us/op")
	b.ReportMetric(median(manys), "us/op")
	b.ReportMetric(median(rates), "writes/s")
	reportRatios(b, manys, ones, "ratio")
}

// startCrowd starts a master and a process with so many followers.
func startCrowd(b meter, followers int) *duo {
	b.Helper()
	d := &duo{name: "crowd", m: start(b, "sdiff master"), f: start(b, "sdiff crowd")}
	d.addr = d.m.do(call{Do: "open", Dir: b.TempDir()}).Addr
	d.f.do(call{Do: "open", N: followers, Addr: d.addr})
	d.write(call{Do: "churn", N: 1000, Commit: 1000}) // so that they are connected
	return d
}

// masterCPU has the master write, and returns what processor time that takes
// it until all of the followers have it, which none may get by a repair but its
// first copy, and how long it takes.
func (d *duo) masterCPU(b meter, c call, followers int) (used, took time.Duration) {
	b.Helper()
	before, began := cpu(d.m), time.Now()
	last := d.m.do(c)
	a := d.f.do(call{Do: "wait", Pos: last.Pos})
	used, took = cpu(d.m)-before, time.Since(began)
	if a.Offset != uint64(followers) {
		b.Fatalf("%d followers made %d repairs", followers, a.Offset)
	}
	return used, took
}
