package replica

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/stream"
	"github.com/sdiff/sdiff/transport"
)

var update = flag.Bool("update", false, "rewrite testdata/frames.txt; its lines then belong in docs/PROTOCOL.md")

// An example is one fixed frame, as docs/PROTOCOL.md shows it.
type example struct {
	name  string
	typ   byte
	way   string
	body  []byte
	notes []note // on the values of the body, in order, the arrays among them
	parse func([]byte) error
	// whole are the lengths to which the body can be cut and still be one.
	whole []int
}

// A note says what one value is.
type note struct {
	text string
	in   []note  // if it is a byte string that holds values itself
	raw  []piece // if it is a byte string that holds something else
}

type piece struct {
	bytes []byte
	text  string
}

func say(texts ...string) []note {
	list := make([]note, len(texts))
	for i, text := range texts {
		list[i].text = text
	}
	return list
}

// The dataset of the examples: three keys at offset 3, one more at offset 4,
// one less at offset 5.
var (
	exampleDataset = stream.ID(sixteen(0x10))
	exampleEpoch   = stream.Epoch(sixteen(0xa0))
	earlierEpoch   = stream.Epoch(sixteen(0xb0))

	at2 = summaryOf("key1", "one", "key2", "two")
	at3 = summaryOf("key1", "one", "key2", "two", "key3", "three")
	at4 = summaryOf("key1", "one", "key2", "two", "key3", "three", "key4", "four")
	at5 = summaryOf("key2", "two", "key3", "three", "key4", "four")
)

func sixteen(first byte) (b [16]byte) {
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func hashOf(key, value string) uint64 { return merkle.XXH64().Hash([]byte(key), []byte(value)) }

func summaryOf(items ...string) (s merkle.Summary) {
	for i := 0; i < len(items); i += 2 {
		s = s.Add(merkle.Summary{Count: 1, Sum: hashOf(items[i], items[i+1])})
	}
	return s
}

func exampleAt(offset uint64, s merkle.Summary) stream.Position {
	return stream.Position{Epoch: exampleEpoch, Offset: offset, Fingerprint: s}
}

func exampleCommits() []byte {
	w := wire.NewWriter(nil)
	stream.AppendCommit(w, &stream.Commit{Offset: 4, Time: 1_700_000_000_000, Fingerprint: at4, Ops: []stream.Op{{Key: []byte("key4"), Value: []byte("four")}}})
	stream.AppendCommit(w, &stream.Commit{Offset: 5, Time: 1_700_000_000_250, Fingerprint: at5, Ops: []stream.Op{{Key: []byte("key1"), Delete: true}}})
	return w.Out()
}

func parseCommits(b []byte) error {
	d := stream.NewDecoder(b)
	for c := new(stream.Commit); d.Next(c); {
	}
	return d.Err()
}

func exampleItems() []byte {
	c := newChunkWriter(0)
	c.item([]byte("key2"), []byte("two"))
	c.unsendable([]byte("key3"))
	return c.body(1, 1, 5, 2)
}

func exampleKeys() []byte {
	c := newChunkWriter(0)
	c.key([]byte("key2"))
	c.key([]byte("key3"))
	return c.body(2, 1, 0, 1)
}

// A future hello is of a version that this code does not speak.
func futureHello() []byte {
	w := wire.NewWriter(nil)
	w.Array(4)
	w.String(magic)
	w.Uint(2)
	w.Uint(3)
	w.String("what version 2 says")
	return w.Out()
}

func parser[T any](parse func([]byte) (T, error)) func([]byte) error {
	return func(b []byte) error {
		_, err := parse(b)
		return err
	}
}

func notesOfPosition(of string) []note {
	return say(of, "epoch", "offset", "fingerprint: count", "sum")
}

func join(lists ...[]note) (all []note) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func examples() []example {
	const toMaster, toFollower = "follower to master", "master to follower"
	commits := exampleCommits()
	first, _ := stream.Record{First: 4, Last: 5, Body: commits}.From(5)
	list := []example{
		{name: "hello", typ: frameHello, way: toMaster,
			body:  hello{min: 1, max: 1, dataset: exampleDataset, id: "f1", hash: "xxh64", pos: exampleAt(3, at3), summary: at3, complete: true, durable: true}.append(),
			notes: join(say("array of 12", `"sdiff"`, "lowest version", "highest version", "dataset", `follower id "f1"`, `item hash "xxh64"`), notesOfPosition("position"), say("own summary", "count", "sum", "base complete: true", "acks are durable: true", "rollback accepted: false", "reserved")),
			parse: func(b []byte) error { _, _, err := parseHello(b); return err }},
		{name: "hello of other versions", typ: frameHello, way: toMaster, body: futureHello(),
			notes: say("array of any count from 3", `"sdiff"`, "lowest version", "highest version", "not looked at"),
			parse: func(b []byte) error { _, _, err := parseHello(b); return err }},
		{name: "welcome", typ: frameWelcome, way: toFollower,
			body:  welcome{version: 1, dataset: exampleDataset, head: exampleAt(5, at5), start: exampleAt(3, at3), resume: true, history: []stream.Position{{Epoch: earlierEpoch, Offset: 2, Fingerprint: at2}}}.append(),
			notes: join(say("array of 8", "version", "dataset"), notesOfPosition("head"), notesOfPosition("start"), say("resume: true", "repair: false", "why: nothing to say", "history: one earlier epoch"), notesOfPosition("where it ended")),
			parse: parser(parseWelcome)},
		{name: "refused", typ: frameRefused, way: toFollower,
			body:  goodbye{CodeHistory, "this master does not know that history"}.append(),
			notes: say("array of 2", "code 5, history", "reason"), parse: parser(parseGoodbye)},
		{name: "commits", typ: frameCommits, way: toFollower, body: commits, whole: []int{0, len(commits) - len(first.Body)},
			notes: join(say("a commit: array of 5", "offset 4", "time", "fingerprint: count", "sum", "one op", "key4", "value"), say("the next: array of 5", "offset 5", "time", "fingerprint: count", "sum", "one op", "key1", "deleted")),
			parse: parseCommits},
		{name: "head", typ: frameHead, way: toFollower, body: head{exampleAt(5, at5)}.append(),
			notes: join(say("array of 1"), notesOfPosition("head")), parse: parser(parseHead)},
		{name: "ack", typ: frameAck, way: toMaster, body: ack{offset: 5, summary: at5, complete: true, state: "streaming"}.append(),
			notes: say("array of 4", "offset", "own summary", "count", "sum", "base complete: true", `state "streaming"`), parse: parser(parseAck)},
		{name: "sync ask", typ: frameSyncAsk, way: toMaster, body: syncAsk{id: 1}.append(),
			notes: say("array of 3", "comparison 1", "dry run: false", "no opening"), parse: parser(parseSyncAsk)},
		{name: "sync queued", typ: frameSyncQueued, way: toFollower, body: pair{1, 4}.append(),
			notes: say("array of 2", "comparison 1", "served at once: 4"), parse: parser(func(b []byte) (pair, error) { return parsePair("sync queued", b) })},
		{name: "sync start", typ: frameSyncStart, way: toFollower, body: syncStart{id: 1, pos: exampleAt(5, at5)}.append(),
			notes: join(say("array of 3", "comparison 1"), notesOfPosition("position h"), say("the opening is answered: false")), parse: parser(parseSyncStart)},
	}
	list = append(list, comparisons()...)
	return append(list, []example{
		{name: "items", typ: frameItems, way: toFollower, body: exampleItems(),
			notes: say("array of 4", "comparison 1", "chunk 1", "offset p", "array of 4: two items", "key2", "value", "key3", "its value cannot be sent"),
			parse: parser(func(b []byte) (chunk, error) { return parseChunk(frameItems, b) })},
		{name: "keys", typ: frameKeys, way: toFollower, body: exampleKeys(),
			notes: say("array of 4", "comparison 2", "chunk 1", "0", "array of 2", "key2", "key3"),
			parse: parser(func(b []byte) (chunk, error) { return parseChunk(frameKeys, b) })},
		{name: "chunk ack", typ: frameChunkAck, way: toMaster, body: pair{1, 1}.append(),
			notes: say("array of 2", "comparison 1", "chunk 1"), parse: parser(func(b []byte) (pair, error) { return parsePair("chunk ack", b) })},
		{name: "sync done", typ: frameSyncDone, way: toFollower, body: syncDone{id: 1, pos: exampleAt(5, at5), unsendable: 1, why: "about 3 items differ"}.append(),
			notes: join(say("array of 5", "comparison 1"), notesOfPosition("position q"), say("unsendable keys", "ranges not compared", "why it was compared so")), parse: parser(parseSyncDone)},
		{name: "sync result", typ: frameSyncResult, way: toMaster, body: syncResult{1, string(Different), "1 keys are damaged at the master"}.append(),
			notes: say("array of 3", "comparison 1", "outcome", "reason"), parse: parser(parseSyncResult)},
		{name: "bye", typ: frameBye, way: "both ways", body: goodbye{CodeEnding, "going down"}.append(),
			notes: say("array of 2", "code 8, ending", "reason"), parse: parser(parseGoodbye)},
	}...)
}

// comparisons are examples of all that package diff says. They are put
// together by hand here: what a message means is fixed, when a session says it
// is not.
func comparisons() []example {
	sum := func(text string, s merkle.Summary) []piece {
		return []piece{{[]byte{byte(s.Count)}, text + ": count"}, {binary.BigEndian.AppendUint64(nil, s.Sum), "sum"}}
	}
	summaries := append([]piece{{[]byte{0x04}, "summary of a part, skip 0"}, {[]byte{0}, "bound: 0 bytes as before"}, {append([]byte{4}, "key2"...), `and 4 more: "key2"`}}, sum("up to the bound", summaryOf("key1", "one"))...)
	summaries = append(append(summaries, piece{[]byte{0x00}, "summary of the last part"}), sum("from the bound on", summaryOf("key2", "two", "key3", "three"))...)
	items := []piece{{[]byte{0x09}, "list, skip 1"}, {[]byte{2}, "of two items"},
		{binary.BigEndian.AppendUint64(nil, hashOf("key2", "2")), "hash of the first"}, {binary.BigEndian.AppendUint64(nil, hashOf("key3", "three")), "and the second"}}
	verdict := []piece{{[]byte{0x03}, "verdict, skip 0"}, {[]byte{1}, "one byte"}, {[]byte{0b01}, "the first is not here"}}
	request := []piece{{[]byte{0x0a}, "request to list, skip 1"}}
	level := func(name string, n uint64, more bool, text string, entries []piece) example {
		e := example{name: "compare: " + name, typ: frameCompare, way: "both ways"}
		w := wire.NewWriter(nil)
		w.Array(5)
		w.Uint(1)
		w.Uint(n)
		w.Bool(more)
		w.Uint(0)
		w.Bytes(concat(entries))
		e.body = compare{1, w.Out()}.append()
		in := say("array of 5", "a level", fmt.Sprintf("number %d", n), "more follows: "+fmt.Sprint(more), "ranges not compared", text)
		in[5].raw = entries
		e.notes = say("array of 2", "comparison 1", "message")
		e.notes[2].in = in
		return e
	}
	w := wire.NewWriter(nil)
	w.Array(2)
	w.Uint(2)
	w.Uint(2)
	ack := example{name: "compare: ack", typ: frameCompare, way: "both ways", body: compare{1, w.Out()}.append(), notes: say("array of 2", "comparison 1", "message")}
	ack.notes[2].in = say("array of 2", "an ack", "of level 2")
	list := []example{
		level("summaries", 1, false, "entries", summaries),
		level("list", 2, false, "entries", items),
		level("verdict", 3, false, "entries", verdict),
		level("request", 2, true, "entries", request),
		ack,
	}
	list = append(list, sketches()...)
	for i := range list {
		list[i].parse = func(b []byte) error {
			c, err := parseCompare(b)
			if err == nil {
				_, err = diff.Parse(c.msg)
			}
			return err
		}
	}
	return list
}

// TestComparisonExamples holds what the notes on the examples say against what
// package diff reads in them.
func TestComparisonExamples(t *testing.T) {
	want := []string{
		fmt.Sprintf("level 1\n  to \"key2\": 1 items, sum %x\n  to the end: 2 items, sum %x", summaryOf("key1", "one").Sum, summaryOf("key2", "two", "key3", "three").Sum),
		fmt.Sprintf("level 2\n  skip 1, holds %x %x", hashOf("key2", "2"), hashOf("key3", "three")),
		"level 3\n  lacks #0",
		"level 2, more follows\n  skip 1, list yours",
		"ack of level 2",
	}
	if got := len(comparisons()); got != len(want)+len(sketches()) {
		t.Fatalf("%d examples", got)
	}
	want = append(want, "holds 2 items", "group 0 of 1, cells from 0 of 1", "send cells up to 9 of groups 1", "lacks 1 items", "agreed")
	for i, e := range comparisons() {
		c, err := parseCompare(e.body)
		if err != nil {
			t.Fatalf("%s: %v", e.name, err)
		}
		m, err := diff.Parse(c.msg)
		if err != nil || !strings.Contains(m.String(), want[i]) || !bytes.Equal(m.Append(nil), c.msg) {
			t.Errorf("%s: Parse = %v, %v, want %v", e.name, m, err, want[i])
		}
	}
}

// TestFrames encodes one example of every frame and holds it against
// testdata/frames.txt, and that against docs/PROTOCOL.md.
func TestFrames(t *testing.T) {
	var got strings.Builder
	seen := map[byte]bool{}
	for _, e := range examples() {
		seen[e.typ] = true
		fmt.Fprintf(&got, "%s: type %d, %s, %d bytes\n", e.name, e.typ, e.way, len(e.body))
		if err := dump(&got, 0, e.body, e.notes); err != nil {
			t.Fatalf("%s: %v", e.name, err)
		}
		got.WriteByte('\n')
	}
	for typ := frameHello; typ <= frameBye; typ++ {
		if !seen[typ] {
			t.Errorf("frame type %d has no example", typ)
		}
	}
	wholeFrame(t, &got)

	const golden = "testdata/frames.txt"
	if *update {
		if err := os.MkdirAll("testdata", 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(got.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the frames are not those of %s, and with them the protocol is another. Got:\n%s", golden, got.String())
	}
	doc, err := os.ReadFile("../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(want)) {
		if !strings.Contains(string(doc), line) {
			t.Errorf("docs/PROTOCOL.md lacks this line of %s:\n%s", golden, line)
		}
	}
}

// TestTruncatedFrames checks that an example is read, and nothing less of it
// is: neither is one with more behind it.
func TestTruncatedFrames(t *testing.T) {
	for _, e := range examples() {
		if err := e.parse(e.body); err != nil {
			t.Errorf("%s: %v", e.name, err)
		}
		for n := range e.body {
			whole := slices.Contains(e.whole, n)
			if err := e.parse(e.body[:n]); (err == nil) != whole {
				t.Errorf("%s cut to %d of %d bytes: error %v, want one: %t", e.name, n, len(e.body), err, !whole)
			}
		}
		if e.name == "hello of other versions" {
			continue // what follows the versions is that version's business
		}
		if err := e.parse(append(bytes.Clone(e.body), 0)); err == nil {
			t.Errorf("%s is read with a byte too many", e.name)
		}
	}
}

// wholeFrame shows a frame as it is on the wire.
func wholeFrame(t *testing.T, out io.Writer) {
	near, far := transport.Pipe()
	body := pair{1, 1}.append()
	if err := transport.NewConn(near).Write(transport.Frame{Type: frameChunkAck, Body: body}); err != nil {
		t.Fatal(err)
	}
	near.Close()
	b, err := io.ReadAll(far)
	if err != nil || len(b) != len(body)+transport.Overhead {
		t.Fatalf("read a frame of %d bytes, %v", len(b), err)
	}
	end := len(b) - 4
	fmt.Fprintf(out, "a whole frame: %d bytes\n", len(b))
	line(out, 0, b[:4], "length of the body")
	line(out, 0, b[4:5], "type 13, chunk ack")
	line(out, 0, b[5:6], "check of these")
	line(out, 0, b[6:end], "body")
	line(out, 0, b[end:], "CRC-32C of all before")
}

func concat(pieces []piece) (b []byte) {
	for _, p := range pieces {
		b = append(b, p.bytes...)
	}
	return b
}

// line writes bytes and what they are, the bytes of long values in several
// lines.
func line(out io.Writer, depth int, b []byte, text string) {
	const most = 18
	for i := 0; i == 0 || i < len(b); i += most {
		s := strings.TrimRight(fmt.Sprintf("%*s%-*s%s", 2+2*depth, "", 60-2*depth, fmt.Sprintf("% x", b[i:min(len(b), i+most)]), text), " ")
		fmt.Fprintln(out, s)
		text = ""
	}
}

// dump writes values one a line, those of an array further to the right. It
// knows as much msgpack as the protocol uses, and shares no code with package
// wire.
func dump(out io.Writer, depth int, b []byte, notes []note) error {
	var open []int // elements to come of the arrays around
	for len(b) > 0 {
		if len(notes) == 0 {
			return fmt.Errorf("no note on %x", b)
		}
		head, size, elements := value(b)
		n := notes[0]
		notes = notes[1:]
		switch {
		case n.in != nil:
			line(out, depth+len(open), b[:head], n.text)
			if err := dump(out, depth+len(open)+1, b[head:size], n.in); err != nil {
				return err
			}
		case n.raw != nil:
			line(out, depth+len(open), b[:head], n.text)
			if got := hex.EncodeToString(concat(n.raw)); got != hex.EncodeToString(b[head:size]) {
				return fmt.Errorf("%s: the pieces are %s", n.text, got)
			}
			for _, p := range n.raw {
				line(out, depth+len(open)+1, p.bytes, p.text)
			}
		default:
			line(out, depth+len(open), b[:size], n.text)
		}
		b = b[size:]
		if len(open) > 0 {
			open[len(open)-1]--
		}
		open = append(open, elements)
		for len(open) > 0 && open[len(open)-1] == 0 {
			open = open[:len(open)-1]
		}
	}
	if len(notes) > 0 || len(open) > 0 {
		return fmt.Errorf("notes left over: %v, or arrays open: %v", notes, open)
	}
	return nil
}

// value returns how long the first value of b is, how much of that comes
// before its content, and how many elements follow it if it is an array.
func value(b []byte) (head, size, elements int) {
	number := func(n int) int {
		v := 0
		for _, c := range b[1 : 1+n] {
			v = v<<8 | int(c)
		}
		return v
	}
	switch c := b[0]; {
	case c < 0x80, c == 0xc0, c == 0xc2, c == 0xc3:
		return 1, 1, 0
	case c < 0xa0:
		return 1, 1, int(c & 0x0f)
	case c < 0xc0:
		return 1, 1 + int(c&0x1f), 0
	case c == 0xc4, c == 0xd9:
		return 2, 2 + number(1), 0
	case c == 0xc5, c == 0xda:
		return 3, 3 + number(2), 0
	case c >= 0xcc && c <= 0xcf:
		n := 1 << (c - 0xcc)
		return 1 + n, 1 + n, 0
	}
	panic(fmt.Sprintf("no example has a value that begins with %x", b[0]))
}
