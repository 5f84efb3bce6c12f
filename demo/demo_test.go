package demo

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
)

// TestRun plays the demo small, which verifies itself, and checks how it looks.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	if err := Run(t.Context(), &out, Options{Keys: 2000, Bad: 30, Rate: 2000, Seed: 7}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	t.Logf("\n%s", out.String())
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSuffix(line, "\n")
		if len(line) > width || line != strings.TrimRight(line, " ") {
			t.Errorf("line of %d columns, or blanks at its end: %q", len(line), line)
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("not plain text: %q", line)
		}
	}
	if !strings.Contains(out.String(), "All 10 steps verified in ") {
		t.Error("the last line is missing")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	mine := errors.New("enough")
	// The first step is written before the context ends, the pause after.
	w := writerFunc(func(p []byte) (int, error) {
		if strings.Contains(string(p), " 1. ") {
			cancel(mine)
		}
		return len(p), nil
	})
	if err := Run(ctx, w, Options{Pause: time.Hour}); !errors.Is(err, mine) {
		t.Errorf("Run() = %v, want %v", err, mine)
	}
}

func TestRunFailsIfNobodyCanRead(t *testing.T) {
	full := errors.New("disk full")
	w := writerFunc(func([]byte) (int, error) { return 0, full })
	if err := Run(t.Context(), w, Options{}); !errors.Is(err, full) {
		t.Errorf("Run() = %v, want %v", err, full)
	}
}

func TestOptions(t *testing.T) {
	for _, opt := range []Options{{Keys: 1}, {Bad: -1}, {Rate: 1}, {Pause: -1}} {
		if err := Run(t.Context(), new(bytes.Buffer), opt); err == nil {
			t.Errorf("Run(%+v) = nil, want an error", opt)
		}
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestSameSeesEveryDifference changes a follower's database behind its back.
// What the demo calls equal must be.
func TestSameSeesEveryDifference(t *testing.T) {
	ctx, p, err := listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	st := store.NewMemory()
	if err := errors.Join(
		p.serve(ctx, store.NewMemory(), replica.MasterConfig{}),
		p.follow(ctx, st, replica.FollowerConfig{ID: "f"}),
	); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"a", "b", "c"} {
		pos, err := p.master.Put(ctx, []byte(k), []byte("value"))
		if err == nil {
			err = p.follower.WaitFor(ctx, pos)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, want bool) {
		t.Helper()
		if n, err := same(ctx, p); (err == nil) != want || want && n != 3 {
			t.Errorf("%s: same() = %d, %v", what, n, err)
		}
	}
	check("at first", true)
	st.Tamper([]byte("b"), []byte("other"))
	check("a changed value", false)
	st.Drop([]byte("b"))
	check("a key that is missing in the middle", false)
	st.Tamper([]byte("b"), []byte("value"))
	st.Drop([]byte("c"))
	check("a key that is missing at the end", false)
	st.Tamper([]byte("c"), []byte("value"))
	st.Tamper([]byte("d"), nil)
	check("a key too many", false)
	if _, err := p.follower.Repair(ctx, replica.RepairOptions{AllowMassDelete: true}); err != nil {
		t.Fatal(err)
	}
	check("at last", true)
}

func TestWords(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{number(0), "0"}, {number(999), "999"}, {number(1000), "1,000"}, {number(1234567), "1,234,567"},
		{plural(1, "key"), "1 key"}, {plural(0, "key"), "0 keys"}, {plural(2000, "key"), "2,000 keys"},
		{size(999), "999 B"}, {size(1500), "1.5 KB"}, {size(12_345_678), "12.3 MB"},
		{seconds(300 * time.Microsecond), "0.3 ms"}, {seconds(23 * time.Millisecond), "23 ms"}, {seconds(1300 * time.Millisecond), "1.3 s"},
		{when(7, 7), "at that very commit"}, {when(1008, 1007), "at commit 1,008, 1 commit later"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
