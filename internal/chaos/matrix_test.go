//go:build chaos

package chaos

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/internal/control"
)

var matrixParallel = flag.Int("damage-parallel", 2, "rows of TestDamage at a time")

// A verdict is what a row of the matrix must end in.
type verdict int

const (
	// startsWhole: it starts, and nothing is lost.
	startsWhole verdict = iota
	// refusesDamaged: it does not start, exit code 8. The way out is another
	// directory: for a master restored from the follower, for a follower new.
	refusesDamaged
	// offersLoss: a master does not start, exit code 8, and offers
	// --accept-data-loss. A follower starts, says what is wrong, is repaired.
	offersLoss
	// offersStore is the same with --accept-store.
	offersStore
	// isBehind: it starts as it once was. A master's follower parks, a follower
	// gets what it missed.
	isBehind
	// refusesOther: it does not start, exit code 2: it is not what it should be.
	refusesOther
	// isForeign: it starts as another dataset's, and the two refuse each other.
	isForeign
	// notHere: there is no such damage in this role.
	notHere
)

// A damage is one row of the matrix.
type damage struct {
	name             string
	killed           bool // of directories as kill -9 leaves them, else of closed ones
	do               func(t *testing.T, s *specimens, role, dir string)
	master, follower verdict
	says             string // what the refusal, the log or doctor must say
	behind           bool   // the follower of a hurt master is behind it
	agrees           bool   // of a master that refuses: it lacks nothing, as its follower can tell
	doctor           int    // its exit code, if it is not that of a start
	fresh            bool   // what a master goes on with is a new dataset
}

// TestDamage hurts a master's and a follower's directory in every way known
// while the other one runs. Whatever comes of it, the other one has every key
// with its value before and after (P8); nobody sees a stack trace; a follower
// ends equal, verified; and a master that refuses has ways out that work.
func TestDamage(t *testing.T) {
	s := makeSpecimens(t)
	slots := make(chan struct{}, *matrixParallel)
	for _, d := range matrix {
		for role, want := range map[string]verdict{"master": d.master, "follower": d.follower} {
			if want == notHere {
				continue
			}
			t.Run(d.name+"/"+role, func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				s.hurt(t, d, role)
			})
		}
	}
}

// A victim is a pair of which one is hurt.
type victim struct {
	t              *testing.T
	d              damage
	master, copied string // directories
	address        string
	want           map[string]string // what the master holds before
	has            map[string]string // and the follower
}

// hurt damages the directory of one role and starts it beside the other.
func (s *specimens) hurt(t *testing.T, d damage, role string) {
	v := &victim{t: t, d: d, address: freeAddr(t)}
	base := t.TempDir()
	v.master, v.copied = filepath.Join(base, "m"), filepath.Join(base, "f")
	from := s.closed
	if d.killed {
		from = s.killed
	}
	v.want, v.has = from.want, from.want
	copyTree(t, from.dir("master"), v.master)
	if d.behind {
		from, v.has = s.old, s.old.want
	}
	copyTree(t, from.dir("follower"), v.copied)
	if role == "master" {
		v.hurtMaster(s)
	} else {
		v.hurtFollower(s)
	}
}

func (v *victim) serve(more ...string) (*process, error) {
	return v.start(v.master, append([]string{"serve", "--listen", v.address}, more...)...)
}

func (v *victim) follow(dir string) *process {
	v.t.Helper()
	p, err := v.start(dir, "follow", "--from", v.address)
	if err != nil {
		v.t.Fatal(err)
	}
	return p
}

// start starts a process and looks at what a refusal shows.
func (v *victim) start(dir string, args ...string) (*process, error) {
	v.t.Helper()
	p, err := start(v.t, dir, args...)
	if err != nil && (strings.Contains(err.Error(), "goroutine ") || strings.Contains(err.Error(), "panic: runtime")) {
		v.t.Errorf("%v shows a stack trace: %v", args, err)
	}
	return p, err
}

// mustRefuse starts a process that has to refuse with a code and to say things.
func (v *victim) mustRefuse(code int, says []string, dir string, args ...string) {
	v.t.Helper()
	_, stderr, got := sdiff(v.t, append(args, "--data", dir)...)
	if got != code {
		v.t.Fatalf("%v: exit code %d, want %d: %s", args, got, code, stderr)
	}
	for _, want := range append(says, "sdiff: error: ", "sdiff: hint: ") {
		if !strings.Contains(stderr, want) {
			v.t.Errorf("%v: it says %q, want %q in it", args, stderr, want)
		}
	}
	if strings.Contains(stderr, "goroutine ") {
		v.t.Errorf("%v shows a stack trace: %s", args, stderr)
	}
}

// holds fails the test unless a process has exactly the keys and values.
func (v *victim) holds(p *process, when string, want map[string]string) {
	v.t.Helper()
	got := map[string]string{}
	for item, err := range p.List(v.t.Context(), control.List{Values: true}) {
		if err != nil {
			v.t.Fatalf("%s: %v", when, err)
		}
		got[string(item.Key)] = string(item.Value)
	}
	if !maps.Equal(got, want) {
		missing, different := 0, 0
		for k, val := range want {
			if now, ok := got[k]; !ok {
				missing++
			} else if now != val {
				different++
			}
		}
		v.t.Fatalf("%s: of %d keys %d are missing and %d have another value; it holds %d", when, len(want), missing, different, len(got))
	}
}

// same waits until the follower holds, verified, what the master does.
func (v *victim) same(m, f *process) {
	v.t.Helper()
	v.state(f, "streaming")
	eventually(v.t, func() string { return inSync(v.t, m, f) })
	if _, stderr, code := sdiff(v.t, "verify", "--data", f.dir); code != 0 {
		v.t.Errorf("verify: exit code %d: %s", code, stderr)
	}
}

// state waits until a follower is in a state, and returns why.
func (v *victim) state(f *process, state string) string {
	v.t.Helper()
	var why string
	eventually(v.t, func() string {
		st, err := f.Status(v.t.Context())
		if err != nil {
			return err.Error()
		}
		if why = st.Why; string(st.State) != state {
			return fmt.Sprintf("it is %s: %s", st.State, st.Why)
		}
		return ""
	})
	return why
}

// says fails the test unless a text has what the row is to say.
func (v *victim) says(text string) {
	v.t.Helper()
	if !strings.Contains(text, v.d.says) {
		v.t.Errorf("it says %q, want %q in it", text, v.d.says)
	}
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}

// mustEdit changes the content of a file.
func mustEdit(t testing.TB, path string, change func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}
