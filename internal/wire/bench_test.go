package wire

import "testing"

// benchElements is how many values one round of a benchmark has.
const benchElements = 2000

// writeItems writes what the stream is made of: byte strings of 16 and 100
// bytes in turn.
func writeItems(w *Writer) {
	var value [100]byte
	w.Array(benchElements)
	for range benchElements / 2 {
		w.Bytes(value[:16])
		w.Bytes(value[:])
	}
}

func writeUints(w *Writer) {
	w.Array(benchElements)
	for i := range uint64(benchElements) {
		w.Uint(i * i * i * i)
	}
}

func BenchmarkWriter(b *testing.B) {
	for _, bb := range []struct {
		name  string
		write func(*Writer)
	}{{"bytes", writeItems}, {"uints", writeUints}} {
		b.Run(bb.name, func(b *testing.B) {
			w := NewWriter(nil)
			b.ReportAllocs()
			for b.Loop() {
				w.Reset(w.Out()[:0])
				bb.write(w)
			}
			perElement(b)
		})
	}
}

// BenchmarkReader includes the check in what it calls reading.
func BenchmarkReader(b *testing.B) {
	w := NewWriter(nil)
	writeItems(w)
	items := w.Out()
	w = NewWriter(nil)
	writeUints(w)
	uints := w.Out()

	for _, in := range [][]byte{items, uints} {
		name := "bytes/check"
		if len(in) == len(uints) {
			name = "uints/check"
		}
		b.Run(name, func(b *testing.B) {
			var r Reader
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(in, Limits{})
			}
			perElement(b)
		})
	}
	b.Run("bytes/read", func(b *testing.B) {
		var r Reader
		b.ReportAllocs()
		for b.Loop() {
			r.Reset(items, Limits{})
			for range r.Array() {
				r.Bytes()
			}
		}
		perElement(b)
	})
	b.Run("bytes/read by the library", func(b *testing.B) {
		var r Reader
		b.ReportAllocs()
		for b.Loop() {
			r.Reset(items, Limits{})
			for range r.Array() {
				r.bytesLib(len(items))
			}
		}
		perElement(b)
	})
	b.Run("uints/read", func(b *testing.B) {
		var r Reader
		b.ReportAllocs()
		for b.Loop() {
			r.Reset(uints, Limits{})
			for range r.Array() {
				r.Uint()
			}
		}
		perElement(b)
	})
}

func perElement(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchElements, "ns/element")
}
