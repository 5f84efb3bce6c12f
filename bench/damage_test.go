package bench

import (
	"testing"
	"time"

	"github.com/sdiff/sdiff/replica"
)

// damages is how many ops or items are damaged.
const damages = 100

// BenchmarkDamage measures how long it takes until a follower of -ops keys
// notices that ops were dropped or garbled on their way into its store, and from
// then until it has mended that. The ops are a commit of a hundred; an equal
// number of them put a new key, change a value and delete a key.
func BenchmarkDamage(b *testing.B) {
	for b.Loop() {
		benchDamage(b, *ops)
	}
}

func benchDamage(b meter, n int) {
	d := startSdiff(b, false, call{Faulty: true})
	d.write(call{Do: "load", N: n, Commit: 1000, Seed: 1})
	var noticed, mended, sent, compared, trips []float64
	for round := range *rounds {
		d.f.do(call{Do: "harm", N: damages})
		d.write(call{Do: "mix", N: damages, Seed: 1, Skip: round * damages})
		a := d.f.do(call{Do: "mended"})
		if len(a.Repairs) != 1 {
			b.Fatalf("it took %d repairs", len(a.Repairs))
		}
		rep := a.Repairs[0]
		checkMended(b, a.Repairs)
		noticed, mended = append(noticed, millis(a.Times[0])), append(mended, millis(a.Times[1]))
		sent, compared = append(sent, float64(rep.BytesIn+rep.BytesOut)), append(compared, float64(rep.CompareBytes))
		trips = append(trips, float64(rep.RoundTrips))
	}
	b.ReportMetric(median(noticed), "noticed-ms")
	b.ReportMetric(median(mended), "mended-ms")
	b.ReportMetric(median(sent), "all-B")
	b.ReportMetric(median(compared), "compare-B")
	b.ReportMetric(median(trips), "round-trips")
}

// checkMended checks that repairs mended what was damaged, and nothing else.
func checkMended(b meter, reps []replica.Report) {
	b.Helper()
	var put, deleted uint64
	for _, rep := range reps {
		put, deleted = put+rep.Put, deleted+rep.Deleted
	}
	last := reps[len(reps)-1]
	if put+deleted != damages || last.After != last.Master || last.Unsendable > 0 {
		b.Fatalf("%d were damaged: %+v", damages, reps)
	}
}

// BenchmarkTamper measures how long it takes until the scrub of a follower of
// -ops keys, at its default share of a core, notices that a hundred values in
// its store are not what they were, and until all are mended. The scrub finds them
// part by part, and each time a repair follows. A pass begins a minute after the last
// one, so it takes minutes and is done with -long only.
func BenchmarkTamper(b *testing.B) {
	if !*long {
		b.Skip("takes minutes: -args -long")
	}
	for b.Loop() {
		benchTamper(b, *ops, func(*child) {})
	}
}

// benchTamper calls look once the damage is done.
func benchTamper(b meter, n int, look func(follower *child)) {
	d := startSdiff(b, false, call{})
	d.write(call{Do: "load", N: n, Commit: 1000, Seed: 1})
	d.f.do(call{Do: "tamper", N: damages, Seed: 1})
	began, before := time.Now(), cpu(d.f)
	d.write(call{Do: "load", N: 1, Commit: 1, Seed: 2})
	look(d.f)
	a := d.f.do(call{Do: "mended"})
	used, took := a.CPU-before, time.Since(began)
	checkMended(b, a.Repairs)
	b.ReportMetric(a.Times[0].Seconds(), "noticed-s")
	b.ReportMetric((a.Times[0] + a.Times[1]).Seconds(), "mended-s")
	b.ReportMetric(used.Seconds()/took.Seconds(), "cores")
	b.ReportMetric(float64(len(a.Repairs)), "repairs")
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
