package bench

import "testing"

// BenchmarkLogGone measures how long a follower takes to get 60,000 new keys,
// which it missed in commits of 100, when the master no longer has the commits,
// so that they are found by comparison; turn by turn with one whose master has
// them. Both have -ops keys before. There is a third of the turns that -rounds
// says, as a master looks every ten seconds whether there is anything to trim.
func BenchmarkLogGone(b *testing.B) {
	for b.Loop() {
		benchLogGone(b, *ops, 60_000, max(1, *rounds/3))
	}
}

func benchLogGone(b meter, have, n, turns int) {
	kept, gone := startSdiff(b, false, call{}), startSdiff(b, false, call{NoLog: true})
	load := call{Do: "load", N: have, Commit: 1000, Seed: 1}
	pos := gone.write(load)
	kept.write(load)
	var without []float64
	var bytes, compared uint64
	with := new(outages)
	for turn := range turns {
		load := call{Do: "load", N: n, Commit: 100, Seed: uint64(turn + 2)}
		with.add(kept, load, call{})
		gone.f.do(call{Do: "cut"})
		gone.f.do(call{Do: "repairs"})
		last := gone.m.do(load)
		gone.m.do(call{Do: "trimmed", Pos: pos.Pos})
		took, sent := gone.rejoin(last)
		without, bytes = append(without, millis(took)), sent
		reps := gone.f.do(call{Do: "repairs"}).Repairs
		if len(reps) != 1 || reps[0].Missing != uint64(n) || reps[0].Extra+reps[0].Changed != 0 || reps[0].After != reps[0].Master {
			b.Fatalf("%d keys were missed: %+v", n, reps)
		}
		b.Logf("compared in %d bytes and %d round trips by %s: %s", reps[0].CompareBytes, reps[0].RoundTrips, reps[0].Method, reps[0].MethodWhy)
		compared = reps[0].CompareBytes
		pos = last
	}
	b.ReportMetric(median(without), "ms")
	b.ReportMetric(median(with.ms), "log-ms")
	b.ReportMetric(float64(bytes)/1e6, "MB")
	b.ReportMetric(float64(compared)/1e6, "compare-MB")
	b.ReportMetric(float64(with.bytes)/1e6, "log-MB")
	reportRatios(b, without, with.ms, "time-ratio")
}
