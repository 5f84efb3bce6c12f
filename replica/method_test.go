package replica_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/stream"
)

// TestReportSaysWhyTheFollowerLeftTheSketch garbles the cells that a follower
// gets until it compares ranges: the reason is then its own, and not that of the
// master, which knows only that the follower chose so.
func TestReportSaysWhyTheFollowerLeftTheSketch(t *testing.T) {
	withFollower(t, replica.FollowerConfig{Repair: manual}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		for i := range 40 {
			p.sendRaw(commits, m.commit(fmt.Sprint("k", i), "v"))
		}
		m.commit("a", "1")
		p.sendRaw(commits, m.encode(m.pos, stream.Op{Key: []byte("a"), Value: []byte("garbled")}))
		p.wantAck("applied", m.pos.Offset)
		res := asked(f, t.Context(), replica.RepairOptions{})
		id, _ := m.begin(p)
		m.tree.KeepSketch()
		s := diff.New(m.tree.Snapshot(), diff.Config{Sketch: m.tree.Sketch()})
		garbled := 0
		for !s.Done() {
			c := p.want("a message of the comparison", compare)
			msg, err := diff.Parse(c.fields[1].([]byte))
			if err != nil {
				t.Fatal(err)
			}
			out, err := s.Step(msg)
			if err != nil {
				t.Fatal(err)
			}
			s.Findings()
			for _, o := range out {
				b := o.Append(nil)
				if strings.Contains(o.String(), "cells from") {
					b[len(b)-1]++ // the check of the last cell
					garbled++
				}
				p.send(compare, id, b)
			}
		}
		p.send(items, id, 1, m.pos.Offset, []any{[]byte("a"), []byte("1")})
		p.want("the chunk is acknowledged", chunkAck)
		p.send(syncDone, id, m.pos, 0, 0, s.Stats().Why)
		p.want("it says how that ended", syncResult)
		r := <-res
		if garbled == 0 || r.err != nil || r.rep.Outcome != replica.Repaired || r.rep.Method != diff.MethodRanges {
			t.Fatalf("%d messages garbled: %+v, %v, want it repaired by ranges", garbled, r.rep, r.err)
		}
		if s.Stats().Why != diff.WhyPeer || r.rep.MethodWhy != "the sketch did not tell what differs" {
			t.Errorf("by %q because %q; the master says %q", r.rep.Method, r.rep.MethodWhy, s.Stats().Why)
		}
	})
}
