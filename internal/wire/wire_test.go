package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/internal/wire"
)

// vectors are values and their only encodings.
var vectors = []struct {
	name  string
	write func(w *wire.Writer)
	hex   string
}{
	{"nil", func(w *wire.Writer) { w.Nil() }, "c0"},
	{"false", func(w *wire.Writer) { w.Bool(false) }, "c2"},
	{"true", func(w *wire.Writer) { w.Bool(true) }, "c3"},
	{"0", func(w *wire.Writer) { w.Uint(0) }, "00"},
	{"127", func(w *wire.Writer) { w.Uint(127) }, "7f"},
	{"128", func(w *wire.Writer) { w.Uint(128) }, "cc80"},
	{"255", func(w *wire.Writer) { w.Uint(255) }, "ccff"},
	{"256", func(w *wire.Writer) { w.Uint(256) }, "cd0100"},
	{"65535", func(w *wire.Writer) { w.Uint(65535) }, "cdffff"},
	{"65536", func(w *wire.Writer) { w.Uint(65536) }, "ce00010000"},
	{"1<<32-1", func(w *wire.Writer) { w.Uint(1<<32 - 1) }, "ceffffffff"},
	{"1<<32", func(w *wire.Writer) { w.Uint(1 << 32) }, "cf0000000100000000"},
	{"max", func(w *wire.Writer) { w.Uint(math.MaxUint64) }, "cfffffffffffffffff"},
	{"nil bytes", func(w *wire.Writer) { w.Bytes(nil) }, "c400"},
	{"bytes", func(w *wire.Writer) { w.Bytes([]byte{1, 2}) }, "c4020102"},
	{"255 bytes", func(w *wire.Writer) { w.Bytes(make([]byte, 255)) }, "c4ff" + zeros(255)},
	{"256 bytes", func(w *wire.Writer) { w.Bytes(make([]byte, 256)) }, "c50100" + zeros(256)},
	{"65535 bytes", func(w *wire.Writer) { w.Bytes(make([]byte, 65535)) }, "c5ffff" + zeros(65535)},
	{"65536 bytes", func(w *wire.Writer) { w.Bytes(make([]byte, 65536)) }, "c600010000" + zeros(65536)},
	{"empty text", func(w *wire.Writer) { w.String("") }, "a0"},
	{"text", func(w *wire.Writer) { w.String("hé") }, "a368c3a9"},
	{"31 text", func(w *wire.Writer) { w.String(strings.Repeat("\x00", 31)) }, "bf" + zeros(31)},
	{"32 text", func(w *wire.Writer) { w.String(strings.Repeat("\x00", 32)) }, "d920" + zeros(32)},
	{"256 text", func(w *wire.Writer) { w.String(strings.Repeat("\x00", 256)) }, "da0100" + zeros(256)},
	{"65536 text", func(w *wire.Writer) { w.String(strings.Repeat("\x00", 65536)) }, "db00010000" + zeros(65536)},
	{"not UTF-8", func(w *wire.Writer) { w.String("a\xff") }, "a461efbfbd"},
	{"empty array", func(w *wire.Writer) { w.Array(0) }, "90"},
	{"15 array", func(w *wire.Writer) { array(w, 15) }, "9f" + zeros(15)},
	{"16 array", func(w *wire.Writer) { array(w, 16) }, "dc0010" + zeros(16)},
	{"65536 array", func(w *wire.Writer) { array(w, 65536) }, "dd00010000" + zeros(65536)},
	{"nested", func(w *wire.Writer) { w.Array(2); w.Array(1); w.Uint(1); w.Nil() }, "929101c0"},
	{"sequence", func(w *wire.Writer) { w.Uint(1); w.Array(1); w.Uint(2) }, "019102"},
	{"nothing", func(w *wire.Writer) {}, ""},
}

func zeros(n int) string { return strings.Repeat("00", n) }

func array(w *wire.Writer, n int) {
	w.Array(n)
	for range n {
		w.Uint(0)
	}
}

func TestWriterVectors(t *testing.T) {
	w := wire.NewWriter(nil)
	for _, v := range vectors {
		w.Reset([]byte("before"))
		v.write(w)
		got, ok := bytes.CutPrefix(w.Out(), []byte("before"))
		if !ok || hex.EncodeToString(got) != v.hex {
			t.Errorf("%s: wrote %.40x, want %.40s", v.name, got, v.hex)
		}
		if err := wire.NewReader(got, wire.Limits{}).Err(); err != nil {
			t.Errorf("%s: %v", v.name, err)
		}
	}
}

// refusals are inputs that no Reader may accept, with the reason and where.
var refusals = []struct {
	hex    string
	offset int
	err    error
}{
	{"cc7f", 0, wire.ErrNotCanonical},
	{"01cd00ff", 1, wire.ErrNotCanonical},
	{"ce0000ffff", 0, wire.ErrNotCanonical},
	{"cf00000000ffffffff", 0, wire.ErrNotCanonical},
	{"c500ff" + zeros(255), 0, wire.ErrNotCanonical},
	{"c60000ffff", 0, wire.ErrNotCanonical},
	{"d91f" + zeros(31), 0, wire.ErrNotCanonical},
	{"da00ff" + zeros(255), 0, wire.ErrNotCanonical},
	{"db0000ffff", 0, wire.ErrNotCanonical},
	{"dc000f" + zeros(15), 0, wire.ErrNotCanonical},
	{"dd0000ffff", 0, wire.ErrNotCanonical},
	{"e0", 0, wire.ErrRefused}, // -32
	{"ff", 0, wire.ErrRefused}, // -1
	{"d0ff", 0, wire.ErrRefused},
	{"d1ffff", 0, wire.ErrRefused},
	{"d2ffffffff", 0, wire.ErrRefused},
	{"d3ffffffffffffffff", 0, wire.ErrRefused},
	{"ca00000000", 0, wire.ErrRefused},         // float
	{"cb0000000000000000", 0, wire.ErrRefused}, // double
	{"80", 0, wire.ErrRefused},                 // map
	{"de0000", 0, wire.ErrRefused},
	{"df00000000", 0, wire.ErrRefused},
	{"c1", 0, wire.ErrRefused}, // never used
	{"d40000", 0, wire.ErrRefused},
	{"c70000", 0, wire.ErrRefused}, // ext
	{"00a1ff", 1, wire.ErrUTF8},
	{"ddffffffff", 0, wire.ErrTruncated}, // five bytes that ask for gigabytes
	{"c6ffffffff", 0, wire.ErrTruncated},
	{"dbffffffff", 0, wire.ErrTruncated},
	{"9100" + "dfffffffff", 2, wire.ErrRefused},
	{"9200", 0, wire.ErrTruncated},
	{"92c400", 3, wire.ErrTruncated},
	{"c402ff", 0, wire.ErrTruncated},
	{"9191919191919191" + "9100", 8, wire.ErrDepth}, // nine deep
	{"9292000000" + "9100", 0, nil},                 // a sequence: fine
}

func TestReaderRefuses(t *testing.T) {
	for _, v := range refusals {
		b, err := hex.DecodeString(v.hex)
		if err != nil {
			t.Fatal(err)
		}
		err = wire.NewReader(b, wire.Limits{}).Err()
		if v.err == nil {
			if err != nil {
				t.Errorf("%s: %v", v.hex, err)
			}
			continue
		}
		e, ok := errors.AsType[*wire.Error](err)
		if !ok || !errors.Is(err, v.err) || e.Offset != v.offset {
			t.Errorf("%.40s: error %v, want %v at byte %d", v.hex, err, v.err, v.offset)
		}
	}
}

func TestReaderReads(t *testing.T) {
	w := wire.NewWriter(nil)
	w.Array(4)
	w.Uint(300)
	w.Bytes([]byte("abc"))
	w.String("text")
	w.Nil()
	w.Bool(true)
	in := w.Out()

	r := wire.NewReader(in, wire.Limits{})
	r.ArrayN(4)
	if got := r.UintMax(300); got != 300 {
		t.Errorf("UintMax = %d, want 300", got)
	}
	at := r.Offset() + 2
	b := r.BytesMax(3)
	if string(b) != "abc" || &b[0] != &in[at] || cap(b) != 3 {
		t.Errorf("BytesMax = %q with capacity %d, want abc, a part of the input", b, cap(b))
	}
	if r.IsNil() {
		t.Error("IsNil before text")
	}
	if got := r.StringMax(4); got != "text" {
		t.Errorf("StringMax = %q, want text", got)
	}
	if !r.IsNil() || !r.More() || !r.Bool() || r.More() {
		t.Error("nil, true and the end were to follow")
	}
	if err := r.Close(); err != nil || r.Offset() != len(in) {
		t.Errorf("Close at %d of %d bytes: %v", r.Offset(), len(in), err)
	}
}
