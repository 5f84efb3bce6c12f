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
		benchLatency(b, int(500**seconds))
	}
}

func benchLatency(b meter, n int) {
	const warm = 100
	us := startSdiff(b, false)
	them := startStraw(b, false)
	us.f.do(call{Do: "watch"})
	var p50s, p99s, theirP50s, theirP99s, told []float64
	for round := range *rounds {
		for i, p := range []*duo{us, them} {
			p.paced(call{N: warm, Rate: 500, Seed: uint64(round)})
			p.f.do(call{Do: "times"})
			p.paced(call{N: n, Rate: 500, Seed: uint64(round + 100)})
			a := p.f.do(call{Do: "times"})
			if len(a.Times) != n {
				b.Fatalf("%s: %d writes arrived, not %d", p.name, len(a.Times), n)
			}
			p50, p99 := micros(percentile(a.Times, 0.5)), micros(percentile(a.Times, 0.99))
			if i == 0 {
				p50s, p99s = append(p50s, p50), append(p99s, p99)
				told = append(told, micros(percentile(a.Times2, 0.5)))
			} else {
				theirP50s, theirP99s = append(theirP50s, p50), append(theirP99s, p99)
			}
		}
	}
	b.ReportMetric(median(p50s), "p50-us")
	b.ReportMetric(median(p99s), "p99-us")
	b.ReportMetric(median(told), "told-p50-us")
	b.ReportMetric(median(theirP50s), "straw-p50-us")
	b.ReportMetric(median(theirP99s), "straw-p99-us")
	reportRatios(b, p50s, theirP50s, "p50-ratio")
	reportRatios(b, p99s, theirP99s, "p99-ratio")
}
