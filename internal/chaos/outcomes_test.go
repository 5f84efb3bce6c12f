//go:build chaos

package chaos

import (
	"os"
	"path/filepath"
	"strings"
)

// doctored fails the test unless doctor says of a damaged directory what a
// start will find.
func (v *victim) doctored(dir string, want verdict) {
	v.t.Helper()
	stdout, stderr, code := sdiff(v.t, "doctor", "--data", dir)
	expected := v.d.doctor
	switch want {
	case refusesDamaged, offersLoss, offersStore:
		expected = 8
	}
	if code != expected || strings.Contains(stdout+stderr, "goroutine ") {
		v.t.Errorf("doctor: exit code %d, want %d: %s%s", code, expected, stdout, stderr)
	}
}

// hurtMaster hurts the master's directory while it is stopped and its follower
// runs, and starts it.
func (v *victim) hurtMaster(s *specimens) {
	t := v.t
	f := v.follow(v.copied)
	v.holds(f, "the follower before", v.has)
	v.d.do(t, s, "master", v.master)
	v.doctored(v.master, v.d.master)
	switch v.d.master {
	case refusesDamaged:
		v.mustRefuse(8, []string{v.d.says}, v.master, "serve", "--listen", v.address)
		v.holds(f, "the follower after the refusal", v.has)
		v.restoreFrom(f, filepath.Join(filepath.Dir(v.master), "new"))
	case refusesOther:
		v.mustRefuse(2, []string{v.d.says}, v.master, "serve", "--listen", v.address)
		v.holds(f, "the follower after the refusal", v.has)
	case offersLoss:
		v.acceptThenRestore(f, "--accept-data-loss")
	case offersStore:
		v.acceptThenRestore(f, "--accept-store")
	default:
		m, err := v.serve()
		if err != nil {
			t.Fatal(err)
		}
		v.beside(m, f)
	}
}

// beside looks at a hurt master that started, and at its follower.
func (v *victim) beside(m, f *process) {
	v.t.Helper()
	switch v.d.master {
	case startsWhole:
		v.same(m, f)
		v.holds(f, "the follower at the end", v.want)
		v.holds(m, "the master", v.want)
		st, err := m.Status(v.t.Context())
		if err != nil {
			v.t.Fatal(err)
		}
		f, err := f.Status(v.t.Context())
		if err != nil {
			v.t.Fatal(err)
		}
		v.says(m.log.String() + strings.Join(st.Store.Notes, "; ") + f.Why)
		if st.Epoch != f.Epoch {
			v.t.Errorf("the epochs are %s and %s", st.Epoch, f.Epoch)
		}
	case isBehind:
		v.says(v.state(f, "parked"))
		v.holds(f, "the parked follower", v.want)
		m.stop(v.t)
		v.restoreFrom(f, v.master)
	case isForeign:
		v.keepsOff(f, v.want)
	}
}

// acceptThenRestore starts a master that refuses, with a person's word, sees
// that its follower keeps what it has until a person decides, lets that person
// decide for the one or the other, and ends with an equal pair.
func (v *victim) acceptThenRestore(f *process, flag string) {
	v.t.Helper()
	v.mustRefuse(8, []string{v.d.says, flag, "sdiff restore --data " + v.master}, v.master, "serve", "--listen", v.address)
	m, err := v.serve(flag)
	if err != nil {
		v.t.Fatal(err)
	}
	if v.d.fresh {
		f = v.keepsOff(f, v.want)
		m.stop(v.t)
		v.restoreFrom(f, filepath.Join(filepath.Dir(v.master), "new"))
		return
	}
	if v.d.agrees {
		v.same(m, f)
		v.holds(m, "the master that lacks nothing", v.want)
		v.holds(f, "its follower", v.want)
		return
	}
	v.state(f, "parked")
	st, err := m.Status(v.t.Context())
	if err != nil {
		v.t.Fatal(err)
	}
	if fs, err := f.Status(v.t.Context()); err != nil || fs.Epoch == st.Epoch || fs.Dataset != st.Dataset {
		v.t.Errorf("the follower is of epoch %s, the master, of which a loss was accepted, of %s: %v", fs.Epoch, st.Epoch, err)
	}
	v.holds(f, "the parked follower", v.has)
	if v.d.behind || len(v.d.name)%2 == 0 {
		// What the master holds is the truth now, says a person.
		args := []string{"repair", "--data", f.dir, "--accept-rollback", "--allow-mass-delete"}
		if _, stderr, code := sdiff(v.t, args...); code != 0 {
			v.t.Fatalf("repair --accept-rollback: exit code %d: %s", code, stderr)
		}
		v.same(m, f)
		return
	}
	m.stop(v.t)
	v.restoreFrom(f, v.master)
}

// keepsOff waits until a follower says that its master is of another dataset,
// and sees that it keeps what it has: a follower that was never served ends, with
// exit code 2, and one that was parks. It returns one that runs.
func (v *victim) keepsOff(f *process, want map[string]string) *process {
	v.t.Helper()
	eventually(v.t, func() string {
		if st, err := f.Status(v.t.Context()); !f.ended() && (err != nil || st.State != "parked") {
			return "the follower neither ended nor parked"
		}
		return ""
	})
	if f.ended() {
		if code := f.cmd.ProcessState.ExitCode(); code != 2 {
			v.t.Errorf("the follower of another dataset: exit code %d, want 2: %s", code, f.log)
		}
		f = mustStart(v.t, f.dir, "follow", "--from", "127.0.0.1:1") // where nobody is
	}
	v.holds(f, "the follower of another dataset", want)
	return f
}

// restoreFrom takes the follower's copy for the truth: nothing is lost.
func (v *victim) restoreFrom(f *process, dir string) {
	v.t.Helper()
	f.stop(v.t)
	if _, stderr, code := sdiff(v.t, "restore", "--data", dir, "--from", f.dir); code != 0 {
		v.t.Fatalf("restore: exit code %d: %s", code, stderr)
	}
	m, err := v.start(dir, "serve", "--listen", v.address)
	if err != nil {
		v.t.Fatal(err)
	}
	f = v.follow(f.dir)
	v.same(m, f)
	v.holds(m, "the restored master", v.want)
	v.holds(f, "its follower", v.want)
}

// hurtFollower hurts the follower's directory while it is stopped and its
// master runs, and starts it.
func (v *victim) hurtFollower(s *specimens) {
	t := v.t
	m, err := v.serve()
	if err != nil {
		t.Fatal(err)
	}
	v.holds(m, "the master before", v.want)
	v.d.do(t, s, "follower", v.copied)
	v.doctored(v.copied, v.d.follower)
	follow := []string{"follow", "--from", v.address}
	switch v.d.follower {
	case refusesDamaged, refusesOther:
		code := 8
		if v.d.follower == refusesOther {
			code = 2
		}
		v.mustRefuse(code, []string{v.d.says}, v.copied, follow...)
		v.holds(m, "the master after the refusal", v.want)
		// The way out is a new directory; the old one is kept.
		f := v.follow(filepath.Join(filepath.Dir(v.copied), "new"))
		v.same(m, f)
		v.holds(f, "the new follower", v.want)
	case isForeign:
		f := v.follow(v.copied)
		v.keepsOff(f, s.other.want)
	default:
		f := v.follow(v.copied)
		v.same(m, f)
		v.holds(f, "the follower at the end", v.want)
		st, err := f.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		said := f.log.String() + strings.Join(st.Store.Notes, "; ")
		v.says(said)
		if v.d.follower == offersLoss || v.d.follower == offersStore {
			if !strings.Contains(said, "does not hold what it should") {
				t.Errorf("it does not say that it lost something: %s", said)
			}
		}
	}
	v.holds(m, "the master at the end", v.want)
	if _, err := os.Stat(v.copied); err != nil {
		t.Error(err)
	}
}
