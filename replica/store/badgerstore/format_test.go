package badgerstore

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"testing"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

func exampleHead(n uint64) store.Head {
	return store.Head{
		Seq:      n,
		Position: stream.Position{Epoch: stream.Epoch{0: 0xee, 15: 1}, Offset: n + 1},
		Summary:  merkle.Summary{Count: n + 2, Sum: 0x0102030405060708},
	}
}

// The vectors of docs/FORMAT.md. They change with a version only.
func TestVectors(t *testing.T) {
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"slot of HEAD", appendSlot(nil, exampleHead(7)), "53444831" + "00000000" + "0000000000000007" +
			"ee000000000000000000000000000001" + "0000000000000008" + "0000000000000009" + "0102030405060708" + "00000000" + "c4771a5e"},
		{"part of a log record", appendPart(nil, split(&stream.Record{First: 5, Last: 6, Body: []byte("body")}, 0)),
			"0100" + "0000" + "0001" + "0000000000000005" + "0000000000000006" + "00000004" + "4b5bc9ce" + "626f6479"},
		{"named record", appendRecord(nil, []byte("value")), "e1e00363" + "76616c7565"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
	k, err := newKeyspace("a/é")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ got, want string }{
		{string(k.meta), "!sdiff!/a%2F%C3%A9/m"},
		{string(k.logKey(258, 3)), "!sdiff!/a%2F%C3%A9/l/\x00\x00\x00\x00\x00\x00\x01\x02\x00\x03"},
		{string(k.recordKey("f/x")), "!sdiff!/a%2F%C3%A9/r/f/x"},
		{headName(""), "HEAD"},
		{headName("a/é"), "HEAD-1b1e98fb1aaacbb9"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestEscape(t *testing.T) {
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	for _, s := range []string{"", "a", "a/b", "%", "%2F", string(all)} {
		e := escape(s)
		if back, ok := unescape(e); !ok || back != s || bytes.ContainsAny([]byte(e), "/ \x00\xff") {
			t.Errorf("escape(%q) = %q, unescaped %q, %v", s, e, back, ok)
		}
	}
	for _, s := range []string{"%", "%2", "%2f", "%41", "%zz", "a b", "é", "%+1"} {
		if text, ok := unescape(s); ok {
			t.Errorf("unescape(%q) = %q, want none", s, text)
		}
	}
}

// TestHeadSlots sees that a torn write of HEAD costs one transaction at most.
func TestHeadSlots(t *testing.T) {
	dir := t.TempDir()
	h, err := openHead(dir, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if h.found != nil || h.note != "" {
		t.Fatalf("a new HEAD has %+v, %q", h.found, h.note)
	}
	// The fifth goes to the first slot.
	for n := range uint64(5) {
		if err := h.write(exampleHead(n + 1)); err != nil {
			t.Fatal(err)
		}
	}
	h.f.Close()
	path := dir + "/HEAD"
	good, err := os.ReadFile(path)
	if err != nil || len(good) != slotAt+slotBytes {
		t.Fatalf("HEAD has %d bytes, %v", len(good), err)
	}
	for _, c := range []struct {
		name   string
		damage func(b []byte) []byte
		seq    uint64 // 0 for none
		note   bool
	}{
		{"as it is", func(b []byte) []byte { return b }, 5, false},
		{"newest slot torn", func(b []byte) []byte { b[40] ^= 1; return b }, 4, true},
		{"older slot torn", func(b []byte) []byte { b[slotAt+40] ^= 1; return b }, 5, true},
		{"both torn", func(b []byte) []byte { b[9] ^= 1; b[slotAt+9] ^= 1; return b }, 0, true},
		{"second slot missing", func(b []byte) []byte { return b[:100] }, 5, false},
		{"empty", func([]byte) []byte { return nil }, 0, false},
	} {
		if err := os.WriteFile(path, c.damage(bytes.Clone(good)), 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := openHead(dir, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		var seq uint64
		if h.found != nil {
			seq = h.found.Seq
		}
		if seq != c.seq || (h.note != "") != c.note {
			t.Errorf("%s: sequence %d, note %q; want %d, %v", c.name, seq, h.note, c.seq, c.note)
		}
		// Whatever was there, the next write is what is found next.
		if err := h.write(exampleHead(2)); err != nil {
			t.Fatal(err)
		}
		h.f.Close()
		again, err := openHead(dir, "", 0)
		if err != nil || again.found == nil || *again.found != exampleHead(2) || again.note != "" {
			t.Errorf("%s: after a write HEAD says %+v, %q, %v", c.name, again.found, again.note, err)
		}
		again.f.Close()
	}
}

func FuzzParseSlot(f *testing.F) {
	f.Add(appendSlot(nil, exampleHead(7)))
	f.Add(make([]byte, slotBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == slotBytes { // or nothing gets past the checksum
			b = bytes.Clone(b)
			binary.BigEndian.PutUint32(b[slotBytes-4:], crc32.Checksum(b[:slotBytes-4], castagnoli))
		}
		if h, ok := parseSlot(b); ok && !bytes.Equal(appendSlot(nil, h), b) {
			t.Errorf("%x is accepted as %+v", b, h)
		}
	})
}

func FuzzParsePart(f *testing.F) {
	f.Add(appendPart(nil, split(&stream.Record{First: 5, Last: 6, Body: []byte("body")}, 0)))
	f.Add(appendPart(nil, split(&stream.Record{First: 1, Last: 1}, 0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= partHeader {
			b = bytes.Clone(b)
			sum := crc32.Checksum(b[:partHeader-4], castagnoli)
			binary.BigEndian.PutUint32(b[partHeader-4:], crc32.Update(sum, castagnoli, b[partHeader:]))
		}
		p, err := parsePart(b)
		if err == nil && !bytes.Equal(appendPart(nil, p), b) {
			t.Errorf("%x is accepted as %+v", b, p)
		}
		var j joiner
		j.add(p.first, p.index, b)
		j.end()
	})
}

func FuzzParseClosed(f *testing.F) {
	f.Add(formatClosed(time.Unix(1_700_000_000, 0), "5 7 MANIFEST\n9 8 000001.sst\n"))
	f.Add(formatClosed(time.Time{}, ""))
	f.Add([]byte(closedMagic + "\n2026-01-01T00:00:00.5+01:00\n\n00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := len(b) - len(closedSum(nil)); n >= 0 { // or nothing gets past the checksum
			b = append(bytes.Clone(b[:n]), closedSum(b[:n])...)
		}
		at, files, ok := parseClosed(b)
		if ok && !bytes.Equal(formatClosed(at, files), b) {
			t.Errorf("%q is accepted as %v, %q", b, at, files)
		}
	})
}

// TestJoiner gives the parts of two records in all kinds of wrong ways.
func TestJoiner(t *testing.T) {
	a := &stream.Record{First: 1, Last: 4, Body: make([]byte, 3*partBytes)}
	b := &stream.Record{First: 5, Last: 5, Body: make([]byte, partBytes+1)}
	other := &stream.Record{First: 1, Last: 3, Body: make([]byte, 3*partBytes)}
	type at struct {
		rec *stream.Record
		i   int
	}
	for _, c := range []struct {
		name  string
		parts []at
		ok    bool
	}{
		{"in order", []at{{a, 0}, {a, 1}, {a, 2}, {b, 0}, {b, 1}}, true},
		{"first missing", []at{{a, 1}, {a, 2}}, false},
		{"middle missing", []at{{a, 0}, {a, 2}}, false},
		{"last missing", []at{{a, 0}, {a, 1}, {b, 0}, {b, 1}}, false},
		{"last missing at the end", []at{{a, 0}, {a, 1}}, false},
		{"one twice", []at{{a, 0}, {a, 0}, {a, 1}, {a, 2}}, false},
		{"of another record", []at{{a, 0}, {other, 1}, {a, 2}}, false},
		{"of the next record", []at{{a, 0}, {b, 1}}, false},
	} {
		var j joiner
		var err error
		n := 0
		for _, p := range c.parts {
			done, e := j.add(p.rec.First, p.i, appendPart(nil, split(p.rec, p.i)))
			if err = e; err != nil {
				break
			}
			if done {
				n++
			}
		}
		if err == nil {
			err = j.end()
		}
		if c.ok != (err == nil) || err != nil && !errors.Is(err, store.ErrCorrupt) || c.ok && n != 2 {
			t.Errorf("%s: %d records, error %v", c.name, n, err)
		}
	}
	var j joiner
	if _, err := j.add(9, 0, appendPart(nil, split(a, 0))); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a part under another key: %v", err)
	}
}

// TestGate enters from inside while someone waits in close.
func TestGate(t *testing.T) {
	var g gate
	if err := g.enter(); err != nil {
		t.Fatal(err)
	}
	done := make(chan bool)
	go func() { done <- g.close() }()
	for g.enter() == nil { // until close has begun
		g.leave()
	}
	select {
	case <-done:
		t.Fatal("close did not wait")
	default:
	}
	g.leave()
	if !<-done || g.close() {
		t.Error("close reports the wrong thing")
	}
}

func ExampleOverlapError() {
	fmt.Println(&OverlapError{Prefix: "a/", Other: "a/b/"})
	// Output: the prefix "a/" overlaps with the dataset at prefix "a/b/" of the same database
}
