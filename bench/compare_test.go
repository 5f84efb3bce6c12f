package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/transport"
)

// erlang is what the Erlang original took for the same comparison at 100,000
// keys: round trips and bytes, both ways, framed as on the wire.
var erlang = map[int]struct{ trips, bytes float64 }{
	0:      {1, 94},
	1:      {460, 50_600},
	100:    {16_825, 1_990_000},
	10_000: {79_489, 9_520_000},
}

// BenchmarkCompare compares 100,000 keys of 16 bytes over TCP, end to end: a
// follower asks, both take their trees at one offset, what differs is found
// and listed. "compare-B" are the messages of the comparison both ways,
// "all-B" all bytes of the connection from the question to the report: frames,
// acknowledgements and the list of the keys.
func BenchmarkCompare(b *testing.B) {
	c := newComparison(b, 100_000)
	for _, d := range []int{0, 1, 100, 10_000} {
		for _, kind := range []replica.Kind{replica.Changed, replica.Missing, replica.Extra} {
			name := fmt.Sprintf("d=%d/%s", d, kindName(kind))
			if d == 0 {
				name = "d=0"
			}
			b.Run(name, func(b *testing.B) {
				f := c.follower(b, kind, d)
				var rep replica.Report
				for b.Loop() {
					rep = c.compare(b, f, kind, d)
				}
				b.ReportMetric(float64(rep.RoundTrips), "round-trips")
				b.ReportMetric(float64(rep.CompareBytes), "compare-B")
				b.ReportMetric(float64(rep.BytesIn+rep.BytesOut), "all-B")
				if e, ok := erlang[d]; ok {
					b.ReportMetric(e.trips, "erlang-trips")
					b.ReportMetric(e.bytes, "erlang-B")
				}
			})
			if d == 0 {
				break
			}
		}
	}
}

func kindName(k replica.Kind) string {
	return map[replica.Kind]string{replica.Changed: "changed", replica.Missing: "missing", replica.Extra: "extra"}[k]
}

// A comparison is a master with n keys, for followers that differ from it.
type comparison struct {
	n    int
	dial func(context.Context) (net.Conn, error)
}

func newComparison(tb testing.TB, n int) *comparison {
	tb.Helper()
	l, err := transport.Listen("127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	st := store.NewMemory()
	for i := range n {
		st.Tamper(numberedKey(i), value(i))
	}
	m, err := replica.NewMaster(st, replica.MasterConfig{Listener: l, Adopt: true})
	if err != nil {
		tb.Fatal(err)
	}
	stop := background(m.Run)
	tb.Cleanup(func() {
		if err := stop(); err != nil {
			tb.Error(err)
		}
	})
	<-m.Ready()
	return &comparison{n: n, dial: transport.DialTCP(l.Addr().String())}
}

// follower starts a follower that differs in d items of a kind, spread evenly,
// and is told to mend nothing.
func (c *comparison) follower(tb testing.TB, kind replica.Kind, d int) *replica.Follower {
	tb.Helper()
	st := store.NewMemory()
	for i := range c.n {
		st.Tamper(numberedKey(i), value(i))
	}
	for i := range d {
		switch at := i * (c.n / d); kind {
		case replica.Changed:
			st.Tamper(numberedKey(at), value(at+1))
		case replica.Missing:
			st.Drop(numberedKey(at))
		case replica.Extra:
			st.Tamper(numberedKey(c.n+i), value(i))
		}
	}
	connected := make(chan struct{}, 1)
	f, err := replica.NewFollower(st, replica.FollowerConfig{
		ID: fmt.Sprintf("%s-%d-%s", tb.Name()[len("Benchmark"):], d, kindName(kind)), Dial: c.dial, Adopt: true,
		Heartbeat: time.Minute, Silence: 10 * time.Minute, // so that none falls into the count
		Repair: replica.RepairPolicy{Manual: true},
		Observer: replica.Observer{State: func(s replica.State, _ string) {
			if s == replica.Initializing {
				select {
				case connected <- struct{}{}:
				default:
				}
			}
		}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	stop := background(f.Run)
	tb.Cleanup(func() {
		if err := stop(); err != nil {
			tb.Error(err)
		}
	})
	<-connected
	return f
}

// compare makes one comparison, and checks that it found what there is.
func (c *comparison) compare(tb testing.TB, f *replica.Follower, kind replica.Kind, d int) replica.Report {
	tb.Helper()
	listed := 0
	rep, err := f.Repair(context.Background(), replica.RepairOptions{DryRun: true, Each: func(diff replica.Difference) {
		if diff.Kind == kind {
			listed++
		}
	}})
	if err != nil {
		tb.Fatal(err)
	}
	want := replica.Different
	if d == 0 {
		want = replica.Same
	}
	if rep.Outcome != want || listed != d || rep.Missing+rep.Extra+rep.Changed != uint64(d) {
		tb.Fatalf("%d of %d differences of one kind listed: %+v", listed, d, rep)
	}
	return rep
}

// numberedKey returns key number i: 16 bytes in no order.
func numberedKey(i int) []byte {
	k := binary.BigEndian.AppendUint64(nil, (uint64(i)+1)*0x9e3779b97f4a7c15)
	return binary.BigEndian.AppendUint64(k, uint64(i))
}

func value(i int) []byte { return fmt.Appendf(nil, "value %d", i) }
