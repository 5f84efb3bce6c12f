package replica

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// fuzzMessage checks that no input makes a parser panic, and that what it
// accepts is encoded again as it was: there is one encoding for each meaning.
// The examples of the frame types given are the seeds.
func fuzzMessage[T any](f *testing.F, parse func([]byte) (T, error), encode func(T) []byte, types ...byte) {
	for _, e := range examples() {
		if slices.Contains(types, e.typ) {
			f.Add(e.body)
		}
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		m, err := parse(b)
		if !bytes.Equal(b, before) {
			t.Fatalf("parsing %x changed it", before)
		}
		if err != nil {
			return
		}
		if got := encode(m); !bytes.Equal(got, b) {
			t.Errorf("%x is read as %+v, which is %x", b, m, got)
		}
	})
}

func FuzzParseHello(f *testing.F) {
	for _, e := range examples() {
		if e.typ == frameHello {
			f.Add(e.body)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, known, err := parseHello(b)
		switch common := h.min <= versionMax && h.max >= versionMin; {
		case err != nil:
			if known {
				t.Errorf("%x is known and refused: %v", b, err)
			}
		case !known && (common || h.min > h.max):
			t.Errorf("%x is of another version, but offers %d to %d", b, h.min, h.max)
		case known && !bytes.Equal(h.append(), b):
			t.Errorf("%x is read as %+v, which is %x", b, h, h.append())
		}
	})
}

func FuzzParseWelcome(f *testing.F) {
	fuzzMessage(f, parseWelcome, welcome.append, frameWelcome)
}

func FuzzParseGoodbye(f *testing.F) {
	f.Add(goodbye{CodeStore, strings.Repeat("ä", maxReason/2)}.append())
	fuzzMessage(f, parseGoodbye, goodbye.append, frameRefused, frameBye)
}

func FuzzParseHead(f *testing.F) { fuzzMessage(f, parseHead, head.append, frameHead) }

func FuzzParseAck(f *testing.F) { fuzzMessage(f, parseAck, ack.append, frameAck) }

func FuzzParseSyncAsk(f *testing.F) { fuzzMessage(f, parseSyncAsk, syncAsk.append, frameSyncAsk) }

func FuzzParseSyncStart(f *testing.F) {
	fuzzMessage(f, parseSyncStart, syncStart.append, frameSyncStart)
}

func FuzzParseSyncDone(f *testing.F) {
	fuzzMessage(f, parseSyncDone, syncDone.append, frameSyncDone)
}

func FuzzParseCompare(f *testing.F) { fuzzMessage(f, parseCompare, compare.append, frameCompare) }

func FuzzParsePair(f *testing.F) {
	parse := func(b []byte) (pair, error) { return parsePair("pair", b) }
	fuzzMessage(f, parse, pair.append, frameSyncQueued, frameChunkAck)
}

func FuzzParseSyncResult(f *testing.F) {
	fuzzMessage(f, parseSyncResult, syncResult.append, frameSyncResult)
}

// Chunks are encoded as they grow: what was read is built again item by item.
func FuzzParseChunk(f *testing.F) {
	for _, e := range examples() {
		if e.typ == frameItems || e.typ == frameKeys {
			f.Add(e.typ == frameItems, e.body)
		}
	}
	f.Fuzz(func(t *testing.T, items bool, b []byte) {
		typ, fields := frameKeys, 1
		if items {
			typ, fields = frameItems, 2
		}
		m, err := parseChunk(typ, b)
		if err != nil {
			return
		}
		c := newChunkWriter(len(b))
		for i, op := range m.ops {
			switch {
			case len(op.Key) == 0:
				t.Errorf("%x is accepted, and has an empty key", b)
			case !items:
				c.key(op.Key)
			case m.unsendable[i]:
				c.unsendable(op.Key)
			default:
				c.item(op.Key, op.Value)
			}
		}
		if got := c.body(m.id, m.seq, m.offset, fields); !bytes.Equal(got, b) {
			t.Errorf("%x is read as %+v, which is %x", b, m, got)
		}
	})
}

// What a master remembers of a follower is no frame, but it is read back from
// the store, which may be damaged.
func FuzzParseEntry(f *testing.F) {
	e := entry{FollowerStatus: FollowerStatus{Acked: 5, Durable: true, Complete: true, Address: "192.0.2.1:7600"}, epoch: exampleEpoch}
	f.Add(e.append())
	e.Address = strings.Repeat("long ", 100)
	f.Add(e.append())
	parse := func(b []byte) (*entry, error) { return parseEntry("f1", b) }
	fuzzMessage(f, parse, (*entry).append)
}

// TestClip checks that a sentence is cut only if a frame cannot hold it, at a
// rune, and that what is written can always be read.
func TestClip(t *testing.T) {
	for _, s := range []string{
		"", "a sentence", strings.Repeat("x", maxReason), strings.Repeat("x", maxReason+1), strings.Repeat("x", 5000),
		strings.Repeat("ä", maxReason/2), strings.Repeat("ä", maxReason), "x" + strings.Repeat("€", maxReason),
		strings.Repeat("\xff", maxReason), strings.Repeat("\xffa", maxReason/2),
	} {
		m, err := parseGoodbye(goodbye{CodeEnding, s}.append())
		if err != nil {
			t.Errorf("a reason of %d bytes cannot be read: %v", len(s), err)
		}
		if valid := strings.ToValidUTF8(s, "\uFFFD"); len(valid) <= maxReason && m.reason != valid {
			t.Errorf("a reason of %d bytes came as %d bytes", len(s), len(m.reason))
		} else if !strings.HasPrefix(valid, strings.TrimSuffix(m.reason, "…")) || len(valid) > maxReason && len(m.reason) < maxReason-6 {
			t.Errorf("a reason of %d bytes came as %d others", len(s), len(m.reason))
		}
	}
}
