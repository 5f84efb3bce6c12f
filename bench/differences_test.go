package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
	"github.com/sdiff/sdiff/transport"
)

// BenchmarkDifferences compares -ops keys over TCP with a follower that
// differs in d keys: a third is missing, a third is extra, a third has another
// value; at random places or, "clustered", all side by side. Bytes, round trips
// and processor time are means over -seeds such sets, "round-trips-max" is the
// most; the follower's request counts as the first. "compare-B" are the messages
// of the comparison, both ways; "all-B" all bytes of the connection meanwhile, the
// list of the keys included. The processor time is that of both ends, with taking snapshots and sketches,
// finding the keys, listing them, and the connection. "minimum" is the multiple of the
// fewest bytes in which the hashes that one side lacks, of 64 bits, can be told.
//
// BenchmarkSketch in package diff measures the same without a connection.
func BenchmarkDifferences(b *testing.B) {
	p := newDrifting(b, *ops)
	for d := 0; d <= *ops/10; d = max(1, 10*d) {
		b.Run(fmt.Sprintf("d=%d", d), func(b *testing.B) {
			for b.Loop() {
				p.bench(b, d, false)
			}
		})
	}
	b.Run(fmt.Sprintf("d=%d/clustered", *ops/10), func(b *testing.B) {
		for b.Loop() {
			p.bench(b, *ops/10, true)
		}
	})
}

// A drifting is a master and a follower that begin with the same n items and
// of which the follower loses every op on its way in. So the master alone makes
// differences, and takes them back, and neither has to be built anew.
type drifting struct {
	n    int
	keys [][]byte // in order
	m    *replica.Master
	f    *replica.Follower
}

func newDrifting(b meter, n int) *drifting {
	b.Helper()
	p := &drifting{n: n}
	var stores [2]*store.Memory
	for i := range stores {
		stores[i] = store.NewMemory()
	}
	for i := range n {
		key := numberedKey(i)
		p.keys = append(p.keys, key)
		for _, st := range stores {
			st.Tamper(key, value(i))
		}
	}
	slices.SortFunc(p.keys, bytes.Compare)
	l, err := transport.Listen("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	// There is no scrub and hardly a heartbeat, so that none falls into the count.
	p.m, err = replica.NewMaster(stores[0], replica.MasterConfig{
		Listener: l, Adopt: true, Scrub: -1, Heartbeat: time.Minute, Silence: time.Hour, LogBytes: -1,
	})
	if err != nil {
		b.Fatal(err)
	}
	p.f, err = replica.NewFollower(stores[1], replica.FollowerConfig{
		ID: "drifting", Dial: transport.DialTCP(l.Addr().String()), Adopt: true,
		Scrub: -1, Heartbeat: time.Minute, Silence: time.Hour,
		Repair: replica.RepairPolicy{NoDrift: true},
		Fault:  func([]stream.Op) []stream.Op { return nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	for _, run := range []func(context.Context) error{p.m.Run, p.f.Run} {
		stop := background(run)
		b.Cleanup(func() {
			if err := stop(); err != nil {
				b.Error(err)
			}
		})
	}
	// Or it would connect to a master that has made differences, and mend them.
	if err := p.f.WaitFor(context.Background(), stream.Position{}); err != nil {
		b.Fatal(err)
	}
	return p
}

// A change is what the master does to make a difference, and what takes it back.
type change struct {
	do, undo stream.Op
	kind     replica.Kind
}

// changes returns d of them.
func (p *drifting) changes(d int, clustered bool, seed uint64) []change {
	r := rand.New(rand.NewPCG(seed, uint64(d)))
	first := r.IntN(p.n - d + 1)
	taken := make(map[int]bool, d)
	list := make([]change, 0, d)
	for i := range d {
		at := first + i
		for !clustered && (at == first+i || taken[at]) {
			at = r.IntN(p.n)
		}
		taken[at] = true
		key := p.keys[at]
		was := stream.Op{Key: key, Value: value(int(binary.BigEndian.Uint64(key[8:])))}
		switch i % 3 {
		case 0:
			key = append(bytes.Clone(key), 'x')
			list = append(list, change{stream.Op{Key: key, Value: value(i)}, stream.Op{Key: key, Delete: true}, replica.Missing})
		case 1:
			list = append(list, change{stream.Op{Key: key, Delete: true}, was, replica.Extra})
		case 2:
			list = append(list, change{stream.Op{Key: key, Value: append(bytes.Clone(was.Value), 'x')}, was, replica.Changed})
		}
	}
	return list
}

// write has the master write ops, and waits until the follower has lost them.
func (p *drifting) write(b meter, ops []stream.Op) {
	b.Helper()
	var pos stream.Position
	for part := range slices.Chunk(ops, 10_000) {
		var err error
		if pos, err = p.m.Write(context.Background(), part); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.f.WaitFor(context.Background(), pos); err != nil {
		b.Fatal(err)
	}
}

// A cost is the sums of what comparisons cost.
type cost struct {
	compared, all, trips, most, cpu, sketched float64
}

func (p *drifting) bench(b meter, d int, clustered bool) {
	var sum cost
	for seed := range *seeds {
		var ops, undo []stream.Op
		kinds := map[replica.Kind]int{}
		for _, c := range p.changes(d, clustered, uint64(seed)) {
			ops, undo = append(ops, c.do), append(undo, c.undo)
			kinds[c.kind]++
		}
		p.write(b, ops)
		if d >= 1000 || seed == 0 {
			runtime.GC()
		}
		sum.compare(b, p.f, d, kinds)
		p.write(b, undo)
	}
	n := float64(*seeds)
	b.ReportMetric(sum.compared/n, "compare-B")
	b.ReportMetric(sum.all/n, "all-B")
	b.ReportMetric(sum.trips/n, "round-trips")
	b.ReportMetric(sum.most, "round-trips-max")
	b.ReportMetric(sum.cpu/n, "cpu-ms")
	b.ReportMetric(sum.sketched/n, "by-sketch")
	if d > 0 {
		b.ReportMetric(sum.compared/n/float64(d), "compare-B/key")
		b.ReportMetric(sum.compared/n/leastBytes(d), "minimum")
	}
}

// compare makes one comparison, checks that it found what there is, and adds
// what it cost.
func (c *cost) compare(b meter, f *replica.Follower, d int, kinds map[replica.Kind]int) {
	b.Helper()
	listed := map[replica.Kind]int{}
	time.Sleep(time.Duration(*ops) * 100 * time.Nanosecond) // a master takes only so many sketches in a second
	before := cpuTime()
	rep, err := f.Repair(context.Background(), replica.RepairOptions{DryRun: true, Each: func(diff replica.Difference) {
		listed[diff.Kind]++
	}})
	c.cpu += millis(cpuTime() - before)
	if err != nil {
		b.Fatal(err)
	}
	want := replica.Different
	if d == 0 {
		want = replica.Same
	}
	ok := rep.Outcome == want && rep.Missing+rep.Extra+rep.Changed == uint64(d)
	for _, k := range []replica.Kind{replica.Missing, replica.Extra, replica.Changed} {
		ok = ok && listed[k] == kinds[k]
	}
	if !ok {
		b.Fatalf("%v of %v differences listed: %+v", listed, kinds, rep)
	}
	c.compared += float64(rep.CompareBytes)
	c.all += float64(rep.BytesIn + rep.BytesOut)
	c.trips += float64(rep.RoundTrips)
	c.most = max(c.most, float64(rep.RoundTrips))
	if rep.Method == diff.MethodSketch {
		c.sketched++
	}
}

// leastBytes returns how many bytes at least tell which hashes of 64 bits only
// one side has, where d keys differ: an item whose value differs is two hashes.
func leastBytes(d int) float64 {
	s := float64(d + d/3)
	ln, _ := math.Lgamma(s + 1)
	return max(1, (64*s-ln/math.Ln2)/8)
}
