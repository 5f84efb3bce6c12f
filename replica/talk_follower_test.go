package replica_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// withFollower has a conversation with a follower, as its master.
func withFollower(t *testing.T, cfg replica.FollowerConfig, talk func(t *testing.T, m *puppetMaster, f *follower)) {
	t.Helper()
	bubble(t, func(t *testing.T) {
		m := newPuppetMaster(t)
		cfg.ID, cfg.Dial, cfg.Scrub = "f", m.l.Dial, -1
		talk(t, m, startFollower(t, store.NewMemory(), cfg))
	})
}

// wantAck waits for an ack of an offset.
func (p *testPeer) wantAck(sentence string, offset uint64) message {
	p.t.Helper()
	ignore := p.ignore
	defer func() { p.ignore = ignore }()
	p.ignore = nil
	for range 100 {
		if m := p.want(sentence, ack); m.num(p.t, 0) == offset {
			return m
		}
	}
	p.t.Fatalf("%s: no ack of %d", sentence, offset)
	return message{}
}

func TestHelloSaysWhereTheCopyStands(t *testing.T) {
	withFollower(t, replica.FollowerConfig{}, func(t *testing.T, m *puppetMaster, f *follower) {
		p, h := m.accept()
		if h.fields[0] != "sdiff" || h.num(t, 1) != 1 || h.num(t, 2) != 1 || h.fields[4] != "f" || h.fields[5] != "xxh64" {
			t.Errorf("%v, want sdiff, versions 1 to 1, f, xxh64", h)
		}
		if !h.position(t, 6).IsZero() || h.num(t, 7, 0) != 0 || h.fields[8] != false || h.fields[9] != true || h.fields[10] != false {
			t.Errorf("%v, want no position, empty, incomplete, durable, no rollback", h)
		}
		m.welcome(p, false)
		m.sync(p)
		p.sendRaw(commits, append(m.commit("a", "1"), m.commit("b", "2")...))
		a := p.wantAck("it acknowledges what it has stored", 2)
		if a.num(t, 1, 0) != 2 || a.num(t, 1, 1) != m.pos.Fingerprint.Sum || a.fields[2] != true {
			t.Errorf("%v, want its summary %v, complete", a, m.pos.Fingerprint)
		}
		p.nc.Close()
		p, h = m.accept()
		if h.position(t, 6) != m.pos || h.num(t, 7, 0) != 2 || h.fields[8] != true || string(h.fields[3].([]byte)) != string(m.id[:]) {
			t.Errorf("%v, want %v, complete, dataset %v", h, m.pos, m.id)
		}
		p.nc.Close()
	})
}

// C4 9, 10: a commit is applied in order and once, whatever comes.
func TestP2CommitsAreAppliedInOrderAndOnce(t *testing.T) {
	withFollower(t, replica.FollowerConfig{Repair: replica.RepairPolicy{NoDrift: true}}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		one, two := m.commit("a", "1"), m.commit("b", "2")
		third := m.encode(stream.Position{Offset: 3, Fingerprint: m.pos.Fingerprint}, stream.Op{Key: []byte("a"), Delete: true}, stream.Op{Key: []byte("a"), Value: []byte("1")})
		p.sendRaw(commits, one)
		p.sendRaw(commits, one)
		p.sendRaw(commits, slices.Concat(one, two))
		p.wantAck("a commit that came before is passed over", 2)
		p.sendRaw(commits, one)
		p.sendRaw(commits, third)
		p.wantAck("and the stream goes on", 3)
		m.pos.Offset = 4
		m.commit("c", "3") // 5
		p.sendRaw(commits, m.encode(m.pos, stream.Op{Key: []byte("c"), Value: []byte("3")}))
		p.wantEnd("a gap is an error", bye, replica.CodeProtocol, "commit 5 came after 3")
		if got := contents(t, f.st); fmt.Sprint(got) != "map[a:1 b:2]" {
			t.Errorf("it holds %q", got)
		}
	})
}

// Commits that are no commits are an error; nothing of the frame is applied.
func TestCommitsThatAreNone(t *testing.T) {
	withFollower(t, replica.FollowerConfig{}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		good := m.commit("a", "1")
		for name, body := range map[string][]byte{
			"garbage":         {0xc1},
			"a bomb":          {0x95, 0x01, 0x00, 0x00, 0x00, 0xdd, 0xff, 0xff, 0xff, 0xff},
			"cut":             good[:len(good)-1],
			"no op":           {0x95, 0x01, 0x00, 0x00, 0x00, 0x90},
			"an empty key":    {0x95, 0x01, 0x00, 0x00, 0x00, 0x92, 0xc4, 0x00, 0xc4, 0x00},
			"good then cut":   append(slices.Clone(good), good[:5]...),
			"out of order":    slices.Concat(good, m.encode(stream.Position{Offset: 3}, stream.Op{Key: []byte("b")})),
			"a reserved key":  m.encode(stream.Position{Offset: 1}, stream.Op{Key: []byte("!sdiff!x")}),
			"too long a key":  m.encode(stream.Position{Offset: 1}, stream.Op{Key: make([]byte, 65_001)}),
			"too large value": m.encode(stream.Position{Offset: 1}, stream.Op{Key: []byte("k"), Value: make([]byte, 1<<20)}),
		} {
			p.sendRaw(commits, body)
			end := p.want(name, bye)
			if code := replica.Code(end.num(t, 0)); code != replica.CodeProtocol && code != replica.CodeEnding {
				t.Errorf("%s: %v", name, end)
			}
			p.nc.Close()
			var h message
			p, h = m.accept()
			if got := h.position(t, 6).Offset; got != 0 {
				t.Errorf("%s: it stands at %d, want 0", name, got)
			}
			if h.num(t, 7, 0) != 0 {
				t.Errorf("%s: it says that it holds %d keys, want none", name, h.num(t, 7, 0))
			}
			m.welcomeAt(p, stream.Position{Epoch: m.pos.Epoch})
		}
		p.sendRaw(commits, good)
		p.wantAck("it is as good as ever", 1)
	})
}

// welcomeAt resumes a follower at a position.
func (m *puppetMaster) welcomeAt(p *testPeer, start stream.Position) {
	m.t.Helper()
	p.send(welcome, 1, m.id, m.pos, start, true, false, "", []any{})
}

// P3: an idle pair notices drift by the heartbeat, and asks for a repair.
func TestP3HeartbeatTellsOfDrift(t *testing.T) {
	var e events
	withFollower(t, replica.FollowerConfig{Observer: e.observer()}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		p.sendRaw(commits, m.commit("a", "1"))
		p.send(head, m.pos)
		p.wantIdle("equal fingerprints are no news", time.Second)
		other := m.pos
		other.Fingerprint.Sum++
		p.send(head, other)
		p.want("drift asks for a comparison", syncAsk)
		synctest.Wait()
		if f.Status().State != replica.Comparing || e.drifted() != 1 {
			t.Errorf("state %q, %d drifts, want comparing and one", f.Status().State, e.drifted())
		}
	})
}

// The commit's own fingerprint tells at once.
func TestCommitTellsOfDrift(t *testing.T) {
	var e events
	withFollower(t, replica.FollowerConfig{Observer: e.observer(), Repair: replica.RepairPolicy{NoDrift: true}}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		lost := m.commit("a", "1")
		m.pos.Offset--
		_ = lost
		p.sendRaw(commits, m.commit("b", "2"))
		p.wantAck("applied", 1)
		synctest.Wait()
		s := f.Status()
		if s.State != replica.Drifted || *s.InSync || e.drifted() != 1 || !strings.Contains(s.Why, "is not the master's") {
			t.Errorf("%s, %d drifts, want drifted, not in sync, one drift", brief(s), e.drifted())
		}
		p.wantIdle("the policy says not to repair", 5*time.Second)
		// What is written since may heal it.
		p.sendRaw(commits, m.commit("a", "1"))
		p.send(head, m.pos)
		synctest.Wait()
		if s := f.Status(); s.State != replica.Streaming || !*s.InSync {
			t.Errorf("%s, want streaming and in sync again", brief(s))
		}
	})
}

// A head that is behind what was sent is a contradiction.
func TestHeadBehindTheStream(t *testing.T) {
	withFollower(t, replica.FollowerConfig{}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		before := m.pos
		p.sendRaw(commits, m.commit("a", "1"))
		p.send(head, before)
		p.wantEnd("it says so", bye, replica.CodeProtocol, "head is 0")
	})
}

// A stall cannot look healthy: heads that move without commits do not count as
// progress.
func TestStallIsSeen(t *testing.T) {
	withFollower(t, replica.FollowerConfig{Silence: 5 * time.Second}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		p.sendRaw(commits, m.commit("a", "1"))
		p.wantAck("applied", 1)
		at := time.Now()
		m.commit("b", "2")
		for range 30 {
			m.pos.Offset++
			p.send(head, m.pos)
			p.wantIdle("it has nothing to say", time.Second)
		}
		s := f.Status()
		if s.State != replica.Stalled || s.LagCommits != 31 || s.LagSeconds < 28 {
			t.Errorf("%s, lag %d and %v s, want stalled, 31 and 30 s", brief(s), s.LagCommits, s.LagSeconds)
		}
		if got := s.Progress.Sub(at); got > time.Second {
			t.Errorf("progress %v after the last commit, want none", got)
		}
	})
}

// C4 2: a master that says nothing is dropped; the next attempts back off.
func TestP3SilentMasterIsDropped(t *testing.T) {
	withFollower(t, replica.FollowerConfig{Silence: 5 * time.Second}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		began := time.Now()
		p.wantEnd("it gives up", bye, replica.CodeSilent, "nothing was heard")
		if took := time.Since(began); took < 5*time.Second || took > 7*time.Second {
			t.Errorf("dropped after %v, want 5 s and some", took)
		}
		synctest.Wait()
		if s := f.Status(); s.State != replica.Connecting || !strings.Contains(s.Why, "nothing was heard") {
			t.Errorf("%s, want connecting and why", brief(s))
		}
		// Attempts that fail come ever later, up to 10 s.
		var last time.Duration
		for range 20 {
			began := time.Now()
			p, _ := m.accept()
			last = time.Since(began)
			p.nc.Close()
		}
		if last < 4*time.Second || last > 10*time.Second {
			t.Errorf("%v between the last attempts, want 5 to 10 s", last)
		}
	})
}

// C4 13: a port that accepts and never speaks.
func TestNoAnswerToHello(t *testing.T) {
	withFollower(t, replica.FollowerConfig{}, func(t *testing.T, m *puppetMaster, f *follower) {
		p, _ := m.accept()
		began := time.Now()
		p.wantClosed("it gives up")
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("after %v, want 10 s", took)
		}
		synctest.Wait()
		if s := f.Status(); !strings.Contains(s.Why, "did not answer hello in time") {
			t.Errorf("%s, want to know why", brief(s))
		}
		p, _ = m.accept()
		p.nc.Close()
	})
}

// Refusals for what the follower is end it, before it was ever served; others
// do not.
func TestRefusalsEndOrDelayAFollower(t *testing.T) {
	for code, ends := range map[replica.Code]bool{
		replica.CodeVersion: true, replica.CodeDataset: true, replica.CodeHash: true,
		replica.CodeDuplicate: false, replica.CodeFull: false, replica.CodeHistory: false,
		replica.CodeProtocol: false, replica.CodeStore: false, 99: false,
	} {
		withFollower(t, replica.FollowerConfig{}, func(t *testing.T, m *puppetMaster, f *follower) {
			p, _ := m.accept()
			p.send(refused, int(code), "the reason")
			if ends {
				e, ok := errors.AsType[*replica.PeerError](f.wait())
				if !ok || e.Code != code || f.Status().State != replica.Failed || f.Status().Why != "the reason" {
					t.Errorf("%v: Run ended with %v, %s; want the refusal", code, f.err, brief(f.Status()))
				}
				return
			}
			synctest.Wait()
			want := replica.Connecting
			if code == replica.CodeHistory {
				want = replica.Parked
			}
			if s := f.Status(); s.State != want || s.Why != "the reason" {
				t.Errorf("%v: %s, want %s with the reason", code, brief(s), want)
			}
			m.start(f) // it tries again
		})
	}
}

// Once served, the same refusals park it: data is never given up for them.
func TestRefusalsAfterASessionParkAFollower(t *testing.T) {
	withFollower(t, replica.FollowerConfig{}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		p.sendRaw(commits, m.commit("a", "1"))
		p.wantAck("applied", 1)
		p.nc.Close()
		p, _ = m.accept()
		p.send(refused, int(replica.CodeDataset), "swapped")
		synctest.Wait()
		if s := f.Status(); s.State != replica.Parked || s.Why != "swapped" {
			t.Errorf("%s, want parked", brief(s))
		}
		if v, err := f.Get(t.Context(), []byte("a")); string(v) != "1" {
			t.Errorf("a parked follower serves %q, %v, want 1", v, err)
		}
		p, _ = m.accept()
		m.welcomeAt(p, m.pos)
		synctest.Wait()
		if s := f.Status(); s.State != replica.Streaming {
			t.Errorf("%s, want streaming again", brief(s))
		}
	})
}

// Answers to hello that contradict what the follower is, or what was offered.
func TestWelcomesThatContradict(t *testing.T) {
	withFollower(t, replica.FollowerConfig{}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		p.sendRaw(commits, m.commit("a", "1"))
		p.wantAck("applied", 1)
		p.nc.Close()
		behind, other := m.pos, m.pos
		behind.Offset = 0
		other.Fingerprint.Sum++
		welcomeOf := func(version int, id stream.ID, start stream.Position, why string) []byte {
			return encode(version, id, m.pos, start, true, false, why, []any{})
		}
		for name, frame := range map[string]message{
			"another dataset":        {typ: welcome, body: welcomeOf(1, stream.NewID(), m.pos, "")},
			"another version":        {typ: welcome, body: welcomeOf(2, m.id, m.pos, "")},
			"from an older offset":   {typ: welcome, body: welcomeOf(1, m.id, behind, "")},
			"of another fingerprint": {typ: welcome, body: welcomeOf(1, m.id, other, "")},
			"garbage":                {typ: welcome, body: []byte{0xc1}},
			"nothing":                {typ: welcome},
			"too much":               {typ: welcome, body: append(welcomeOf(1, m.id, m.pos, ""), 0)},
			"a long reason":          {typ: welcome, body: welcomeOf(1, m.id, m.pos, strings.Repeat("x", 1001))},
			"many epochs":            {typ: welcome, body: encode(1, m.id, m.pos, m.pos, true, false, "", slices.Repeat([]any{m.pos}, 25))},
			"commits first":          {typ: commits, body: m.encode(m.pos, stream.Op{Key: []byte("k")})},
			"a bad refusal":          {typ: refused, body: encode(1)},
		} {
			p, h := m.accept()
			if h.position(t, 6) != m.pos || h.fields[8] != true {
				t.Fatalf("%s: before it, hello says %v", name, h)
			}
			p.sendRaw(frame.typ, frame.body)
			p.wantClosed(name)
		}
		p, _ = m.accept()
		io.WriteString(p.nc, header(welcome, 4097))
		p.wantClosed("a welcome over the limit before welcome")
		p, _ = m.accept()
		m.welcomeAt(p, m.pos)
		p.wantAck("a fitting welcome is taken", 1)
	})
}

// Frames that are not a master's, or no frames, end the session and no more.
func TestMastersThatBreakTheProtocol(t *testing.T) {
	withFollower(t, replica.FollowerConfig{}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		type frame struct {
			typ  byte
			body []byte
		}
		var all []frame
		for _, typ := range []byte{0, hello, welcome, refused, ack, syncAsk, chunkAck, syncResult, 17, 255} {
			all = append(all, frame{typ, encode(1, merkle.Summary{}, true, "")})
		}
		for _, typ := range []byte{head, bye} {
			for _, body := range [][]byte{{}, {0xc1}, {0xdd, 0xff, 0xff, 0xff, 0xff}, encode(1), encode(m.pos, 1), append(encode(m.pos), 0)} {
				all = append(all, frame{typ, body})
			}
		}
		for _, fr := range all {
			p.sendRaw(fr.typ, fr.body)
			p.wantEnd(fmt.Sprintf("frame %d %x", fr.typ, fr.body), bye, replica.CodeProtocol)
			p, _ = m.accept()
			m.welcomeAt(p, m.pos)
		}
		// A flipped bit, a frame cut off, a frame over the limit.
		for name, bytes := range map[string]string{
			"checksum": header(head, 3) + "abc" + "0000",
			"header":   "\x00\x00\x00\x01\x05\x00\x00",
			"limit":    header(head, 4<<20+1),
			"cut":      header(commits, 1000) + "half",
		} {
			io.WriteString(p.nc, bytes)
			if name == "cut" {
				p.nc.Close()
			} else {
				p.wantClosed(name)
			}
			p, _ = m.accept()
			m.welcomeAt(p, m.pos)
		}
		p.send(bye, int(replica.CodeEnding), "going for a walk")
		p.want("bye is answered", bye)
		p.nc.Close()
		synctest.Wait()
		if s := f.Status(); s.Why != "going for a walk" {
			t.Errorf("%s, want the master's reason", brief(s))
		}
		p, _ = m.accept()
		m.welcomeAt(p, m.pos)
		p.sendRaw(commits, m.commit("a", "1"))
		p.wantAck("it is as good as ever", 1)
	})
}
