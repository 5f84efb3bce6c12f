package replica_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/stream"
)

// C4 8: bits flip all the time, in both directions, during commits and
// repairs. The checksums see it, the connection ends, and nothing that was
// changed on its way is ever applied.
func TestFlippedBitsAreNeverApplied(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var e events
		p := newPair(t, 500, replica.MasterConfig{}, replica.FollowerConfig{Observer: e.observer()})
		w := watch(t, p.f)
		p.link.FlipProbability(faultnet.Both, 3e-4)
		pos := p.writeFor(3*time.Minute, 20*time.Millisecond)
		p.link.Heal()
		p.f.waitFor(pos)
		if e.drifted() != 0 {
			t.Errorf("%d drifts: something changed was applied", e.drifted())
		}
		w.once(t)
		checkSame(t, p.m, p.f)
		if n := p.link.Count(faultnet.Flip); n < 50 {
			t.Errorf("%d bits flipped, too few", n)
		}
	})
}

// C4 9, 10: a frame of the stream that comes once more is passed over, one that
// comes too early ends the session as a breach of the protocol: nothing is
// applied twice or out of order.
func TestDuplicatesAndReorderedFrames(t *testing.T) {
	isCommits := func(typ byte) bool { return typ == commits }
	for name, harm := range map[string]func(l *faultnet.Link){
		"duplicate": func(l *faultnet.Link) { l.DuplicateFrame(faultnet.In, isCommits) },
		"reorder":   func(l *faultnet.Link) { l.SwapFrames(faultnet.In, isCommits) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var e events
				p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{Observer: e.observer()})
				w := watch(t, p.f)
				for range 20 {
					harm(p.link)
					// Three commits within one pause of the loop: two frames follow
					// each other with nothing in between.
					p.writeFor(200*time.Millisecond, 20*time.Millisecond)
				}
				p.sync()
				w.once(t)
				checkSame(t, p.m, p.f)
				broken := e.saw("came after")
				switch name {
				case "duplicate":
					fired(t, p.link, faultnet.Duplicate)
					if broken {
						t.Error("a duplicate ended a session, want it passed over")
					}
				case "reorder":
					fired(t, p.link, faultnet.Swap)
					if !broken {
						t.Error("no session ended over commits out of order")
					}
				}
				if e.drifted() != 0 {
					t.Errorf("%d drifts, want none", e.drifted())
				}
			})
		})
	}
}

// C4 9, 10: frames of a repair that come twice, too early or never do no harm
// either: the copy ends equal, and no key that the master holds is deleted.
func TestRepairFramesThatGoWrong(t *testing.T) {
	var wrong uint64
	for seed := range uint64(20) {
		bubble(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			p := newPair(t, 300, replica.MasterConfig{}, replica.FollowerConfig{Repair: manual})
			harm := []func(dir faultnet.Dir, match func(byte) bool){p.link.DuplicateFrame, p.link.SwapFrames, p.link.DropFrame}
			for range 30 {
				p.sync()
				n := rng.IntN(300)
				p.behind([]stream.Op{{Key: keyOf(n), Value: fmt.Append(nil, n)}}, func([]stream.Op) []stream.Op {
					return []stream.Op{{Key: keyOf((n + 9) % 300), Delete: true}, {Key: fmt.Append(nil, "stray", n), Value: []byte("s")}}
				})
				typ := byte(rng.IntN(int(bye)) + 1)
				dir := []faultnet.Dir{faultnet.In, faultnet.Out}[rng.IntN(2)]
				harm[rng.IntN(3)](dir, func(b byte) bool { return b == typ })
				// What comes of it must not be wrong, whatever it is.
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				_, _ = p.f.Repair(ctx, replica.RepairOptions{})
				cancel()
				p.link.Heal()
				within(t, 5*time.Minute, fmt.Sprintf("seed %d, frame %d: repaired after it", seed, typ), func() bool {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
					defer cancel()
					rep, err := p.f.Repair(ctx, replica.RepairOptions{})
					if ctx.Err() != nil {
						t.Fatalf("seed %d, frame %d: the repair hangs; %s", seed, typ, brief(p.f.Status()))
					}
					return err == nil && (rep.Outcome == replica.Same || rep.Outcome == replica.Repaired)
				})
				checkSame(t, p.m, p.f)
			}
			wrong += p.link.Count(faultnet.Duplicate) + p.link.Count(faultnet.Swap) + p.link.Count(faultnet.Drop)
		})
	}
	if wrong < 50 {
		t.Errorf("%d frames went wrong, too few", wrong)
	}
}

// A repair of which one frame was lost used to hang for ever, and every repair
// asked for after it: heartbeats showed that the master lived.
func TestRepairThatLostAFrameEnds(t *testing.T) {
	for typ, dir := range map[byte]faultnet.Dir{
		syncAsk: faultnet.Out, syncStart: faultnet.In, compare: faultnet.In, items: faultnet.In,
		chunkAck: faultnet.Out, syncDone: faultnet.In, syncResult: faultnet.Out,
	} {
		for _, writes := range []bool{false, true} {
			t.Run(fmt.Sprintf("frame %d, writes %v", typ, writes), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					p := newPair(t, 300, replica.MasterConfig{}, replica.FollowerConfig{Repair: manual})
					p.behind([]stream.Op{{Key: keyOf(7), Value: []byte("new")}}, lose)
					p.link.DropFrame(dir, func(b byte) bool { return b == typ })
					res := asked(p.f, t.Context(), replica.RepairOptions{})
					for began, done := time.Now(), false; !done; {
						select {
						case r := <-res:
							done = true
							if lost := typ != syncResult; lost != (r.rep.Outcome == replica.Unknown) {
								t.Errorf("%+v, %v", r.rep, r.err)
							}
						case <-time.After(time.Second):
							if time.Since(began) > 5*time.Minute {
								t.Fatalf("it hangs: %s", brief(p.f.Status()))
							}
							if writes {
								p.m.put("w", time.Now().String())
							}
						}
					}
					within(t, time.Minute, "repaired by the next", func() bool {
						rep, err := p.f.Repair(t.Context(), replica.RepairOptions{})
						return err == nil && (rep.Outcome == replica.Same || rep.Outcome == replica.Repaired)
					})
					fired(t, p.link, faultnet.Drop)
					synctest.Wait()
					checkSame(t, p.m, p.f)
				})
			})
		}
	}
}
