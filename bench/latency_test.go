package bench

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/sdiff/sdiff/stream"
)

// stamp is what a value begins with that says when it was written: then come
// the nanoseconds since 1970, which all processes of a machine agree on.
const stamp = 0x7364696666212121

// pace makes c.N commits of one op, c.Rate a second, whose values say when
// they were made.
func pace(c call, write func(ops []stream.Op) error) error {
	w := newWorkload(c.Seed)
	began := time.Now()
	for i := range c.N {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(c.Rate))))
		list := w.next(1)
		binary.BigEndian.PutUint64(list[0].Value, stamp)
		binary.BigEndian.PutUint64(list[0].Value[8:], uint64(time.Now().UnixNano()))
		if err := write(list); err != nil {
			return err
		}
	}
	return nil
}

// appendAges appends the ages of stamped values.
func appendAges(ages []time.Duration, list []stream.Op, now time.Time) []time.Duration {
	for i := range list {
		v := list[i].Value
		if len(v) == valueSize && binary.BigEndian.Uint64(v) == stamp {
			ages = append(ages, time.Duration(now.UnixNano()-int64(binary.BigEndian.Uint64(v[8:]))))
		}
	}
	return ages
}

// BenchmarkLatency measures how long a single write takes until it can be read
// at the follower, at 500 a second, turn by turn with the straw man. "told" is
// when a Watch yields it.
func BenchmarkLatency(b *testing.B) {
	for b.Loop() {
		benchLatency(b, *rounds*latencyTurns, int(500**seconds/latencyTurns))
	}
}

// latencyTurns is how many turns a round has: what else the machine does
// comes and goes, and short turns let both sides have the same of it.
const latencyTurns = 10

// A lag is the figures of one side's latency: of each turn the median, in
// microseconds, and the ages of all writes.
type lag struct {
	p50, told []float64
	ages      []time.Duration
}

func (l *lag) p99() float64 { return micros(percentile(l.ages, 0.99)) }

// measure makes n writes and adds a turn.
func (l *lag) measure(b meter, d *duo, n int) {
	b.Helper()
	d.paced(call{N: 20, Rate: 500}) // warm up
	d.f.do(call{Do: "times"})
	d.paced(call{N: n, Rate: 500, Seed: uint64(len(l.p50))})
	a := d.f.do(call{Do: "times"})
	if len(a.Times) != n {
		b.Fatalf("%s: %d writes arrived, not %d", d.name, len(a.Times), n)
	}
	l.p50 = append(l.p50, micros(percentile(a.Times, 0.5)))
	l.told = append(l.told, micros(percentile(a.Times2, 0.5)))
	l.ages = append(l.ages, a.Times...)
}

func benchLatency(b meter, turns, n int) {
	us, straw := startSdiff(b, false, call{}), startStraw(b, call{})
	us.f.do(call{Do: "watch"})
	var ours, theirs lag
	for range turns {
		ours.measure(b, us, n)
		theirs.measure(b, straw, n)
	}
	b.ReportMetric(median(ours.p50), "p50-us")
	b.ReportMetric(ours.p99(), "p99-us")
	b.ReportMetric(median(ours.told), "told-p50-us")
	b.ReportMetric(median(theirs.p50), "straw-p50-us")
	b.ReportMetric(theirs.p99(), "straw-p99-us")
	reportRatios(b, ours.p50, theirs.p50, "p50-ratio")
	b.ReportMetric(ours.p99()/theirs.p99(), "p99-ratio")
}
