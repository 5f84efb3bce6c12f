//go:build chaos

package chaos

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sdiff/sdiff/replica"
)

// cutMaster cuts the power of a master that syncs. Not one acknowledged commit
// may be lost.
func cutMaster(t *testing.T, r *rand.Rand, cuts int) {
	n := counts{}
	d := powerDisk(t, r, n)
	l := newLedger(r.Uint64())
	for range cuts {
		if r.IntN(8) == 0 {
			d = cutOpening(t, r, d, n)
		}
		p := serve(t, d, "--sync", "always")
		l.count(n, l.check(t, p, false))
		m := pick(r)
		ld := l.start(t, p, 0, 4, m.size(r))
		ld.underway(t)
		if m.wait(data(d)) {
			n["at "+m.name()]++
		}
		d = d.cut(t, r, n, p, ld.end)
		ld.wait()
		n["cuts"]++
	}
	p := serve(t, d, "--sync", "always")
	l.count(n, l.check(t, p, false))
	p.stop(t)
	report(t, n)
}

// cutOpening cuts the power while a master opens its store.
func cutOpening(t *testing.T, r *rand.Rand, d *disk, n counts) *disk {
	var next *disk
	wait := time.Duration(r.IntN(150)) * time.Millisecond
	launch(t, wait, func() { next = d.taken(t, r, n) }, "serve", "--data", data(d), "--listen", "127.0.0.1:0")
	n["while opening"]++
	return d.replace(t, next)
}

// cutUnsynced cuts the power of a master that does not sync, while a follower
// on another disk listens. The master may lose its newest commits, and must
// know that it may have; it may refuse to start. The follower, which holds
// more, parks. It returns how many acknowledged commits were lost.
func cutUnsynced(t *testing.T, r *rand.Rand, cuts int) (lost int) {
	n := counts{}
	d := powerDisk(t, r, n)
	l := newLedger(r.Uint64())
	m := mustStart(t, data(d), "serve", "--listen", ownAddress(r), "--sync", "never")
	at := m.ready.Address
	f := mustStart(t, filepath.Join(memoryDir(t), "f"), "follow", "--from", at)
	for range cuts {
		eventually(t, func() string { return inSync(t, m, f) })
		l.epoch = m.epoch(t)
		when := pick(r)
		ld := l.start(t, m, 0, 4, when.size(r))
		ld.underway(t)
		if r.IntN(3) > 0 {
			// Something reaches the disk, and rather at random.
			moment{after: time.Duration(r.IntN(500)) * time.Millisecond}.wait("")
			syncSome(t, r, d)
			n["synced in part"]++
		}
		if when.wait(data(d)) && when.suffix != "" {
			// Once there are several logs a hole is possible: the newer one on the
			// disk, the older one not.
			syncSome(t, r, d)
			n["synced in part at "+when.name()]++
		}
		var ahead uint64
		d = d.cut(t, r, n, m, func() {
			ld.end()
			ahead = offsetOf(t, f)
		})
		ld.wait()
		n["cuts"]++
		var err error
		if m, err = start(t, data(d), "serve", "--listen", at, "--sync", "never"); err != nil {
			if !strings.Contains(err.Error(), "exit status 8") {
				t.Fatalf("after the cut the master neither starts nor says that it is damaged: %v", err)
			}
			n["refused to start"]++
			// As after any damage, a person decides.
			restoreFrom(t, d, f, at)
			n["restored from the follower"]++
			break
		}
		before := l.epoch
		found := l.check(t, m, true)
		if l.epoch == before {
			t.Fatalf("epoch %s goes on over what may be lost", before)
		}
		l.count(n, found)
		lost += found.lost
		afterLoss(t, l, m, f, ahead, found.head, n)
	}
	report(t, n)
	return lost
}

// restoreFrom has a master that refuses to start take its follower's copy, and
// checks that nothing of that is lost.
func restoreFrom(t *testing.T, d *disk, f *process, at string) {
	t.Helper()
	s, err := f.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.stop(t)
	if _, stderr, code := sdiff(t, "restore", "--data", data(d), "--from", f.dir); code != 0 {
		t.Fatalf("restore: exit %d\n%s", code, stderr)
	}
	m := mustStart(t, data(d), "serve", "--listen", at, "--sync", "never")
	if m.ready.Fingerprint != s.Fingerprint || m.ready.Dataset != s.Dataset {
		t.Fatalf("the follower held %s of %s, the master restored from it %s of %s", s.Fingerprint, s.Dataset, m.ready.Fingerprint, m.ready.Dataset)
	}
	again := mustStart(t, f.dir, "follow", "--from", at)
	eventually(t, func() string { return inSync(t, m, again) })
}

// TestPowerCutOfNewMaster cuts the power of a master that does not sync and is
// new: it came back as the master of another dataset, an empty one, and did not
// know that it had ever been anything else.
func TestPowerCutOfNewMaster(t *testing.T) {
	r, n := rand.New(rand.NewPCG(1, 1)), counts{}
	d := powerDisk(t, r, n)
	p := serve(t, d, "--sync", "never")
	dataset := p.ready.Dataset
	l := newLedger(1)
	ld := l.start(t, p, 0, 2, 100)
	eventually(t, func() string {
		if l.acked.Load() < 10 {
			return "nothing is acknowledged"
		}
		return ""
	})
	d = d.cut(t, r, n, p, ld.end)
	ld.wait()
	if p = serve(t, d, "--sync", "never"); p.ready.Dataset != dataset {
		t.Fatalf("dataset %s before the cut, %s after it", dataset, p.ready.Dataset)
	}
}

// afterLoss checks that a follower parks if it is ahead of a master that lost
// commits, and goes on by itself if it is not. One that parks keeps what it
// has until a person says otherwise.
func afterLoss(t *testing.T, l *ledger, m, f *process, ahead, head uint64, n counts) {
	if ahead <= head {
		n["follower went on"]++
		eventually(t, func() string { return inSync(t, m, f) })
		return
	}
	n["follower parked"]++
	eventually(t, func() string {
		s, err := f.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Offset < ahead {
			t.Fatalf("the follower was at %d and gave it up for a master at %d: %s, %s", ahead, head, s.State, s.Why)
		}
		if s.State != replica.Parked {
			return fmt.Sprintf("the follower at %d is %s beside a master at %d: %s", s.Offset, s.State, head, s.Why)
		}
		return ""
	})
	if _, stderr, code := sdiff(t, "repair", "--data", f.dir, "--accept-rollback", "--allow-mass-delete"); code != 0 {
		t.Fatalf("repair --accept-rollback: exit %d\n%s", code, stderr)
	}
	eventually(t, func() string { return inSync(t, m, f) })
	l.checkItems(t, f)
}

// cutFollower cuts the power of a follower, while its master on another disk
// takes writes all the time.
func cutFollower(t *testing.T, r *rand.Rand, cuts int) {
	n := counts{}
	d := powerDisk(t, r, n)
	l := newLedger(r.Uint64())
	sync := []string{"always", "always", "never"}[r.IntN(3)]
	m := mustStart(t, filepath.Join(memoryDir(t), "m"), "serve", "--listen", "127.0.0.1:0")
	follow := func() *process {
		return mustStart(t, data(d), "follow", "--from", m.ready.Address, "--id", "cut", "--sync", sync)
	}
	f := follow()
	eventually(t, func() string { return inSync(t, m, f) })
	for i := range cuts {
		when := pick(r)
		ld := l.start(t, m, 4*i, 4, when.size(r))
		ld.underway(t)
		if when.wait(data(d)) {
			n["at "+when.name()]++
		}
		var acked uint64
		d = d.cut(t, r, n, f, func() { acked = ackedBy(t, m, "cut") })
		n["cuts, sync "+sync]++
		f = follow()
		if sync == "always" && f.ready.Offset < acked {
			t.Fatalf("LOST: the follower had acknowledged offset %d and is at %d", acked, f.ready.Offset)
		}
		ld.ended.Store(true)
		ld.wait()
		caughtUp(t, m, f)
		s, err := f.Status(t.Context())
		switch {
		case err != nil:
			t.Fatal(err)
		case s.LastRepair == nil:
			n["resumed"]++
		case sync == "always":
			t.Fatalf("the follower was repaired, though its disk kept all it had: %+v\n%s", s.LastRepair, f.log)
		default:
			n["repaired"]++
		}
	}
	eventually(t, func() string { return inSync(t, m, f) })
	l.count(n, l.check(t, m, false))
	l.checkItems(t, f)
	if v, err := f.Verify(t.Context()); err != nil || !v.OK {
		t.Fatalf("verify: %+v, %v", v, err)
	}
	report(t, n)
}
