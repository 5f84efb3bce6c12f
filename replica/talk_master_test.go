package replica_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// withMaster has a conversation with a master that holds a, b and c, written
// by three commits.
func withMaster(t *testing.T, cfg replica.MasterConfig, talk func(t *testing.T, m *master, h *hub)) {
	t.Helper()
	bubble(t, func(t *testing.T) {
		h := &hub{}
		cfg.Listener, cfg.Scrub = h.listen(), -1
		m := startMaster(t, store.NewMemory(), cfg)
		m.put("a", "1")
		m.put("b", "2")
		m.put("c", "3")
		talk(t, m, h)
	})
}

// positions returns the positions of a master's commits, by offset.
func positions(t *testing.T, m *master) map[uint64]stream.Position {
	t.Helper()
	all := map[uint64]stream.Position{}
	last := m.Status().Offset
	for c, err := range m.Watch(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		all[c.Position.Offset] = c.Position
		if c.Position.Offset == last && c.Last {
			break
		}
	}
	return all
}

func TestWelcomeOfANewFollower(t *testing.T) {
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
		at := positions(t, m)[3]
		p := greet(t, h, newGreeting())
		w := p.want("a new follower is welcome", welcome)
		if w.num(t, 0) != 1 || fmt.Sprintf("%x", w.fields[1]) != m.Status().Dataset {
			t.Errorf("%v, want version 1 of dataset %s", w, m.Status().Dataset)
		}
		if w.position(t, 2) != at || w.position(t, 3) != at {
			t.Errorf("%v, want head and start at %v", w, at)
		}
		if w.fields[4] != false || w.fields[5] != true || w.fields[6] == "" {
			t.Errorf("%v, want no resumption, a repair, and why", w)
		}
		p.wantIdle("nothing comes before there is anything", 3*time.Second)
		m.put("d", "4")
		if got := p.want("the stream goes on from head", commits).offsets(t); len(got) != 1 || got[0] != 4 {
			t.Errorf("got commits %d, want 4", got)
		}
	})
}

// The confirmed position: exactly the commits that were missed.
func TestWelcomeResumes(t *testing.T) {
	withMaster(t, replica.MasterConfig{TailBytes: 1}, func(t *testing.T, m *master, h *hub) {
		at := positions(t, m)
		for offset := uint64(1); offset <= 3; offset++ {
			g := newGreeting().at(at[offset])
			g.id = fmt.Sprint("f", offset)
			p := greet(t, h, g)
			w := p.want("a follower at a confirmed position is welcome", welcome)
			if w.position(t, 3) != at[offset] || w.fields[4] != true || w.fields[5] != false {
				t.Errorf("at %d: %v, want to resume there, without a repair", offset, w)
			}
			for next := offset + 1; next <= 3; {
				got := p.want("the commits that were missed come", commits).offsets(t)
				if got[0] != next {
					t.Errorf("at %d: got commits %d, want %d", offset, got, next)
				}
				next = got[len(got)-1] + 1
			}
			p.wantIdle("nothing comes twice", time.Second)
		}
	})
}

// Its own summary is not what the position says: resume, and repair.
func TestWelcomeAdvisesARepair(t *testing.T) {
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
		g := newGreeting().at(positions(t, m)[2])
		g.summary.Sum++
		w := greet(t, h, g).want("a drifted follower is welcome", welcome)
		if w.fields[4] != true || w.fields[5] != true || !strings.Contains(w.fields[6].(string), "not what its position says") {
			t.Errorf("%v, want to resume and to repair, and why", w)
		}
		// Not complete: from head, whatever the position.
		g = newGreeting().at(positions(t, m)[2])
		g.id, g.complete = "g", false
		w = greet(t, h, g).want("an incomplete follower is welcome", welcome)
		if w.num(t, 3, 1) != 3 || w.fields[4] != false || w.fields[5] != true {
			t.Errorf("%v, want the head and a repair", w)
		}
	})
}

// P1: what the master cannot confirm parks the follower, whatever it holds; a
// person's word changes that.
func TestP1PositionsThatParkAFollower(t *testing.T) {
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
		at := positions(t, m)
		ahead, other, foreign := at[3], at[2], at[2]
		ahead.Offset = 4
		other.Fingerprint.Sum++
		foreign.Epoch = stream.NewEpoch()
		for _, tt := range []struct {
			pos   stream.Position
			words string
		}{
			{ahead, "behind the follower: it has 3 commits of that history, the follower 4"},
			{other, "different histories"},
			{foreign, "does not know the history"},
		} {
			g := newGreeting().at(tt.pos)
			greet(t, h, g).wantEnd(tt.words, refused, replica.CodeHistory, tt.words)
			fs := m.Status().Followers
			if len(fs) != 1 || fs[0].State != replica.Parked || !strings.Contains(fs[0].Why, tt.words) || fs[0].Connected {
				t.Errorf("the master's operator sees %+v, want parked and why", fs)
			}
			g.rollback = true
			p := greet(t, h, g)
			w := p.want("a person accepted it", welcome)
			if w.fields[4] != false || w.fields[5] != true || w.num(t, 3, 1) != 3 {
				t.Errorf("%v, want the head and a repair", w)
			}
			p.nc.Close()
			synctest.Wait()
		}
	})
}

// A hello that cannot be served is answered with a code and a sentence.
func TestRefusals(t *testing.T) {
	withMaster(t, replica.MasterConfig{MaxFollowers: 2}, func(t *testing.T, m *master, h *hub) {
		for _, tt := range []struct {
			name   string
			change func(*greeting)
			code   replica.Code
			words  []string
		}{
			{"newer", func(g *greeting) { g.min, g.max = 7, 9 }, replica.CodeVersion, []string{"versions 1 to 1", "7 to 9"}},
			{"older", func(g *greeting) { g.min, g.max = 0, 0 }, replica.CodeVersion, []string{"versions 1 to 1", "0 to 0"}},
			{"dataset", func(g *greeting) { g.dataset = stream.NewID() }, replica.CodeDataset, []string{m.Status().Dataset}},
			{"hash", func(g *greeting) { g.hash = "sha256:12345678" }, replica.CodeHash, []string{"xxh64", "sha256:12345678"}},
			{"min over max", func(g *greeting) { g.min, g.max = 2, 1 }, replica.CodeProtocol, []string{"2 to 1"}},
			{"no id", func(g *greeting) { g.id = "" }, replica.CodeProtocol, []string{"id"}},
			{"control bytes", func(g *greeting) { g.id = "a\x1b[31m" }, replica.CodeProtocol, []string{"id"}},
			{"long id", func(g *greeting) { g.id = strings.Repeat("x", 101) }, replica.CodeProtocol, nil},
		} {
			g := newGreeting()
			tt.change(&g)
			greet(t, h, g).wantEnd(tt.name, refused, tt.code, tt.words...)
		}
		if n := len(m.Status().Followers); n != 0 {
			t.Errorf("%d followers are known after refusals, want none", n)
		}
		// P5: one session for each id, and not more than the limit.
		g := newGreeting()
		one := greet(t, h, g)
		one.want("the first of an id is welcome", welcome)
		greet(t, h, g).wantEnd("the second is not", refused, replica.CodeDuplicate, `"puppet"`)
		g.id = "other"
		greet(t, h, g).want("another id is welcome", welcome)
		g.id = "third"
		greet(t, h, g).wantEnd("one too many is not", refused, replica.CodeFull, "2 followers")
		one.nc.Close()
		synctest.Wait()
		g.id = "puppet"
		greet(t, h, g).want("the id is free again once the session has ended", welcome)
	})
}

// Another version's hello may have any shape behind its versions.
func TestHelloOfAnotherVersionMayHaveAnyShape(t *testing.T) {
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, _ *master, h *hub) {
		p := dialAs(t, h)
		p.send(hello, "sdiff", 2, 3, "what", []any{"version", 2, "says"})
		p.wantEnd("both versions are named", refused, replica.CodeVersion, "1 to 1", "2 to 3")
	})
}

// header returns the beginning of a frame, up to its body.
func header(typ byte, size uint32) string {
	b := append(binary.BigEndian.AppendUint32(nil, size), typ)
	return string(append(b, byte(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))))
}

// checksum returns the end of a frame.
func checksum(frame string) string {
	sum := crc32.Checksum([]byte(frame), crc32.MakeTable(crc32.Castagnoli))
	return string(binary.BigEndian.AppendUint32(nil, sum))
}

// Any bytes at all on the port: the connection is closed with a reason.
func TestStrangersOnThePort(t *testing.T) {
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
		for name, bytes := range map[string]string{
			"HTTP":            "GET / HTTP/1.1\r\nHost: sdiff\r\n\r\n",
			"TLS":             "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("r", 600),
			"zeros":           strings.Repeat("\x00", 100),
			"a huge frame":    header(hello, 1<<32-1) + strings.Repeat("x", 100),
			"one byte over":   header(hello, 4097),
			"a bad checksum":  header(hello, 3) + "abc" + "0000",
			"half a frame":    header(hello, 100) + "half",
			"nothing, closed": "",
		} {
			p := dialAs(t, h)
			io.WriteString(p.nc, bytes)
			p.nc.(interface{ CloseWrite() error }).CloseWrite()
			m, err := p.receive(20 * time.Second)
			if err == nil {
				if m.typ != refused || replica.Code(m.num(t, 0)) != replica.CodeProtocol {
					t.Errorf("%s: got %v, want a refusal", name, m)
				}
				p.wantClosed(name)
			} else if name != "half a frame" && name != "nothing, closed" {
				t.Errorf("%s: closed without a reason: %v", name, err)
			}
		}
		for name, frame := range map[string]message{
			"not msgpack":      {typ: hello, body: []byte{0xc1}},
			"a bomb":           {typ: hello, body: []byte{0xdd, 0xff, 0xff, 0xff, 0xff}},
			"empty":            {typ: hello},
			"another protocol": {typ: hello, body: encode("raft", 1, 1)},
			"short":            {typ: hello, body: encode("sdiff", 1, 1, 2)},
			"another frame":    {typ: ack, body: encode(0, merkle.Summary{}, true, "")},
			"type 0":           {typ: 0, body: encode(newGreeting().fields()...)},
			"trailing bytes":   {typ: hello, body: append(encode(newGreeting().fields()...), 0xc0)},
		} {
			p := dialAs(t, h)
			p.sendRaw(frame.typ, frame.body)
			p.wantEnd(name, refused, replica.CodeProtocol)
		}
		if n := len(m.Status().Followers); n != 0 {
			t.Errorf("%d followers are known, want none", n)
		}
		m.put("still", "works")
	})
}

// C4 13: whoever says nothing is let go.
func TestHandshakeEndsInTime(t *testing.T) {
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
		for _, bytes := range []string{"", "\x00\x00"} {
			p := dialAs(t, h)
			io.WriteString(p.nc, bytes)
			began := time.Now()
			p.wantClosed("no hello within the time for it")
			if took := time.Since(began); took < 4*time.Second || took > 6*time.Second {
				t.Errorf("closed after %v, want 5 s", took)
			}
		}
	})
}

// P3: heartbeats carry head and fingerprint; who is silent is dropped, and any
// byte counts.
func TestP3HeartbeatsAndSilence(t *testing.T) {
	withMaster(t, replica.MasterConfig{Heartbeat: time.Second, Silence: 5 * time.Second}, func(t *testing.T, m *master, h *hub) {
		p := greet(t, h, newGreeting())
		p.ignore = nil
		p.want("welcome", welcome)
		began := time.Now()
		for i := 1; i <= 3; i++ {
			hb := p.want("a heartbeat each second", head)
			if got := time.Since(began); got != time.Duration(i)*time.Second {
				t.Errorf("heartbeat %d after %v", i, got)
			}
			if hb.position(t, 0) != positions(t, m)[3] {
				t.Errorf("%v, want the head with its fingerprint", hb)
			}
		}
		// Half a frame, byte by byte: slow, but alive.
		p.ignore = []byte{head}
		header := "\x00\x00\x00\x0f" + string(ack)
		check := byte(crc32.Checksum([]byte(header), crc32.MakeTable(crc32.Castagnoli)))
		frame := header + string([]byte{check}) + string(encode(3, merkle.Summary{}, false, "x"))
		for i := range len(frame) {
			io.WriteString(p.nc, frame[i:i+1])
			p.wantIdle("the session lives while bytes come", 4*time.Second)
		}
		p.wantEnd("then it is over", bye, replica.CodeSilent, "nothing was heard for 6s")
		synctest.Wait()
		if f := m.Status().Followers[0]; f.Connected || f.State != replica.Disconnected || !strings.Contains(f.Why, "nothing was heard") {
			t.Errorf("the operator sees %+v, want disconnected and why", f)
		}
	})
}

// The sessions end when the master does, and followers are told.
func TestFollowersAreToldOfTheEnd(t *testing.T) {
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
		p := greet(t, h, newGreeting())
		p.want("welcome", welcome)
		synctest.Wait()
		began := time.Now()
		go m.stop()
		p.wantEnd("the master ends", bye, replica.CodeEnding)
		m.wait()
		if took := time.Since(began); took > time.Second {
			t.Errorf("the master took %v to end", took)
		}
		if _, err := h.dial(context.Background()); err == nil {
			t.Error("the port is still open")
		}
	})
}
