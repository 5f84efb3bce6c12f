package diff_test

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
)

// TestTranscripts runs testdata/*.txt: two sessions, a and b, driven by hand.
// With -rewrite it writes down what they say; commit that only if you
// understand what changed it.
//
//	tree a|b [like=a] [fill=N] [via=inserts]   items of a side, one "key hash" a line, the hash in
//	                                           hex; "-key" deletes. fill adds k000, k001, …
//	         [sketch=yes]                      keeps a sketch
//	session a|b [items= parts= window= frame= pending=]
//	            [sketch=yes]                   compares by the sketch
//	start a|b                                  lets a side begin
//	deliver a|b [count=N]                      gives a side the next messages of its inbox
//	drop|repeat a|b                            loses or doubles the next message
//	raw a|b                                    gives a side a message in hex
//	run                                        delivers until nothing is under way, b first
//	state                                      what each side is at
func TestTranscripts(t *testing.T) {
	// Not Walk: what fuzzing and rapid leave in testdata are no transcripts.
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("transcripts: %v, %v", paths, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			x := &transcript{trees: map[string]*merkle.Tree{"a": {}, "b": {}}, sides: map[string]*side{}}
			datadriven.RunTest(t, path, x.command)
		})
	}
}

type transcript struct {
	trees map[string]*merkle.Tree
	sides map[string]*side
	out   strings.Builder
	// sketch is true if a session had one: then state says more.
	sketch bool
}

func (x *transcript) command(t *testing.T, d *datadriven.TestData) string {
	x.out.Reset()
	var who string
	if len(d.CmdArgs) > 0 {
		who = d.CmdArgs[0].Key
	}
	switch d.Cmd {
	case "tree":
		x.tree(t, d, who)
	case "session":
		x.session(t, d, who)
	case "start":
		x.start(who)
	case "deliver":
		count := 1
		d.MaybeScanArgs(t, "count", &count)
		for range count {
			x.deliver(who)
		}
	case "drop":
		x.sides[who].inbox = x.sides[who].inbox[1:]
	case "repeat":
		s := x.sides[who]
		s.inbox = append([][]byte{s.inbox[0]}, s.inbox...)
	case "raw":
		b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(d.Input), " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		x.sides[who].inbox = [][]byte{b}
		x.deliver(who)
	case "run":
		x.run()
	case "state":
		x.state()
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	if x.out.Len() == 0 {
		return "ok"
	}
	return x.out.String()
}

func (x *transcript) tree(t *testing.T, d *datadriven.TestData, who string) {
	var like, via, sketch string
	var fill int
	d.MaybeScanArgs(t, "sketch", &sketch)
	d.MaybeScanArgs(t, "like", &like)
	d.MaybeScanArgs(t, "via", &via)
	d.MaybeScanArgs(t, "fill", &fill)
	tree := x.trees[who]
	if like != "" {
		tree = x.trees[like].Snapshot().Tree()
	}
	for i := range fill {
		tree.Put(fmt.Appendf(nil, "k%03d", i), uint64(i+1))
	}
	for line := range strings.Lines(d.Input) {
		key, hash, _ := strings.Cut(strings.TrimSpace(line), " ")
		if rest, ok := strings.CutPrefix(key, "-"); ok {
			tree.Delete([]byte(rest))
			continue
		}
		h, err := strconv.ParseUint(hash, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		tree.Put([]byte(key), h)
	}
	if via == "inserts" { // in another order, so in another shape
		again := &merkle.Tree{}
		for i := range tree.Summary().Count {
			key, hash, _ := tree.At(tree.Summary().Count - 1 - i)
			again.Put(key, hash)
		}
		tree = again
	}
	if sketch != "" {
		tree.KeepSketch()
	}
	x.trees[who] = tree
	fmt.Fprintf(&x.out, "%d items, sum %x\n", tree.Summary().Count, tree.Summary().Sum)
}

func (x *transcript) session(t *testing.T, d *datadriven.TestData, who string) {
	var c diff.Config
	for name, field := range map[string]*int{
		"items": &c.Items, "parts": &c.Parts, "window": &c.Window, "frame": &c.FrameBytes, "pending": &c.MaxPending,
	} {
		d.MaybeScanArgs(t, name, field)
	}
	var sketch string
	if d.MaybeScanArgs(t, "sketch", &sketch); sketch != "" {
		c.Sketch = x.trees[who].Sketch()
	}
	x.sketch = x.sketch || sketch != ""
	x.sides[who] = newSide(x.trees[who].Snapshot(), c)
}

func (x *transcript) start(who string) {
	s := x.sides[who]
	out, err := s.Start()
	if err != nil {
		fmt.Fprintf(&x.out, "error: %v\n", err)
	}
	x.sent(who, out)
}

// sent prints messages and puts them on their way.
func (x *transcript) sent(who string, out []diff.Message) {
	peer := map[string]string{"a": "b", "b": "a"}[who]
	x.sides[peer].receive(out)
	for _, m := range out {
		fmt.Fprintf(&x.out, "%s -> %s, %d bytes: %v\n", who, peer, len(m.Append(nil)), m)
	}
}

func (x *transcript) deliver(who string) {
	s := x.sides[who]
	if len(s.inbox) == 0 {
		x.out.WriteString("nothing under way\n")
		return
	}
	m, err := diff.Parse(s.inbox[0])
	s.inbox = s.inbox[1:]
	if err != nil {
		fmt.Fprintf(&x.out, "error: %v\n", err)
		return
	}
	out, err := s.Step(m)
	if err != nil {
		fmt.Fprintf(&x.out, "%s: error: %v\n", who, err)
	}
	for found := s.Findings(); len(found) > 0; found = s.Findings() {
		for _, f := range found {
			if f.Key != nil {
				fmt.Fprintf(&x.out, "%s alone has %q %x\n", who, f.Key, f.Hash)
			} else {
				fmt.Fprintf(&x.out, "%s alone has all of %q to %q, %d items\n", who, f.Lo, f.Hi, s.tree.Range(f.Lo, f.Hi).Count)
			}
		}
	}
	x.sent(who, out)
}

func (x *transcript) run() {
	for len(x.sides["a"].inbox)+len(x.sides["b"].inbox) > 0 {
		if len(x.sides["b"].inbox) > 0 {
			x.deliver("b")
		} else {
			x.deliver("a")
		}
	}
	x.state()
}

func (x *transcript) state() {
	for _, who := range []string{"a", "b"} {
		s := x.sides[who]
		st := s.Stats()
		state := "under way"
		if s.Done() {
			state = "done"
		}
		fmt.Fprintf(&x.out, "%s: %s after %d levels", who, state, st.Levels)
		if s.Left() > 0 {
			fmt.Fprintf(&x.out, ", %d ranges not compared", s.Left())
		}
		fmt.Fprintf(&x.out, "; sent %d messages, %d bytes\n", st.MessagesOut, st.BytesOut)
		if x.sketch {
			fmt.Fprintf(&x.out, "   by %s (%s), %d cells, %d round trips\n", st.Method, st.Why, st.Cells, st.RoundTrips)
		}
	}
}
