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

// A link is a comparison over a connection on which every message takes one
// unit of time, however long it is. So the time it takes is in half round
// trips, the waits for a full window included.
type link struct {
	a, b           *diff.Session
	toA, toB       [][]byte
	halves         int
	foundA, foundB int
}

func (l *link) run() error {
	out, err := l.a.Start()
	if err != nil {
		return err
	}
	l.toB = encode(out)
	for len(l.toA)+len(l.toB) > 0 {
		l.halves++
		toA, toB := l.toA, l.toB
		if l.toB, err = take(l.a, toA, &l.foundA); err != nil {
			return err
		}
		if l.toA, err = take(l.b, toB, &l.foundB); err != nil {
			return err
		}
	}
	return nil
}

// take gives a session all that has arrived and returns what it answers.
func take(s *diff.Session, in [][]byte, found *int) (out [][]byte, err error) {
	for _, b := range in {
		m, err := diff.Parse(b)
		if err != nil {
			return nil, err
		}
		answer, err := s.Step(m)
		if err != nil {
			return nil, err
		}
		out = append(out, encode(answer)...)
		for f := s.Findings(); len(f) > 0; f = s.Findings() {
			*found += len(f)
		}
	}
	return out, nil
}

func encode(msgs []diff.Message) [][]byte {
	var out [][]byte
	for _, m := range msgs {
		out = append(out, m.Append(nil))
	}
	return out
}

// BenchmarkDiff compares n items of which d have another value on the other
// side, at random places or all side by side. The time is that of both sides,
// encoding and decoding included; the bytes are those of both directions.
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
	b.ReportAllocs()
	var l link
	for b.Loop() {
		l = link{a: diff.New(left, diff.Config{}), b: diff.New(right, diff.Config{})}
		if err := l.run(); err != nil {
			b.Fatal(err)
		}
	}
	if !l.a.Done() || !l.b.Done() || l.foundA != d || l.foundB != d {
		b.Fatalf("found %d and %d items, want %d each", l.foundA, l.foundB, d)
	}
	report(b, l, d)
}

func report(b *testing.B, l link, d int) {
	st := l.a.Stats()
	bytes := float64(st.BytesIn + st.BytesOut)
	b.ReportMetric(bytes, "wire-B")
	if d > 0 {
		b.ReportMetric(bytes/float64(d), "B/diff")
	}
	b.ReportMetric(float64(l.halves)/2, "round-trips")
	b.ReportMetric(float64(max(st.Levels, l.b.Stats().Levels)), "levels")
	b.ReportMetric(float64(st.MessagesIn+st.MessagesOut), "messages")
}

// BenchmarkOneSideEmpty compares a million items with none.
func BenchmarkOneSideEmpty(b *testing.B) {
	var tree merkle.Builder
	for i := range uint64(1_000_000) {
		if err := tree.Add(binary.BigEndian.AppendUint64(nil, i), i); err != nil {
			b.Fatal(err)
		}
	}
	full := tree.Tree().Snapshot()
	for _, c := range []struct {
		name        string
		left, right *merkle.Snapshot
	}{{"initiator", nil, full}, {"responder", full, nil}} {
		b.Run(c.name, func(b *testing.B) {
			var l link
			for b.Loop() {
				l = link{a: diff.New(c.left, diff.Config{}), b: diff.New(c.right, diff.Config{})}
				if err := l.run(); err != nil {
					b.Fatal(err)
				}
			}
			report(b, l, 0)
		})
	}
}
