package bench

import (
	"path/filepath"
	"testing"
)

// A duo is a master and a follower, each in a process of its own.
type duo struct {
	name string
	m, f *child
	addr string // the master's
}

// startSdiff starts a master and a follower with empty databases. lone leaves
// the follower's to the caller.
func startSdiff(tb testing.TB, lone bool) *duo {
	tb.Helper()
	dir := tb.TempDir()
	d := &duo{name: "sdiff", m: start(tb, "sdiff master")}
	d.addr = d.m.do(call{Do: "open", Dir: filepath.Join(dir, "m")}).Addr
	if !lone {
		d.f = start(tb, "sdiff follower")
		d.f.do(call{Do: "open", Dir: filepath.Join(dir, "f"), Addr: d.addr})
		d.write(call{Do: "load", N: 1, Commit: 1}) // so that they are connected
	}
	return d
}

// startStraw does the same with the straw man.
func startStraw(tb testing.TB, tuned bool) *duo {
	tb.Helper()
	dir := tb.TempDir()
	d := &duo{name: "straw man", m: start(tb, "straw master"), f: start(tb, "straw follower")}
	d.addr = d.m.do(call{Do: "open", Dir: filepath.Join(dir, "m"), Tuned: tuned}).Addr
	d.f.do(call{Do: "open", Dir: filepath.Join(dir, "f"), Tuned: tuned, Addr: d.addr})
	d.write(call{Do: "load", N: 1, Commit: 1})
	return d
}

// write tells the master to write, and returns when the follower has it all.
func (d *duo) write(c call) {
	d.f.tb.Helper()
	a := d.m.do(c)
	d.f.do(call{Do: "wait", Offset: a.Offset, Pos: a.Pos})
}

func (d *duo) paced(c call) {
	c.Do = "pace"
	d.write(c)
}

func (d *duo) stop() {
	d.f.stop()
	d.m.stop()
}
