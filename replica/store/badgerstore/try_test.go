//go:build linux || darwin

package badgerstore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
)

// inherited returns a file on the same open directory, as a child process has
// it.
func inherited(t testing.TB, lock *os.File) *os.File {
	t.Helper()
	fd, err := syscall.Dup(int(lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), lock.Name())
}

// Open has somebody else open the database first if it was killed, or touched
// since it was closed, and not if it is new or untouched. Nobody can come in
// between.
func TestTriesFirstAfterAnUncleanStop(t *testing.T) {
	closed, killed, want := sources(t)
	touched, empty := t.TempDir(), t.TempDir()
	copyDir(t, closed, touched)
	if err := os.Chtimes(filepath.Join(touched, "MANIFEST"), time.Time{}, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, dir string
		want      merkle.Summary
		tries     int
	}{
		{"closed", closed, want, 0}, {"killed", killed, want, 1}, {"touched", touched, want, 1}, {"empty", empty, merkle.Summary{}, 0},
	} {
		if c.name == "killed" {
			touch(t, filepath.Join(c.dir, "00099.mem"))
		}
		tries := 0
		opt := badgerstore.Options{NoSync: true, First: func(dir string, lock *os.File) ([]string, error) {
			tries++
			if _, err := badgerstore.Open(dir); err == nil || !strings.Contains(err.Error(), "in use") {
				t.Errorf("%s: somebody else opened it meanwhile: %v", c.name, err)
			}
			return badgerstore.Try(dir, inherited(t, lock), badgerstore.Options{NoSync: true})
		}}
		st := mustOpen(t, c.dir, opt)
		if tries != c.tries {
			t.Errorf("%s: %d tries, want %d", c.name, tries, c.tries)
		}
		if notes := st.Info().Notes; (len(notes) > 0) != (c.name == "killed") {
			t.Errorf("%s: notes %q", c.name, notes)
		}
		closeStore(t, st)
		if got, notes := judge(t, c.dir, c.want); got != whole {
			t.Errorf("%s: %s %q", c.name, got, notes)
		}
	}
}

// What became of the trial is what Open returns, unless it can find out itself.
func TestTrialThatFails(t *testing.T) {
	_, killed, want := sources(t)
	died := fmt.Errorf("%w: it ended the process", store.ErrCorrupt)
	_, err := badgerstore.Open(killed, badgerstore.Options{First: func(string, *os.File) ([]string, error) { return nil, died }})
	if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "ended the process") {
		t.Errorf("Open: %v", err)
	}
	tries := 0
	st, err := badgerstore.Open(killed, badgerstore.Options{First: func(string, *os.File) ([]string, error) {
		tries++
		return []string{"a note"}, fmt.Errorf("%w: as an example", badgerstore.ErrTryAgain)
	}})
	if err != nil || tries != 1 || len(st.Info().Notes) != 1 {
		t.Fatalf("Open: %v after %d tries", err, tries)
	}
	closeStore(t, st)
	if got, _ := judge(t, killed, want); got != whole {
		t.Errorf("it is %s", got)
	}
}

// A file CLOSED that is cut, changed or of another directory is none.
func TestClosedFileThatIsNone(t *testing.T) {
	closed, _, _ := sources(t)
	for name, change := range map[string]func(b []byte) []byte{
		"cut":     half,
		"empty":   func([]byte) []byte { return nil },
		"flipped": flip(20),
		"longer":  func(b []byte) []byte { return append(b, "00000000\n"...) },
	} {
		path := filepath.Join(closed, "CLOSED")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		edit(t, path, change)
		in, err := badgerstore.Inspect(closed)
		if err != nil || in.Untouched || !in.Closed.IsZero() {
			t.Errorf("%s: closed at %v, untouched %v, %v", name, in.Closed, in.Untouched, err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if in, err := badgerstore.Inspect(closed); err != nil || !in.Untouched || time.Since(in.Closed) > time.Hour {
			t.Errorf("whole again: %+v, %v", in, err)
		}
	}
}

// An empty or zeroed HEAD was called missing.
func TestEmptyHeadIsCalledEmpty(t *testing.T) {
	closed, _, _ := sources(t)
	for want, change := range map[string]func(path string){
		"the file HEAD is missing: ":              func(path string) { remove(t, path) },
		"the file HEAD is empty: ":                func(path string) { touch(t, path) },
		"the file HEAD is all zeroes: ":           func(path string) { edit(t, path, func(b []byte) []byte { clear(b); return b }) },
		"the file HEAD is damaged: ":              func(path string) { edit(t, path, func(b []byte) []byte { return b[:40] }) },
		"one of the two slots of HEAD is missing": func(path string) { edit(t, path, func(b []byte) []byte { return b[:64] }) },
		"one of the two slots of HEAD is damaged": func(path string) { edit(t, path, flip(10)) },
	} {
		dir := t.TempDir()
		copyDir(t, closed, dir)
		change(filepath.Join(dir, "HEAD"))
		st := mustOpen(t, dir, badgerstore.Options{NoSync: true})
		if notes := st.Info().Notes; len(notes) != 1 || !strings.HasPrefix(notes[0], want) {
			t.Errorf("%q, want %q", notes, want)
		}
		closeStore(t, st)
	}
}
