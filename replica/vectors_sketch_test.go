package replica

import (
	"bytes"
	"fmt"
	"math/big"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/merkle"
)

// sketches are examples of what package diff says about sketches.
func sketches() []example {
	message := func(name string, notes []note, values ...any) example {
		w := wire.NewWriter(nil)
		w.Array(len(values))
		for _, v := range values {
			switch v := v.(type) {
			case int:
				w.Uint(uint64(v))
			case uint64:
				w.Uint(v)
			case bool:
				w.Bool(v)
			case []byte:
				w.Bytes(v)
			}
		}
		if m, err := diff.Parse(w.Out()); err != nil || !bytes.Equal(m.Append(nil), w.Out()) {
			panic(fmt.Sprintf("%s: %v, %v", name, m, err))
		}
		e := example{name: "compare: " + name, typ: frameCompare, way: "both ways", body: compare{1, w.Out()}.append()}
		e.notes = say("array of 2", "comparison 1", "message")
		e.notes[2].in = notes
		return e
	}
	// A sketch of one item is what two differ in.
	sketch := func(items ...string) *merkle.Sketch {
		var t merkle.Tree
		t.KeepSketch()
		for i := 0; i < len(items); i += 2 {
			t.Put([]byte(items[i]), hashOf(items[i], items[i+1]))
		}
		return t.Sketch()
	}
	sum := summaryOf("key1", "one", "key2", "two")
	counters := sketch("key1", "one", "key2", "two").Counters()
	cell := sketch("key2", "2").AppendCells(nil, 1, 0, 0, 1)[0].Append(nil)
	return []example{
		message("opening", say("array of 7", "an opening", "number 1", "count", "sum", "64 cells in a part", "counters", "no probe"),
			3, 1, sum.Count, sum.Sum, 64, counters[:], []byte{}),
		message("cells", say("array of 11", "cells", "number 2", "more follows: false", "count", "sum", "of the sketch that is kept", "one group", "group 0", "from cell 0", "to cell 1", "cell 0"),
			4, 2, false, sum.Count, sum.Sum, 0, 1, 0, 0, 1, cell),
		message("request for cells", say("array of 4", "a request for cells", "number 3", "up to cell 9", "of group 0"), 5, 3, 9, 1),
		message("hashes", say("array of 7", "hashes", "number 3", "more follows: false", "one", "all 64 bits of it", "62 lower bits", "a zero bit, and the hash"),
			6, 3, false, 1, 64, 62, rice62(hashOf("key2", "2"))),
		message("agreed", say("array of 2", "agreed", "level 4"), 7, 4),
	}
}

// rice62 is the code of one hash with 62 lower bits.
func rice62(h uint64) []byte {
	b := make([]byte, 9)
	n := int(h >> 62) // so many ones, a zero, 62 bits
	bits := new(big.Int).SetUint64(1<<n - 1)
	bits.Lsh(bits, 63)
	bits.Or(bits, new(big.Int).SetUint64(h&(1<<62-1)))
	length := n + 63
	bits.Lsh(bits, uint(-length&7))
	return bits.FillBytes(b[:(length+7)/8])
}
