package diff_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
)

// key16 returns the i-th of n pseudo-random keys of 16 bytes.
func key16(i uint64) []byte {
	z := (i + 1) * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, z), i)
}

// A trip is a comparison over a link on which every message takes one unit of
// time and none a unit of bandwidth: its length is in half round trips.
func trip(a, b *side) (halves int, err error) {
	out, err := a.Start()
	if err != nil {
		return 0, err
	}
	b.receive(out)
	for len(a.inbox)+len(b.inbox) > 0 {
		halves++
		// What arrives now was sent before; what is answered arrives next.
		fromA, fromB := len(b.inbox), len(a.inbox)
		for range fromA {
			if err := b.step(a); err != nil {
				return 0, err
			}
		}
		for range fromB {
			if err := a.step(b); err != nil {
				return 0, err
			}
		}
	}
	return halves, nil
}

func BenchmarkDiff(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		var base merkle.Tree
		for i := range n {
			base.Put(key16(uint64(i)), uint64(i)*0x9e3779b97f4a7c15+1)
		}
		left := base.Snapshot()
		for _, d := range []int{0, 1, 100, 10_000} {
			for _, how := range []string{"spread", "clustered"} {
				right := change(left, n, d, how == "clustered")
				b.Run(fmt.Sprintf("n=%d/d=%d/%s", n, d, how), func(b *testing.B) { benchDiff(b, left, right, d) })
			}
		}
	}
}

// change returns the items of a snapshot with d values changed.
func change(s *merkle.Snapshot, n, d int, clustered bool) *merkle.Snapshot {
	tree := s.Tree()
	rng := rand.New(rand.NewPCG(1, uint64(d)))
	first := rng.IntN(n - d)
	for i, at := range rng.Perm(n)[:d] {
		if clustered {
			at = first + i
		}
		key, hash, _ := s.At(uint64(at))
		tree.Put(key, hash+uint64(i)*0x94d049bb133111eb+1)
	}
	return tree.Snapshot()
}

func benchDiff(b *testing.B, left, right *merkle.Snapshot, d int) {
	var x, y *side
	var halves int
	var err error
	for b.Loop() {
		x, y = newSide(left, diff.Config{}), newSide(right, diff.Config{})
		if halves, err = trip(x, y); err != nil {
			b.Fatal(err)
		}
		if len(x.found) != d || len(y.found) != d {
			b.Fatalf("found %d and %d items, want %d each", len(x.found), len(y.found), d)
		}
	}
	st := x.Stats()
	bytes := float64(st.BytesIn + st.BytesOut)
	b.ReportMetric(bytes, "wire-B")
	if d > 0 {
		b.ReportMetric(bytes/float64(d), "B/diff")
	}
	b.ReportMetric(float64(halves)/2, "round-trips")
	b.ReportMetric(float64(max(st.Levels, y.Stats().Levels)), "levels")
	b.ReportMetric(float64(st.MessagesIn+st.MessagesOut), "messages")
}
