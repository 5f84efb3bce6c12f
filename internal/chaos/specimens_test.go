//go:build chaos

package chaos

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/internal/control"
)

// A specimen is the directories of a master and its two followers, in sync, and
// what they hold.
type specimen struct {
	base string
	want map[string]string
}

// dir returns the directory of a "master", "follower" or "sibling".
func (s specimen) dir(role string) string { return filepath.Join(s.base, role) }

// The specimens are what the rows of TestDamage take copies of.
type specimens struct {
	old    specimen // a backup, made some time before
	closed specimen // after a clean end, with several tables
	killed specimen // after kill -9, with the newest writes in logs only
	other  specimen // of another dataset, closed
}

// A nursery is a running trio from which specimens are taken.
type nursery struct {
	t                         *testing.T
	base                      string
	master, follower, sibling *process
	want                      map[string]string
}

func makeSpecimens(t *testing.T) *specimens {
	s := &specimens{}
	n := &nursery{t: t, base: filepath.Join(t.TempDir(), "n"), want: map[string]string{}}
	n.start()
	n.write("first", 0, 150)
	n.stop()
	s.old = n.take("old")
	n.start()
	n.write("second", 100, 250)
	n.drop(20, 40)
	n.stop()
	n.start()
	n.write("third", 200, 300)
	n.stop()
	s.closed = n.take("closed")
	n.start()
	n.write("fourth", 280, 360)
	n.drop(50, 60)
	n.kill()
	s.killed = n.take("killed")

	o := &nursery{t: t, base: filepath.Join(t.TempDir(), "n"), want: map[string]string{}}
	o.start()
	o.write("other", 0, 80)
	o.stop()
	s.other = o.take("other")
	return s
}

// start starts all three.
func (n *nursery) start() {
	n.t.Helper()
	n.master = mustStart(n.t, filepath.Join(n.base, "master"), "serve", "--listen", "127.0.0.1:0")
	n.follower = mustStart(n.t, filepath.Join(n.base, "follower"), "follow", "--from", n.master.ready.Address, "--id", "follower")
	n.sibling = mustStart(n.t, filepath.Join(n.base, "sibling"), "follow", "--from", n.master.ready.Address, "--id", "sibling")
}

// write puts the keys of a range, in several commits, and waits until all have
// them.
func (n *nursery) write(value string, from, to int) {
	n.t.Helper()
	var ops []control.Op
	for i := from; i < to; i++ {
		key, val := fmt.Sprintf("key%04d", i), fmt.Sprintf("%s %d %s", value, i, strings.Repeat("x", i%200))
		n.want[key] = val
		ops = append(ops, control.Op{Key: []byte(key), Value: []byte(val)})
		if len(ops) == 10 || i == to-1 {
			n.commit(ops)
			ops = nil
		}
	}
	n.settle()
}

// drop deletes the keys of a range.
func (n *nursery) drop(from, to int) {
	n.t.Helper()
	var ops []control.Op
	for i := from; i < to; i++ {
		key := fmt.Sprintf("key%04d", i)
		delete(n.want, key)
		ops = append(ops, control.Op{Key: []byte(key), Delete: true})
	}
	n.commit(ops)
	n.settle()
}

func (n *nursery) commit(ops []control.Op) {
	n.t.Helper()
	if _, err := n.master.Write(n.t.Context(), ops); err != nil {
		n.t.Fatal(err)
	}
}

func (n *nursery) settle() {
	n.t.Helper()
	for _, f := range []*process{n.follower, n.sibling} {
		eventually(n.t, func() string { return inSync(n.t, n.master, f) })
	}
}

func (n *nursery) stop() {
	n.t.Helper()
	for _, p := range []*process{n.sibling, n.follower, n.master} {
		p.stop(n.t)
	}
}

func (n *nursery) kill() {
	for _, p := range []*process{n.sibling, n.follower, n.master} {
		p.kill()
	}
}

// take copies the directories. Of the logs, which are files of many megabytes
// with nothing in them, it takes what is written and a little more.
func (n *nursery) take(name string) specimen {
	n.t.Helper()
	s := specimen{base: filepath.Join(filepath.Dir(n.base), name), want: maps.Clone(n.want)}
	copyTree(n.t, n.base, s.base)
	for _, ending := range []string{".mem", ".vlog"} {
		logs, err := filepath.Glob(filepath.Join(s.base, "*", "*"+ending))
		if err != nil {
			n.t.Fatal(err)
		}
		for _, path := range logs {
			cutHole(n.t, path)
		}
	}
	return s
}

// cutHole cuts a file some way after the last byte that is not zero.
func cutHole(t testing.TB, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := len(strings.TrimRight(string(b), "\x00"))
	if err := os.Truncate(path, int64(min(len(b), end+4096))); err != nil {
		t.Fatal(err)
	}
}
