package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/stream"
	"github.com/sdiff/sdiff/transport"
)

// damagedOpen tells TestS3DamageToAnOpenBadgerStore that it is its own child.
const damagedOpen = "REPLICA_TEST_DAMAGED_OPEN"

// openDamages is what is done to the tables of an open database. They are memory
// maps, so the database sees it at once.
var openDamages = map[string]func(r *rand.Rand, b []byte){
	"a flipped bit": func(r *rand.Rand, b []byte) { b[r.IntN(len(b))] ^= 1 << r.IntN(8) },
	"flipped bits": func(r *rand.Rand, b []byte) {
		for range len(b) / 2000 {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
	},
	"a page of zeroes": func(r *rand.Rand, b []byte) {
		at := r.IntN(max(1, len(b)-4096))
		clear(b[at:min(len(b), at+4096)])
	},
	"all zeroes": func(_ *rand.Rand, b []byte) { clear(b) },
}

// S3: damage to the tables of an open Badger database, in a process of its own,
// may end the process. It never makes a replica of either role say that a key
// is absent which is there, nor give it another value, in Get, Ascend or Update.
func TestS3DamageToAnOpenBadgerStore(t *testing.T) {
	if what := os.Getenv(damagedOpen); what != "" {
		role, damage, _ := strings.Cut(what, "/")
		readDamaged(t, role, openDamages[damage])
		return
	}
	if testing.Short() || raced {
		t.Skip("starts processes that damage may end")
	}
	noticed := 0
	for _, role := range []string{"master", "follower"} {
		for name := range openDamages {
			cmd := exec.Command(os.Args[0], "-test.run=^TestS3DamageToAnOpenBadgerStore$", "-test.v")
			cmd.Env = append(os.Environ(), damagedOpen+"="+role+"/"+name)
			out, err := cmd.CombinedOutput()
			text := string(out)
			line := "ended the process"
			if _, after, ok := strings.Cut(text, "READ "); ok {
				line, _, _ = strings.Cut(after, "\n")
			}
			t.Logf("%s, %s: %s", role, name, line)
			switch {
			case strings.Contains(text, "--- FAIL"):
				t.Errorf("%s, %s: %s", role, name, text)
			case err != nil && !strings.Contains(text, "DAMAGED"):
				t.Errorf("%s, %s: ended before the damage: %v %s", role, name, err, text)
			case err != nil || !strings.Contains(line, " 0 damaged"):
				noticed++
			}
		}
	}
	if noticed == 0 {
		t.Error("no damage had any effect")
	}
}

const damagedKeys = 6000

func damagedValue(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "value %d ", i), 10) }

// readDamaged runs a replica over a Badger store, damages its tables and reads
// everything in every way.
func readDamaged(t *testing.T, role string, damage func(*rand.Rand, []byte)) {
	dir, l := t.TempDir(), transport.NewPipeListener()
	open := func() store.Store {
		st, err := badgerstore.Open(dir, badgerstore.Options{NoSync: true, Memory: badgerstore.MinMemory})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	var other store.Store = store.NewMemory()
	serve := func(st store.Store, l net.Listener) (*replica.Master, *running) {
		m, err := replica.NewMaster(st, replica.MasterConfig{Listener: l, Scrub: -1})
		if err != nil {
			t.Fatal(err)
		}
		return m, start(t, m.Run)
	}
	follow := func(st store.Store) (*replica.Follower, *running) {
		f, err := replica.NewFollower(st, replica.FollowerConfig{ID: "f", Dial: l.Dial, Scrub: -1})
		if err != nil {
			t.Fatal(err)
		}
		return f, start(t, f.Run)
	}
	mst, fst := other, other
	if role == "master" {
		mst = open()
	} else {
		fst = open()
	}
	m, mrun := serve(mst, l)
	var pos stream.Position
	for i := range damagedKeys {
		var err error
		if pos, err = m.Put(t.Context(), keyOf(i), damagedValue(i)); err != nil {
			t.Fatal(err)
		}
	}
	if role == "follower" {
		f, frun := follow(fst)
		if err := f.WaitFor(t.Context(), pos); err != nil {
			t.Fatal(err)
		}
		frun.stop()
		fst.Close() // writes the tables
		fst = open()
		f, _ = follow(fst)
		<-f.Ready()
		hitTables(t, dir, damage)
		readAll(t, f.Get, func(lo, hi []byte, each func(k, v []byte)) (err error) {
			for it, e := range f.Ascend(t.Context(), lo, hi) {
				if err = e; e == nil {
					each(it.Key, it.Value)
				}
			}
			return err
		})
		return
	}
	mrun.stop()
	mst.Close()
	m, _ = serve(open(), nil)
	<-m.Ready()
	hitTables(t, dir, damage)
	readAll(t, m.Get, func(lo, hi []byte, each func(k, v []byte)) (err error) {
		_, uerr := m.Update(t.Context(), func(tx *replica.Tx) error {
			err = tx.Ascend(lo, hi, func(k, v []byte) bool { each(k, v); return true })
			return nil
		})
		return errors.Join(err, uerr)
	})
}

func hitTables(t *testing.T, dir string, damage func(*rand.Rand, []byte)) {
	seed := uint64(time.Now().UnixNano())
	fmt.Println("DAMAGED with seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	tables, err := filepath.Glob(dir + "/*.sst")
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, path := range tables {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damage(r, b)
		f, err := os.OpenFile(path, os.O_RDWR, 0) // in place: the map is of this file
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
}

// readAll reads every key, alone and in ranges, and fails for each that is not
// there or not right without an error that says damage.
func readAll(t *testing.T, get func(context.Context, []byte) ([]byte, error), ascend func(lo, hi []byte, each func(k, v []byte)) error) {
	right, damaged := 0, 0
	for i := range damagedKeys {
		v, err := get(t.Context(), keyOf(i))
		switch {
		case err == nil && bytes.Equal(v, damagedValue(i)):
			right++
		case errors.Is(err, store.ErrCorrupt) || errors.Is(err, replica.ErrDamaged):
			damaged++
		default:
			t.Errorf("Get(%s) = %d bytes, %v", keyOf(i), len(v), err)
		}
	}
	if _, err := get(t.Context(), []byte("none")); err == nil {
		t.Error("Get of an absent key: no error")
	}
	const step = 100
	ranges := 0
	for i := 0; i < damagedKeys; i += step {
		n := i
		err := ascend(keyOf(i), keyOf(i+step), func(k, v []byte) {
			if !bytes.Equal(k, keyOf(n)) || !bytes.Equal(v, damagedValue(n)) {
				t.Errorf("Ascend: %.20q where %s was to come", k, keyOf(n))
			}
			n++
		})
		switch {
		case errors.Is(err, store.ErrCorrupt) || errors.Is(err, replica.ErrDamaged):
			ranges++
		case err != nil || n != i+step:
			t.Errorf("Ascend from %d: %d items, %v", i, n-i, err)
		}
	}
	fmt.Printf("READ %d right, %d damaged, %d of %d ranges damaged\n", right, damaged, ranges, damagedKeys/step)
}
