package stream_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/stream"
)

// golden is a commit and its encoding, as it stands on disks and travels to
// other versions. It never changes.
var golden = stream.Commit{
	Offset:      17,
	Time:        1_700_000_000_000,
	Fingerprint: merkle.Summary{Count: 300, Sum: 0x0123456789abcdef},
	Ops: []stream.Op{
		{Key: []byte("key1"), Value: []byte("value")},
		{Key: []byte("gone"), Delete: true},
		{Key: []byte("empty"), Value: []byte{}},
	},
}

const goldenHex = "95" + // a commit
	"11" + // offset 17
	"cf0000018bcfe56800" + // time
	"cd012c" + // count 300
	"cf0123456789abcdef" + // sum
	"96" + // three ops
	"c4046b657931" + "c40576616c7565" + // key1 = value
	"c404676f6e65" + "c0" + // gone is deleted
	"c405656d707479" + "c400" // empty is put, with an empty value

func encode(cs ...stream.Commit) []byte {
	w := wire.NewWriter(nil)
	for i := range cs {
		stream.AppendCommit(w, &cs[i])
	}
	return w.Out()
}

func TestGolden(t *testing.T) {
	if got := hex.EncodeToString(encode(golden)); got != goldenHex {
		t.Fatalf("the golden commit encodes as\n%s, want\n%s", got, goldenHex)
	}
	body, _ := hex.DecodeString(goldenHex)
	d := stream.NewDecoder(body)
	var c stream.Commit
	if !d.Next(&c) || d.Offset() != len(body) {
		t.Fatalf("the golden commit does not decode: %v", d.Err())
	}
	if got := hex.EncodeToString(encode(c)); got != goldenHex {
		t.Errorf("the golden commit encodes again as\n%s, want\n%s", got, goldenHex)
	}
	if c.Offset != 17 || c.Time != golden.Time || c.Fingerprint != golden.Fingerprint || len(c.Ops) != 3 {
		t.Errorf("decoded %+v, want %+v", c, golden)
	}
	if !c.Ops[1].Delete || c.Ops[2].Delete || c.Ops[2].Value == nil {
		t.Errorf("decoded ops %+v, want a delete and then a put of nothing", c.Ops)
	}
	if d.Next(&c) || d.Err() != nil || c.Offset != 0 {
		t.Errorf("after the only commit: %+v, %v", c, d.Err())
	}
}

// equal reports whether two commits are the same, an op's value apart from
// whether nothing is nil or empty.
func equal(a, b *stream.Commit) bool {
	if a.Offset != b.Offset || a.Time != b.Time || a.Fingerprint != b.Fingerprint {
		return false
	}
	return slices.EqualFunc(a.Ops, b.Ops, func(x, y stream.Op) bool {
		return bytes.Equal(x.Key, y.Key) && bytes.Equal(x.Value, y.Value) && x.Delete == y.Delete
	})
}

// commits returns n small commits from an offset on.
func commits(first uint64, n int) []stream.Commit {
	cs := make([]stream.Commit, n)
	for i := range cs {
		cs[i] = golden
		cs[i].Offset = first + uint64(i)
	}
	return cs
}

// record returns a record of n small commits from an offset on.
func record(first uint64, n int) stream.Record {
	return stream.Record{First: first, Last: first + uint64(n) - 1, Body: slices.Clip(encode(commits(first, n)...))}
}

func TestEveryTruncationFails(t *testing.T) {
	body := encode(commits(17, 2)...)
	one := len(body) / 2
	for n := range len(body) {
		if n == one {
			continue // a whole commit
		}
		d := stream.NewDecoder(body[:n:n])
		var c stream.Commit
		if n > 0 && d.Next(&c) {
			t.Errorf("the first %d bytes of %d decode as %+v", n, len(body), c)
		}
		e, ok := errors.AsType[*wire.Error](d.Err())
		if ok != (n > 0) || ok && e.Offset > n {
			t.Errorf("the first %d bytes of %d: %v, want a *wire.Error inside of them", n, len(body), d.Err())
		}
		if c.Offset != 0 || len(c.Ops) != 0 {
			t.Errorf("the first %d bytes of %d: commit %+v, want none", n, len(body), c)
		}
		if stream.CheckRecord(stream.Record{First: 17, Last: 18, Body: body[:n]}) == nil {
			t.Errorf("the first %d bytes of %d pass for the record", n, len(body))
		}
	}
}

// TestDecoderRefuses edits the golden commit.
func TestDecoderRefuses(t *testing.T) {
	swap := func(old, with string) string {
		if strings.Count(goldenHex, old) != 1 {
			t.Fatalf("%s occurs %d times", old, strings.Count(goldenHex, old))
		}
		return strings.Replace(goldenHex, old, with, 1)
	}
	head := goldenHex[:46] // up to the ops
	tests := []struct{ name, hex, want string }{
		{"offset 0", swap("9511", "9500"), "wire: offset: offset does not follow at byte 1"},
		{"a gap", goldenHex + swap("9511", "9513"), "wire: offset: offset does not follow at byte 54"},
		{"the same again", goldenHex + goldenHex, "wire: offset: offset does not follow at byte 54"},
		{"not an array", "11", "wire: commit: unexpected type at byte 0"},
		{"four fields", "9411000000", "wire: commit: out of range at byte 0"},
		{"time is text", swap("cf0000018bcfe56800", "a0"), "wire: time: unexpected type at byte 2"},
		{"count is nil", swap("cd012c", "c0"), "wire: count: unexpected type at byte 11"},
		{"sum is an array", swap("cf0123456789abcdef", "90"), "wire: sum: unexpected type at byte 14"},
		{"no ops", head + "90", "wire: ops: out of range at byte 23"},
		{"a key without a value", head + "91c40161", "wire: ops: out of range at byte 23"},
		{"empty key", head + "92c400c400", "wire: ops: empty key at byte 24"},
		{"key is nil", head + "92c0c400", "wire: ops: unexpected type at byte 24"},
		{"key is text", head + "92a161c400", "wire: ops: unexpected type at byte 24"},
		{"value is an integer", head + "92c4016101", "wire: ops: unexpected type at byte 27"},
		{"array in the ops", head + "92c4016190", "wire: nested too deep at byte 27"},
		{"too many ops", head + "dd000186a2" + strings.Repeat("c40161c0", 50_001), "wire: ops: out of range at byte 23"},
		{"too large", head + "92c4016b" + "c6003567d0" + strings.Repeat("00", 3_499_984), "wire: ops: commit is too large at byte 24"},
		{"long form of a short key", head + "92c5000161c0", "wire: not the shortest encoding at byte 24"},
	}
	for _, tt := range tests {
		body, err := hex.DecodeString(tt.hex)
		if err != nil {
			t.Fatal(err)
		}
		d := stream.NewDecoder(body)
		c := stream.Commit{Ops: []stream.Op{{Delete: true}}}
		for d.Next(&c) {
		}
		if got, want := fmt.Sprint(d.Err()), "stream: decode commits: "+tt.want; got != want {
			t.Errorf("%s: %s, want %s", tt.name, got, want)
		}
		if c.Offset != 0 || c.Time != 0 || len(c.Ops) != 0 {
			t.Errorf("%s: commit %+v beside the error", tt.name, c)
		}
	}
}

func TestOffsetsDoNotWrap(t *testing.T) {
	c := commits(math.MaxUint64, 1)
	body := encode(c...)
	if err := stream.CheckRecord(stream.Record{First: math.MaxUint64, Last: math.MaxUint64, Body: body}); err != nil {
		t.Errorf("the last offset there is: %v", err)
	}
	d := stream.NewDecoder(append(body, encode(commits(1, 1)...)...))
	for d.Next(&c[0]) {
	}
	if d.Err() == nil {
		t.Error("offset 1 follows the last offset there is")
	}
}

// TestBoundsFit encodes commits as large as the bounds allow, in the shapes
// that have the most bytes of encoding for the bytes they count.
func TestBoundsFit(t *testing.T) {
	shape := func(ops, key, value int) stream.Commit {
		c := stream.Commit{Offset: math.MaxUint64, Time: math.MaxUint64}
		c.Fingerprint = merkle.Summary{Count: math.MaxUint64, Sum: math.MaxUint64}
		k, v := make([]byte, key), make([]byte, value)
		for range min(ops, stream.MaxCommitBytes/(key+value+16)) {
			c.Ops = append(c.Ops, stream.Op{Key: k, Value: v})
		}
		// The last one takes up what the bound leaves.
		last := &c.Ops[len(c.Ops)-1]
		last.Value = make([]byte, len(last.Value)+stream.MaxCommitBytes-stream.Size(c.Ops))
		return c
	}
	w := wire.NewWriter(nil)
	for _, tt := range []struct{ ops, key, value int }{
		{1, 65_000, 0}, {4, 65_536, 65_536}, {stream.MaxOps, 1, 0}, {stream.MaxOps, 16, 38}, {stream.MaxOps, 256, 0},
		{stream.MaxOps, 256, 256}, {stream.MaxOps, 65_536, 65_536}, {stream.MaxOps, 1, 1 << 20},
	} {
		c := shape(tt.ops, tt.key, tt.value)
		if n := stream.Size(c.Ops); n != stream.MaxCommitBytes {
			t.Fatalf("%+v: counts %d bytes, want the bound", tt, n)
		}
		w.Reset(nil)
		stream.AppendCommit(w, &c)
		if w.Len() > stream.MaxEncoded {
			t.Errorf("%+v: %d ops within the bounds take %d bytes, want at most %d", tt, len(c.Ops), w.Len(), stream.MaxEncoded)
		}
		var got stream.Commit
		if d := stream.NewDecoder(w.Out()); !d.Next(&got) || !equal(&got, &c) {
			t.Errorf("%+v: a commit at the bounds does not decode: %v", tt, d.Err())
		}
	}
}

func TestAppendCommitPanics(t *testing.T) {
	op := stream.Op{Key: []byte("k"), Value: []byte("v")}
	for name, c := range map[string]stream.Commit{
		"offset 0":  {Ops: []stream.Op{op}},
		"no ops":    {Offset: 1},
		"many ops":  {Offset: 1, Ops: slices.Repeat([]stream.Op{op}, stream.MaxOps+1)},
		"empty key": {Offset: 1, Ops: []stream.Op{{}}},
		"too large": {Offset: 1, Ops: []stream.Op{{Key: make([]byte, stream.MaxCommitBytes-15)}}},
	} {
		func() {
			defer func() {
				if s, _ := recover().(string); !strings.HasPrefix(s, "BUG: stream: ") {
					t.Errorf("%s: recovered %q, want a BUG", name, s)
				}
			}()
			stream.AppendCommit(wire.NewWriter(nil), &c)
		}()
	}
}

func TestSize(t *testing.T) {
	ops := []stream.Op{{Key: []byte("abc"), Value: []byte("de")}, {Key: []byte("f"), Value: []byte("not counted"), Delete: true}}
	if got := stream.Size(ops); got != 5+16+1+16 {
		t.Errorf("Size = %d, want 38", got)
	}
}

func TestNoAllocations(t *testing.T) {
	c := benchCommit()
	w := wire.NewWriter(nil)
	stream.AppendCommit(w, &c)
	if n := testing.AllocsPerRun(20, func() {
		w.Reset(w.Out()[:0])
		stream.AppendCommit(w, &c)
	}); n != 0 {
		t.Errorf("a warm AppendCommit allocates %v times, want 0", n)
	}
	var got stream.Commit
	if n := testing.AllocsPerRun(20, func() {
		d := stream.NewDecoder(w.Out())
		for d.Next(&got) {
		}
	}); n > 2 {
		t.Errorf("decoding 1000 ops allocates %v times, want 2", n)
	}
}

func drawCommit(t *rapid.T, offset uint64) stream.Commit {
	c := stream.Commit{Offset: offset, Time: rapid.Uint64().Draw(t, "time")}
	c.Fingerprint = merkle.Summary{Count: rapid.Uint64().Draw(t, "count"), Sum: rapid.Uint64().Draw(t, "sum")}
	for range rapid.IntRange(1, 20).Draw(t, "ops") {
		op := stream.Op{Key: rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "key")}
		if op.Delete = rapid.Bool().Draw(t, "delete"); !op.Delete {
			op.Value = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value")
		}
		c.Ops = append(c.Ops, op)
	}
	return c
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint64Range(1, math.MaxUint64-10).Draw(t, "first")
		var want []stream.Commit
		for i := range rapid.Uint64Range(1, 5).Draw(t, "commits") {
			want = append(want, drawCommit(t, first+i))
		}
		body := encode(want...)
		d := stream.NewDecoder(body)
		var c stream.Commit
		for i := range want {
			if !d.Next(&c) || !equal(&c, &want[i]) {
				t.Fatalf("commit %d of %x: got %+v, %v", i, body, c, d.Err())
			}
		}
		if d.Next(&c) || d.Err() != nil || d.Offset() != len(body) {
			t.Fatalf("%x does not end at its end: %v", body, d.Err())
		}
		if err := stream.CheckRecord(stream.Record{First: first, Last: first + uint64(len(want)) - 1, Body: body}); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzDecode expects of any body that decodes that it is the encoding of what
// came out, and of any other that it yields nothing from where it is wrong.
func FuzzDecode(f *testing.F) {
	body, _ := hex.DecodeString(goldenHex)
	f.Add(body)
	f.Add(encode(commits(1, 2)...))
	f.Add([]byte{0x95, 1, 0, 0, 0, 0x92, 0xc4, 1, 'k', 0xc0})
	f.Add([]byte{0x95, 1, 0, 0, 0, 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		w := wire.NewWriter(nil)
		d := stream.NewDecoder(body)
		var c stream.Commit
		first, last := uint64(0), uint64(0)
		for d.Next(&c) {
			if first == 0 {
				first = c.Offset
			}
			last = c.Offset
			stream.AppendCommit(w, &c)
			if d.Offset() != w.Len() {
				t.Fatalf("%x: read %d bytes, wrote %d", body, d.Offset(), w.Len())
			}
		}
		if c.Offset != 0 || len(c.Ops) != 0 {
			t.Fatalf("%x: left with commit %+v", body, c)
		}
		if !bytes.HasPrefix(body, w.Out()) || d.Err() == nil && w.Len() != len(body) {
			t.Fatalf("%x: written again as %x, error %v", body, w.Out(), d.Err())
		}
		r := stream.Record{First: first, Last: last, Body: body}
		if got, want := stream.CheckRecord(r) == nil, d.Err() == nil && len(body) > 0; got != want {
			t.Fatalf("%x: CheckRecord says %v, decoding %v", body, stream.CheckRecord(r), d.Err())
		}
		if d.Err() == nil && len(body) > 0 {
			checkCuts(t, r)
		}
	})
}

// checkCuts cuts r at every commit, at most a few hundred.
func checkCuts(t *testing.T, r stream.Record) {
	for offset := r.First; offset <= r.Last && offset-r.First < 300; offset++ {
		cut, err := r.From(offset)
		if err != nil {
			t.Fatalf("%x from %d: %v", r.Body, offset, err)
		}
		if err := stream.CheckRecord(cut); err != nil || cut.First != offset || cut.Last != r.Last || !bytes.HasSuffix(r.Body, cut.Body) {
			t.Fatalf("%x from %d: cut %+v, %v", r.Body, offset, cut, err)
		}
	}
}
