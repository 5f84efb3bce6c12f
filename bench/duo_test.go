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

// startSdiff starts a master and a follower with empty databases, opened as how
// says. lone leaves the follower's to the caller.
func startSdiff(tb testing.TB, lone bool, how call) *duo {
	tb.Helper()
	d := &duo{name: "sdiff", m: start(tb, "sdiff master")}
	if !lone {
		d.f = start(tb, "sdiff follower")
	}
	d.open(tb.TempDir(), how)
	return d
}

// startStraw does the same with the straw man.
func startStraw(tb testing.TB, how call) *duo {
	tb.Helper()
	d := &duo{name: "straw man", m: start(tb, "straw master"), f: start(tb, "straw follower")}
	if how.Tuned {
		d.name = "tuned straw man"
	}
	d.open(tb.TempDir(), how)
	return d
}

func (d *duo) open(dir string, how call) {
	how.Do, how.Dir = "open", filepath.Join(dir, "m")
	d.addr = d.m.do(how).Addr
	if d.f != nil {
		how.Dir, how.Addr = filepath.Join(dir, "f"), d.addr
		d.f.do(how)
		d.write(call{Do: "load", N: 1, Commit: 1}) // so that they are connected
	}
}

// write tells the master to write, and returns when the follower has it all.
func (d *duo) write(c call) answer {
	d.f.tb.Helper()
	a := d.m.do(c)
	d.f.do(call{Do: "wait", Offset: a.Offset, Pos: a.Pos})
	return a
}

func (d *duo) paced(c call) {
	c.Do = "pace"
	d.write(c)
}

func (d *duo) stop() {
	d.f.stop()
	d.m.stop()
}
