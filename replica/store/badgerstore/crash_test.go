package badgerstore_test

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/stream"
)

// kills is how often TestKill kills a process of each kind.
var kills = flag.Int("kills", 2, "rounds of TestKill")

// childDir tells the test binary that it is a child of TestKill.
// With childDamage it is one of TestDamageWhileRunning.
const (
	childDir    = "BADGERSTORE_TEST_CHILD_DIR"
	childDamage = "BADGERSTORE_TEST_CHILD_DAMAGE"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		var err error
		if name := os.Getenv(childDamage); name != "" {
			err = childReadsDamage(dir, name, os.Getenv("BADGERSTORE_TEST_WANT"))
		} else {
			err = childWrites(dir, os.Getenv("BADGERSTORE_TEST_CHILD_NOSYNC") != "")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// childTxn makes the transaction after the one with meta m: some items get the
// new offset as their value, large ones now and then so that memory tables are
// written out often.
func childTxn(m store.Meta) *store.Txn {
	n := m.Position.Offset + 1
	size := 100
	if n%2 == 0 {
		size = 500_000
	}
	tx := &store.Txn{Meta: store.Meta{Role: store.Master, Summary: m.Summary}}
	for k := range 6 {
		// Every key exists once the sixth transaction is through.
		key := fmt.Appendf(nil, "key%d", (n+uint64(k))%12)
		tx.Ops = append(tx.Ops, stream.Op{Key: key, Value: childValue(n, size)})
	}
	tx.Log = &stream.Record{First: n, Last: n, Body: childValue(n, size)}
	tx.Meta.Position = stream.Position{Epoch: stream.Epoch{1}, Offset: n}
	return tx
}

func childValue(n uint64, size int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%09d ", n), size/10)
}

// childWrites writes until it is killed, and says on standard output how far it
// has got.
func childWrites(dir string, noSync bool) error {
	st, err := badgerstore.Open(dir, badgerstore.Options{NoSync: noSync})
	if err != nil {
		return err
	}
	v, err := st.View()
	if err != nil {
		return err
	}
	m, err := v.Meta()
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	v.Close()
	endc := make(chan error, 1)
	endc <- nil // there is none before the first
	for {
		tx := childTxn(m)
		before := m.Seq
		next := make(chan error, 1)
		start := store.Start
		if tx.Meta.Position.Offset%3 == 0 {
			start = writeIt
		}
		if err := start(st, tx, next); err != nil {
			return err
		}
		if err := <-endc; err != nil {
			return err
		}
		fmt.Println(before)
		m, endc = tx.Meta, next
	}
}

// writeIt is store.Start for a store that knows no better.
func writeIt(st store.Store, tx *store.Txn, endc chan<- error) error {
	err := st.Write(tx)
	endc <- err
	return err
}

// TestKill kills a process that writes, at random moments, and looks at what it
// left behind: every acknowledged transaction, whole, and a HEAD that is not
// ahead.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	for _, noSync := range []bool{false, true} {
		t.Run(fmt.Sprintf("nosync=%v", noSync), func(t *testing.T) {
			dir := t.TempDir()
			r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
			for range *kills {
				acked := runChild(t, dir, noSync, r.IntN(40)+1)
				checkKilled(t, dir, acked)
			}
		})
	}
}

// runChild starts a child, kills it after so many transactions, and returns the
// last that it acknowledged.
func runChild(t *testing.T, dir string, noSync bool, txns int) (acked uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	if noSync {
		cmd.Env = append(cmd.Env, "BADGERSTORE_TEST_CHILD_NOSYNC=1")
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for n := 0; ; n++ {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if seq, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64); err == nil {
			acked = seq
		}
		if n == txns {
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	if acked == 0 {
		t.Fatal("the child did not write anything")
	}
	return acked
}

func checkKilled(t *testing.T, dir string, acked uint64) {
	t.Helper()
	st := mustOpen(t, dir, badgerstore.Options{})
	defer closeStore(t, st)
	info := st.Info()
	for _, n := range info.Notes {
		t.Log("note:", n)
	}
	v, err := st.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	m, err := v.Meta()
	if err != nil || m.Seq < acked || m.Seq > acked+1 || m.Position.Offset != m.Seq {
		t.Fatalf("after %d acknowledged transactions the meta is %+v, %v", acked, m, err)
	}
	if h := info.Head; h == nil || h.Seq > m.Seq || h.Seq < acked-1 || h.Position.Offset != h.Seq {
		t.Fatalf("HEAD is %+v, the store at %d of %d", h, m.Seq, acked)
	}
	for k := range uint64(12) {
		// The newest transaction that wrote the key.
		n := m.Seq
		for n > 0 && !writes(n, k) {
			n--
		}
		got, err := v.Get(fmt.Appendf(nil, "key%d", k))
		if n == 0 {
			continue
		}
		if want := childTxn(store.Meta{Position: stream.Position{Offset: n - 1}}).Ops[0].Value; err != nil || !bytes.Equal(got, want) {
			t.Fatalf("at transaction %d key %d has a value of %d bytes, %v; want that of %d", m.Seq, k, len(got), err, n)
		}
	}
	next := uint64(1)
	err = v.Log(0, func(r stream.Record) bool {
		if r.First != next {
			t.Fatalf("the log goes on with %d, want %d", r.First, next)
		}
		next++
		return true
	})
	if err != nil || next != m.Seq+1 {
		t.Fatalf("the log ends before %d, %v, want %d", next, err, m.Seq+1)
	}
}

// writes reports whether transaction n writes key k.
func writes(n, k uint64) bool { return (k+12-n%12)%12 < 6 }

// TestHeadLagsAfterKill shows the other side of HEAD: it is written after the
// transaction, so a kill between the two leaves it behind, which is normal.
func TestHeadLagsAfterKill(t *testing.T) {
	dir := t.TempDir()
	var w writer
	st := mustOpen(t, dir, badgerstore.Options{NoSync: true})
	w.write(t, st, 5)
	closeStore(t, st)
	head, err := os.ReadFile(dir + "/HEAD")
	if err != nil {
		t.Fatal(err)
	}
	st = mustOpen(t, dir, badgerstore.Options{NoSync: true})
	w.write(t, st, 1)
	closeStore(t, st)
	if err := os.WriteFile(dir+"/HEAD", head, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, said := judge(t, dir, w.sum); got != whole || len(said) > 0 {
		t.Errorf("a HEAD one behind: %s, %q", got, said)
	}
}

// TestHeadAfterRollback writes on in a database that lost its end. HEAD must
// then tell of the new end, not of the larger sequence that was lost.
func TestHeadAfterRollback(t *testing.T) {
	old, dir := t.TempDir(), t.TempDir()
	var w writer
	st := mustOpen(t, dir, badgerstore.Options{NoSync: true})
	w.write(t, st, 5)
	closeStore(t, st)
	copyDir(t, dir, old)
	st = mustOpen(t, dir, badgerstore.Options{NoSync: true})
	w.write(t, st, 5)
	closeStore(t, st)
	// The old backup, with the HEAD of now.
	remove(t, old+"/HEAD")
	head, err := os.ReadFile(dir + "/HEAD")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(old+"/HEAD", head, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := judge(t, old, w.sum); got != behind {
		t.Fatalf("an old backup: %s, want %s", got, behind)
	}
	st = mustOpen(t, old, badgerstore.Options{NoSync: true})
	if h := st.Info().Head; h == nil || h.Seq != 10 {
		t.Fatalf("HEAD is %+v, want sequence 10", h)
	}
	tx := &store.Txn{Meta: store.Meta{Summary: merkle.Summary{Count: 1}}}
	if err := st.Write(tx); err != nil || tx.Meta.Seq != 6 {
		t.Fatalf("Write: %v, sequence %d", err, tx.Meta.Seq)
	}
	closeStore(t, st)
	st = mustOpen(t, old, badgerstore.Options{NoSync: true})
	defer closeStore(t, st)
	if h := st.Info().Head; h == nil || h.Seq != 6 || h.Summary.Count != 1 {
		t.Errorf("HEAD is %+v after writing on, want sequence 6", h)
	}
}
