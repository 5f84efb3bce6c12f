package replica_test

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/stream"
)

// join connects a puppet and has it welcomed.
func join(t *testing.T, h *hub, id string) *testPeer {
	t.Helper()
	g := newGreeting()
	g.id = id
	p := greet(t, h, g)
	p.want("a follower is welcome", welcome)
	return p
}

// treeOf returns the tree of a copy that holds these items.
func treeOf(all map[string]string) *merkle.Snapshot {
	var t merkle.Tree
	for k, v := range all {
		t.Put([]byte(k), merkle.XXH64().Hash([]byte(k), []byte(v)))
	}
	return t.Snapshot()
}

// A heard is what a master sent in the course of a comparison.
type heard struct {
	start  uint64            // offset of the sync start
	items  map[string]string // by key
	keys   []string          // of a dry run
	bad    []string          // unsendable
	chunks int
	done   message
}

// compareAs has a puppet that holds these items compare them with the
// master's, up to sync done. onFrame is told of each frame before it is dealt
// with; commits are passed over.
func (p *testPeer) compareAs(id int, dry bool, all map[string]string, onFrame func(message)) heard {
	p.t.Helper()
	p.send(syncAsk, id, dry, []byte{})
	h := heard{items: map[string]string{}}
	var s *diff.Session
	offset := uint64(0) // of the newest commit that came
	talk := func(out []diff.Message, err error) {
		if err != nil {
			p.t.Fatal(err)
		}
		for _, m := range out {
			p.send(compare, id, m.Append(nil))
		}
	}
	for {
		m, err := p.receive(time.Minute)
		if err != nil {
			p.t.Fatal(err)
		}
		if onFrame != nil {
			onFrame(m)
		}
		if m.typ != commits && m.num(p.t, 0) != uint64(id) {
			continue // of an earlier one
		}
		switch m.typ {
		case syncQueued:
		case commits:
			o := m.offsets(p.t)
			offset = o[len(o)-1]
		case syncStart:
			h.start = m.position(p.t, 1).Offset
			if offset != 0 && offset != h.start {
				p.t.Errorf("the comparison starts at %d, behind commit %d", h.start, offset)
			}
			s = diff.New(treeOf(all), diff.Config{})
			talk(s.Start())
		case compare:
			msg, err := diff.Parse(m.fields[1].([]byte))
			if err != nil {
				p.t.Fatal(err)
			}
			talk(s.Step(msg))
		case items, keys:
			h.chunks++
			if at := m.num(p.t, 2); m.typ == items && offset != 0 && at != offset {
				p.t.Errorf("R2: a chunk of offset %d came behind commit %d", at, offset)
			}
			h.take(p.t, m)
			p.send(chunkAck, id, m.num(p.t, 1))
		case syncDone:
			h.done = m
			return h
		default:
			p.t.Fatalf("in a comparison: %v", m)
		}
	}
}

func (h *heard) take(t *testing.T, m message) {
	t.Helper()
	all := m.fields[3].([]any)
	for i := 0; i < len(all); i++ {
		key := string(all[i].([]byte))
		if m.typ == keys {
			h.keys = append(h.keys, key)
			continue
		}
		i++
		if all[i] == nil {
			h.bad = append(h.bad, key)
		} else {
			h.items[key] = string(all[i].([]byte))
		}
	}
}

// A master gets what only it holds to the follower, and nothing else.
func TestComparisonWithAMaster(t *testing.T) {
	for name, dry := range map[string]bool{"repair": false, "dry run": true} {
		t.Run(name, func(t *testing.T) {
			withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
				p := join(t, h, "f")
				got := p.compareAs(7, dry, map[string]string{"a": "1", "b": "old", "x": "extra"}, nil)
				if got.start != 3 || got.done.num(t, 0) != 7 || got.done.num(t, 1, 1) != 3 {
					t.Errorf("start at %d, %v, want 3 and 7, 3", got.start, got.done)
				}
				if dry {
					if slices.Sort(got.keys); !slices.Equal(got.keys, []string{"b", "c"}) || len(got.items) != 0 {
						t.Errorf("a dry run sent keys %q and items %q, want b and c", got.keys, got.items)
					}
				} else if fmt.Sprint(got.items) != "map[b:2 c:3]" || len(got.keys) != 0 {
					t.Errorf("sent %q, want b and c", got.items)
				}
				p.send(syncResult, 7, "repaired", "")
				// The next one begins anew.
				if got := p.compareAs(8, dry, contents(t, m.st), nil); got.chunks != 0 {
					t.Errorf("%d chunks for equal copies", got.chunks)
				}
			})
		})
	}
}

// R1, R2: commits go on during a comparison; a chunk carries the state of the
// very offset behind which it comes; a key that was written since the
// comparison began is left to the stream.
func TestR2ChunksCarryTheStateOfTheirPlaceInTheStream(t *testing.T) {
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
		m.fill(5000, "old")
		p := join(t, h, "f")
		held := map[string]string{"key000100": "theirs", "key000200": "theirs", "zzz": "extra"}
		writes := 0
		got := p.compareAs(1, false, held, func(msg message) {
			if msg.typ == syncStart || msg.typ == items {
				writes++
				m.put("key000100", fmt.Sprint("new", writes)) // differs: left to the stream
				m.put("key004999", fmt.Sprint("new", writes)) // in a range that the follower lacks
				m.put(fmt.Sprint("zz", writes), "born later")
			}
		})
		if writes < 2 || got.done.num(t, 1, 1) <= got.start {
			t.Fatalf("%d writes during the comparison, which ended at %v: too few to test anything", writes, got.done)
		}
		if v, ok := got.items["key000100"]; ok {
			t.Errorf("key000100 = %q was sent, though the stream had told better", v)
		}
		if got.items["key000200"] != "old" || len(got.items) < 4990 {
			t.Errorf("%d items were sent, key000200 = %q, want nearly all", len(got.items), got.items["key000200"])
		}
		p.send(syncResult, 1, "different", "")
		// A follower that holds nothing gets ranges whole, as they are then.
		got = p.compareAs(2, false, nil, func(msg message) {
			if msg.typ == syncStart {
				m.put("key000100", "newest")
				m.del("key000300")
			}
		})
		_, deleted := got.items["key000300"]
		if v := got.items["key000100"]; v != "newest" || deleted {
			t.Errorf("key000100 = %q was sent, key000300: %v; want the state of the chunk's offset", v, deleted)
		}
	})
}

// R8: what the master's store does not hold as its tree says is named, counted
// and never sent.
func TestR8DamagedValuesAreNotSent(t *testing.T) {
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
		m.fill(300, "good")
		m.st.Tamper([]byte("b"), []byte("bad"))         // a key that differs
		m.st.Tamper([]byte("key000100"), []byte("bad")) // in a range that is sent whole
		m.st.Drop([]byte("key000200"))
		m.st.Drop([]byte("key000299"))
		m.st.Tamper([]byte("key000150x"), []byte("stray"))
		p := join(t, h, "f")
		for i, held := range []map[string]string{{"a": "1", "b": "old", "c": "3"}, nil} {
			got := p.compareAs(i, false, held, nil)
			slices.Sort(got.bad)
			if want := []string{"b", "key000100", "key000200", "key000299"}; !slices.Equal(got.bad, want) || got.done.num(t, 2) != 4 {
				t.Errorf("unsendable: %q, %v, want %q", got.bad, got.done, want)
			}
			if want := 297 + 2*i; len(got.items) != want || got.items["key000150x"] != "" {
				t.Errorf("%d items were sent, a stray one %q, want %d and none", len(got.items), got.items["key000150x"], want)
			}
		}
	})
}

// A range whose keys are all lost, and long, is told in bounded chunks.
func TestR8ManyLongKeysLostAreToldInBoundedChunks(t *testing.T) {
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
		const n = 500
		long := strings.Repeat("k", 20_000)
		for i := range n {
			key := fmt.Sprintf("%s%03d", long, i)
			m.put(key, "")
			m.st.Drop([]byte(key))
		}
		p := join(t, h, "f")
		largest := 0
		got := p.compareAs(1, false, nil, func(msg message) {
			largest = max(largest, len(msg.body))
		})
		if len(got.bad) != n || largest > 2<<20 {
			t.Errorf("%d unsendable in chunks of up to %d bytes, want %d in at most 2 MiB", len(got.bad), largest, n)
		}
	})
}

// What a follower may not say after welcome ends its session, with a reason,
// and nobody else's.
func TestFollowersThatBreakTheProtocol(t *testing.T) {
	sum := merkle.Summary{}
	position := stream.Position{}
	type frame struct {
		typ  byte
		body []byte
	}
	cases := map[string][]frame{
		"an ack of what was not sent": {{ack, encode(4, sum, true, "streaming")}},
		"a hello again":               {{hello, encode(newGreeting().fields()...)}},
		"type 0":                      {{0, nil}},
		"type 99":                     {{99, encode(1)}},
		"a message before its start":  {{syncAsk, encode(1, false, []byte{})}, {compare, encode(1, []byte{0x92, 2, 1})}, {compare, encode(1, []byte{0x92, 2, 1})}},
		"no comparison message":       {{syncAsk, encode(1, false, []byte{})}, {compare, encode(1, []byte("nonsense"))}},
		"an opening of noise":         {{syncAsk, encode(1, false, []byte("nonsense"))}},
		"an opening that is an ack":   {{syncAsk, encode(1, false, []byte{0x92, 2, 1})}},
		"a long opening":              {{syncAsk, encode(1, false, make([]byte, 2000))}},
		"a chunk that was not sent":   {{syncAsk, encode(1, false, []byte{})}, {chunkAck, encode(1, 1)}},
	}
	for _, typ := range []byte{welcome, refused, commits, head, syncQueued, syncStart, items, keys, syncDone} {
		cases[fmt.Sprintf("the master's own frame %d", typ)] = []frame{{typ, encode(1, position, 0, 0)}}
	}
	for _, typ := range []byte{ack, syncAsk, bye} {
		for what, body := range map[string][]byte{
			"nothing": {}, "garbage": {0xc1, 0xff}, "a bomb": {0xdd, 0xff, 0xff, 0xff, 0xff}, "a short array": encode(1),
			"a long number": {0x92, 0xcd, 0x00, 0x01, 0xc2}, "more": append(encode(1, false), 0), "nested": bytes.Repeat([]byte{0x91}, 200),
		} {
			cases[fmt.Sprintf("frame %d with %s", typ, what)] = []frame{{typ, body}}
		}
	}
	for _, typ := range []byte{compare, chunkAck, syncResult} {
		cases[fmt.Sprintf("frame %d with garbage in a comparison", typ)] = []frame{{syncAsk, encode(1, false, []byte{})}, {typ, []byte{0xc1}}}
	}
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
		witness := join(t, h, "witness")
		for name, frames := range cases {
			p := join(t, h, "f")
			p.ignore = append(p.ignore, syncStart)
			for _, f := range frames {
				p.sendRaw(f.typ, f.body)
			}
			p.wantEnd(name, bye, replica.CodeProtocol)
			synctest.Wait()
		}
		p := join(t, h, "f")
		io.WriteString(p.nc, header(compare, 256<<10+1))
		p.wantClosed("too large a frame")
		synctest.Wait()
		pos := m.put("d", "4")
		if got := witness.want("the others never noticed", commits).offsets(t); got[0] != pos.Offset {
			t.Errorf("got %d, want %d", got, pos.Offset)
		}
	})
}

// What belongs to a comparison that is over is passed over.
func TestStaleSyncFramesArePassedOver(t *testing.T) {
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
		p := join(t, h, "f")
		p.send(compare, 1, []byte("whatever"))
		p.send(chunkAck, 1, 5)
		p.send(syncResult, 1, "same", "")
		p.send(syncAsk, 2, false, []byte{})
		p.send(syncAsk, 3, false, []byte{}) // replaces it
		p.send(compare, 2, []byte("whatever"))
		p.send(chunkAck, 2, 5)
		p.send(syncResult, 2, "same", "")
		m1 := p.want("the comparison begins", syncStart)
		if m1.num(t, 0) == 2 { // it may have begun already
			m1 = p.want("the next comparison begins", syncStart)
		}
		if m1.num(t, 0) != 3 {
			t.Errorf("got %v, want the start of 3", m1)
		}
		p.wantIdle("nothing else", time.Second)
	})
}

// The places for comparisons are few; who waits is told, and gets the next one
// that is free, however it became free.
func TestComparisonsWaitTheirTurn(t *testing.T) {
	withMaster(t, replica.MasterConfig{MaxRepairs: 1}, func(t *testing.T, m *master, h *hub) {
		one, two, three := join(t, h, "1"), join(t, h, "2"), join(t, h, "3")
		one.send(syncAsk, 1, false, []byte{})
		one.want("the first begins at once", syncStart)
		two.send(syncAsk, 1, false, []byte{})
		if q := two.want("the second waits", syncQueued); q.num(t, 0) != 1 || q.num(t, 1) != 1 {
			t.Errorf("got %v, want 1, 1", q)
		}
		two.wantIdle("and waits", time.Second)
		m.put("d", "4")
		two.want("commits come all the same", commits)
		one.nc.Close() // gone in the middle
		two.want("a place is free", syncStart)
		three.want("commits come", commits)
		three.send(syncAsk, 5, true, []byte{})
		three.want("the third waits", syncQueued)
		two.send(syncResult, 1, "could not tell", "the user lost interest")
		three.want("a place is free", syncStart)
	})
}

// A follower that lets a comparison hang loses its place.
func TestAComparisonThatHangsLosesItsPlace(t *testing.T) {
	withMaster(t, replica.MasterConfig{MaxRepairs: 1}, func(t *testing.T, m *master, h *hub) {
		one, two := join(t, h, "1"), join(t, h, "2")
		one.send(syncAsk, 1, false, []byte{})
		one.want("it begins", syncStart)
		two.send(syncAsk, 1, false, []byte{})
		two.want("the other waits", syncQueued)
		began := time.Now()
		ended, free := false, false
		for !ended || !free {
			for _, p := range []*testPeer{one, two} {
				if p == one && ended {
					continue
				}
				p.send(ack, 3, merkle.Summary{}, false, "comparing")
				if msg, err := p.receive(time.Second); err == nil {
					ended = ended || p == one && msg.typ == bye
					free = free || p == two && msg.typ == syncStart
				}
			}
			if time.Since(began) > 3*time.Minute {
				t.Fatalf("after 3 minutes: the session that hangs has ended: %v, its place is free: %v", ended, free)
			}
		}
	})
}
