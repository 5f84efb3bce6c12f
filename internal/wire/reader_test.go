package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/internal/wire"
)

func TestEveryTruncationFails(t *testing.T) {
	for _, v := range vectors {
		b, _ := hex.DecodeString(v.hex)
		if len(b) > 600 || v.name == "sequence" {
			continue // too long to try all; values of their own
		}
		for n := 1; n < len(b); n++ {
			err := wire.NewReader(b[:n], wire.Limits{}).Err()
			if !errors.Is(err, wire.ErrTruncated) {
				t.Errorf("%s: the first %d of %d bytes: %v, want %v", v.name, n, len(b), err, wire.ErrTruncated)
			}
		}
	}
}

// TestReaderErrors reads what is not there and expects the reason, where it
// is, and zero values from then on.
func TestReaderErrors(t *testing.T) {
	tests := []struct {
		name string
		hex  string
		read func(r *wire.Reader)
		want string
	}{
		{"nil is no integer", "c0", func(r *wire.Reader) { r.Uint() }, "wire: unexpected type at byte 0"},
		{"nil is no byte string", "c0", func(r *wire.Reader) { r.Bytes() }, "wire: unexpected type at byte 0"},
		{"nil is no text", "c0", func(r *wire.Reader) { r.StringMax(9) }, "wire: unexpected type at byte 0"},
		{"nil is no array", "c0", func(r *wire.Reader) { r.Array() }, "wire: unexpected type at byte 0"},
		{"nil is not false", "c0", func(r *wire.Reader) { r.Bool() }, "wire: unexpected type at byte 0"},
		{"text is no byte string", "a161", func(r *wire.Reader) { r.Bytes() }, "wire: unexpected type at byte 0"},
		{"a byte string is no text", "c40161", func(r *wire.Reader) { r.StringMax(9) }, "wire: unexpected type at byte 0"},
		{"past the end", "01", func(r *wire.Reader) { r.Uint(); r.Uint() }, "wire: input ends too early at byte 1"},
		{"skip past the end", "01", func(r *wire.Reader) { r.Skip(); r.Skip() }, "wire: input ends too early at byte 1"},
		{"left over", "0102", func(r *wire.Reader) { r.Uint() }, "wire: bytes left over at byte 1"},
		{"integer too large", "0107", func(r *wire.Reader) { r.Uint(); r.Field("time").UintMax(6) }, "wire: time: out of range at byte 1"},
		{"array too long", "930102c0", func(r *wire.Reader) { r.ArrayMax(2) }, "wire: out of range at byte 0"},
		{"array of another count", "930102c0", func(r *wire.Reader) { r.ArrayN(2) }, "wire: out of range at byte 0"},
		{"bytes too long", "c4020102", func(r *wire.Reader) { r.BytesMax(1) }, "wire: out of range at byte 0"},
		{"bytes of another length", "c4020102", func(r *wire.Reader) { r.BytesN(3) }, "wire: out of range at byte 0"},
		{"text too long", "a26161", func(r *wire.Reader) { r.StringMax(1) }, "wire: out of range at byte 0"},
		{"the first error stays", "c0", func(r *wire.Reader) { r.Uint(); r.Fail(0, errors.New("other")) }, "wire: unexpected type at byte 0"},
		{"the decoder's own", "05", func(r *wire.Reader) { r.Fail(0, errors.New("no five")) }, "wire: no five at byte 0"},
	}
	for _, tt := range tests {
		b, _ := hex.DecodeString(tt.hex)
		r := wire.NewReader(b, wire.Limits{})
		if tt.read(r); fmt.Sprint(r.Close()) != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, r.Err(), tt.want)
		}
		if e, ok := errors.AsType[*wire.Error](r.Err()); !ok || r.Offset() != e.Offset {
			t.Errorf("%s: stands at byte %d after %v", tt.name, r.Offset(), r.Err())
		}
		if r.More() || r.Array() != 0 || r.Uint() != 0 || r.Bytes() != nil || r.StringMax(9) != "" || r.Bool() || r.IsNil() {
			t.Errorf("%s: reads on after the error", tt.name)
		}
	}
}

// TestBytesEndWhereTheyEnd checks that an append to what was read cannot reach
// the values behind it.
func TestBytesEndWhereTheyEnd(t *testing.T) {
	for _, n := range []int{0, 1, 255, 256, 65535, 65536} {
		w := wire.NewWriter(nil)
		w.Bytes(make([]byte, n))
		w.Uint(1)
		r := wire.NewReader(w.Out(), wire.Limits{})
		if b := r.BytesN(n); b == nil || len(b) != n || cap(b) != n || r.Uint() != 1 {
			t.Errorf("%d bytes: read %d with capacity %d, then %v", n, len(b), cap(b), r.Err())
		}
	}
}

func TestLimits(t *testing.T) {
	nest := func(n int) []byte { return append(bytes.Repeat([]byte{0x91}, n), 0) }
	tests := []struct {
		name string
		in   []byte
		lim  wire.Limits
		want error
	}{
		{"default depth", nest(wire.DefaultDepth), wire.Limits{}, nil},
		{"over the default depth", nest(wire.DefaultDepth + 1), wire.Limits{}, wire.ErrDepth},
		{"greatest depth", nest(wire.MaxDepth), wire.Limits{Depth: wire.MaxDepth}, nil},
		{"over the greatest depth", nest(wire.MaxDepth + 1), wire.Limits{Depth: wire.MaxDepth}, wire.ErrDepth},
		{"an empty array counts", []byte{0x91, 0x90}, wire.Limits{Depth: 1}, wire.ErrDepth},
		{"arrays beside each other", []byte{0x92, 0x91, 0, 0x91, 0}, wire.Limits{Depth: 2}, nil},
		{"elements together", []byte{0x92, 0x91, 0, 0x91, 0}, wire.Limits{Elements: 4}, nil},
		{"elements over", []byte{0x92, 0x91, 0, 0x91, 0}, wire.Limits{Elements: 3}, wire.ErrElements},
		{"elements of a sequence", []byte{0x91, 0, 0x91, 0}, wire.Limits{Elements: 1}, wire.ErrElements},
		{"ten million deep", nest(10_000_000), wire.Limits{}, wire.ErrDepth},
	}
	for _, tt := range tests {
		if err := wire.NewReader(tt.in, tt.lim).Err(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// TestHostileLengthsAllocateNothing feeds the few bytes that make a plain
// msgpack decoder ask for gigabytes, alone and where a value is expected.
func TestHostileLengthsAllocateNothing(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, h := range []string{"ddffffffff", "dfffffffff", "c6ffffffff", "dbffffffff", "c9ffffffff00", "dcffff", "91ddffffffff"} {
		b, _ := hex.DecodeString(h)
		r := wire.NewReader(b, wire.Limits{})
		if r.Err() == nil {
			t.Errorf("%s is accepted", h)
		}
		r.Array()
		r.Bytes()
		r.StringMax(math.MaxInt)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
		t.Errorf("hostile lengths made the reader allocate %d bytes", n)
	}
}

func TestNoAllocations(t *testing.T) {
	w := wire.NewWriter(nil)
	text := "text"
	write := func() {
		w.Reset(w.Out()[:0])
		w.Array(5)
		w.Uint(1 << 40)
		w.Bytes([]byte("bytes"))
		w.String(text)
		w.Bool(true)
		w.Nil()
	}
	write()
	if n := testing.AllocsPerRun(100, write); n != 0 {
		t.Errorf("a warm Writer allocates %v times, want 0", n)
	}
	var r wire.Reader
	read := func() {
		r.Reset(w.Out(), wire.Limits{})
		r.ArrayN(5)
		r.Uint()
		r.Bytes()
		r.Skip() // text would be copied
		r.Bool()
		r.IsNil()
		if r.Close() != nil {
			t.Fatal(r.Err())
		}
	}
	read()
	if n := testing.AllocsPerRun(100, read); n != 0 {
		t.Errorf("a warm Reader allocates %v times, want 0", n)
	}
}

// TestErrorsHoldNoInput checks that an error says nothing of the bytes that
// caused it: they may be somebody's data and errors end up in logs.
func TestErrorsHoldNoInput(t *testing.T) {
	w := wire.NewWriter(nil)
	w.Bytes([]byte("secret"))
	w.String("secret")
	w.Uint(123456789)
	for _, read := range []func(r *wire.Reader){
		func(r *wire.Reader) { r.BytesMax(3) },
		func(r *wire.Reader) { r.Skip(); r.StringMax(3) },
		func(r *wire.Reader) { r.Skip(); r.Skip(); r.UintMax(3) },
		func(r *wire.Reader) { r.Uint() },
	} {
		r := wire.NewReader(w.Out(), wire.Limits{})
		read(r)
		if s := fmt.Sprint(r.Err()); r.Err() == nil || strings.Contains(s, "secret") || strings.Contains(s, "123456789") {
			t.Errorf("error is %q, want one without the input", s)
		}
	}
}

func TestMisusePanics(t *testing.T) {
	w := wire.NewWriter(nil)
	for name, fn := range map[string]func(){
		"negative count":    func() { w.Array(-1) },
		"depth too large":   func() { wire.NewReader(nil, wire.Limits{Depth: wire.MaxDepth + 1}) },
		"negative depth":    func() { wire.NewReader(nil, wire.Limits{Depth: -1}) },
		"negative elements": func() { wire.NewReader(nil, wire.Limits{Elements: -1}) },
	} {
		func() {
			defer func() {
				if s, _ := recover().(string); !strings.HasPrefix(s, "BUG: wire: ") {
					t.Errorf("%s: recovered %q, want a BUG", name, s)
				}
			}()
			fn()
		}()
	}
}
