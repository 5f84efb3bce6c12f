package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A sink is a fake master that notes its commits and refuses keys as wanted.
type sink struct {
	fake
	commits []int // ops of each commit taken
	keys    []string
	tries   int
}

func newSink(refuse func(key string) error) *sink {
	s := &sink{}
	s.limits = store.Limits{Key: 100, Value: 50, CommitBytes: 1000, CommitOps: 8}
	s.wrote = func(ops []stream.Op) error {
		s.tries++
		if len(ops) > s.limits.CommitOps || stream.Size(ops) > s.limits.CommitBytes {
			return errors.New("the commit is over the limits")
		}
		for _, op := range ops {
			if err := refuse(string(op.Key)); err != nil {
				return err
			}
		}
		s.commits = append(s.commits, len(ops))
		for _, op := range ops {
			s.keys = append(s.keys, string(op.Key))
		}
		return nil
	}
	return s
}

func takeAll(string) error { return nil }

func TestLoadPacks(t *testing.T) {
	s := newSink(takeAll)
	dir := serveFake(t, &s.fake, false)
	var in strings.Builder
	for i := range 20 {
		fmt.Fprintf(&in, "{\"key\":\"%02d\",\"value\":\"v\"}\n", i)
	}
	in.WriteString(" \n\r\n") // blank lines are none
	for i := range 3 {        // two of these fill what is left of the third commit
		fmt.Fprintf(&in, "{\"key\":\"%s%d\",\"value\":\"v\"}\r\n", strings.Repeat("k", 400), i)
	}
	text := strings.TrimSuffix(in.String(), "\r\n") // a last line without an end counts
	r := call(t.Context(), text, nil, "load", "--data", dir, "-")
	if r.exit != 0 || !strings.HasPrefix(r.stdout, "loaded 23 items (1.3 kB) in 4 commits") {
		t.Errorf("exit %d: %s%s", r.exit, r.stdout, r.stderr)
	}
	if got, want := fmt.Sprint(s.commits), "[8 8 6 1]"; got != want {
		t.Errorf("commits of %s ops, want %s", got, want)
	}
	for i := range 20 {
		if s.keys[i] != fmt.Sprintf("%02d", i) {
			t.Errorf("item %d is %s", i, s.keys[i])
		}
	}
}

// TestLoadStops shows that everything before a bad line is loaded and nothing
// after it, whether the line is no item or the master refuses it.
func TestLoadStops(t *testing.T) {
	line := func(key string) string { return fmt.Sprintf("{\"key\":%q,\"value\":\"SECRET\"}\n", key) }
	tests := []struct {
		what, bad string
		exit      int
		code      control.Code
		want      string
	}{
		{"no JSON", "SECRET\n", 2, control.BadInput, "line 14: byte 1: an object in braces is expected"},
		{"not closed", `{"key":"x","value":"SECRET"` + "\n", 2, control.BadInput, "line 14: byte 28: a comma or the closing brace"},
		{"an error that list printed", `{"error":{"code":"cut_off","message":"","hint":""}}` + "\n", 2, control.BadInput, "line 14: byte 2: only key"},
		{"a bad key", line("reserved"), 2, control.BadKey, "line 14: bad key"},
		{"a large value", line("large"), 2, control.TooLarge, "line 14: value too large: 9, the limit is 8"},
		{"a long line", strings.Repeat(" ", maxInput+1) + "\n", 2, control.BadInput, "line 14: it is longer than"},
	}
	for _, test := range tests {
		s := newSink(func(key string) error {
			switch key {
			case "reserved":
				return replica.ErrKey
			case "large":
				return &replica.LimitError{What: "value", Got: 9, Max: 8}
			}
			return nil
		})
		dir := serveFake(t, &s.fake, false)
		var in strings.Builder
		for i := range 13 {
			in.WriteString(line(fmt.Sprintf("%02d", i)))
		}
		in.WriteString(test.bad)
		for i := range 13 {
			in.WriteString(line(fmt.Sprintf("after%02d", i)))
		}
		r := call(t.Context(), in.String(), nil, "load", "--data", dir, "-", "-o", "json")
		e, _ := r.objects(t)[0]["error"].(map[string]any)
		if r.exit != test.exit || e["code"] != string(test.code) || !strings.HasPrefix(fmt.Sprint(e["message"]), test.want) {
			t.Errorf("%s: exit %d, %v; want %d, %s, %q", test.what, r.exit, e, test.exit, test.code, test.want)
		}
		if len(s.keys) != 13 || s.keys[12] != "12" {
			t.Errorf("%s: loaded %v, want the 13 before it", test.what, s.keys)
		}
		if !strings.Contains(r.stderr, "loaded 13 items") {
			t.Errorf("%s: standard error does not say what was loaded: %s", test.what, r.stderr)
		}
		if strings.Contains(r.stdout+r.stderr, "SECRET") {
			t.Errorf("%s: the error holds the value: %s%s", test.what, r.stdout, r.stderr)
		}
	}
}

// TestLoadFails shows that a commit that fails for another reason is tried
// once and ends the load.
func TestLoadFails(t *testing.T) {
	s := newSink(func(string) error { return replica.ErrOutcomeUnknown })
	dir := serveFake(t, &s.fake, false)
	r := call(t.Context(), `{"key":"a","value":""}`+"\n"+`{"key":"b","value":""}`+"\n", nil, "load", "--data", dir, "-")
	if r.exit != 4 || s.tries != 1 {
		t.Errorf("exit %d after %d tries: %s", r.exit, s.tries, r.stderr)
	}
}

// TestLoadSlowly shows that whoever writes slowly is not made to wait for a
// full commit.
func TestLoadSlowly(t *testing.T) {
	took := make(chan string)
	s := newSink(takeAll)
	inner := s.wrote
	s.wrote = func(ops []stream.Op) error {
		took <- string(ops[0].Key)
		return inner(ops)
	}
	dir := serveFake(t, &s.fake, false)
	in, w := io.Pipe()
	done := make(chan int)
	go func() {
		done <- run(t.Context(), []string{"load", "--data", dir, "-"}, in, io.Discard, io.Discard, nil)
	}()
	for _, key := range []string{"a", "b"} {
		if _, err := fmt.Fprintf(w, "{\"key\":%q,\"value\":\"\"}\n", key); err != nil {
			t.Fatal(err)
		}
		if got := <-took; got != key {
			t.Errorf("a commit begins with %s, want %s", got, key)
		}
	}
	w.Close()
	if exit := <-done; exit != 0 {
		t.Errorf("exit %d", exit)
	}
}

// TestLoadFiles walks a folder with everything in it that cannot be loaded.
func TestLoadFiles(t *testing.T) {
	s := newSink(func(key string) error {
		if strings.HasPrefix(key, "!sdiff!") {
			return replica.ErrKey
		}
		return nil
	})
	dir := serveFake(t, &s.fake, false)
	root := t.TempDir()
	for _, name := range []string{"a.txt", "b/c/d.txt", "b/e.txt", "z"} {
		writeFile(t, filepath.Join(root, filepath.FromSlash(name)), name)
	}
	writeFile(t, filepath.Join(root, "large"), strings.Repeat("x", 51))
	writeFile(t, filepath.Join(root, "fits"), strings.Repeat("x", 50))
	writeFile(t, filepath.Join(root, "empty"), "")
	writeFile(t, filepath.Join(root, "!sdiff!x"), "reserved")
	if err := os.Symlink("a.txt", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	r := call(t.Context(), "", nil, "load", "--data", dir, "--files", root, "-o", "json")
	if r.exit != exitPartial {
		t.Fatalf("exit %d: %s%s", r.exit, r.stdout, r.stderr)
	}
	if got, want := strings.Join(s.keys, " "), "a.txt b/c/d.txt b/e.txt empty fits z"; got != want {
		t.Errorf("loaded %s, want %s", got, want)
	}
	o := r.objects(t)[0]
	wantFields(t, "load --files", o, "items", "bytes", "commits", "offset", "seconds", "skipped")
	for name, why := range map[string]string{"large": "51 bytes are over the value limit of 50", "link": "it is no regular file", "!sdiff!x": "bad key"} {
		line := fmt.Sprintf("skipped %s: %s", filepath.Join(root, name), why)
		if !strings.Contains(r.stderr, line) {
			t.Errorf("standard error has no line %q:\n%s", line, r.stderr)
		}
	}
	if skipped, ok := o["skipped"].([]any); !ok || len(skipped) != 3 {
		t.Errorf("skipped: %v", o["skipped"])
	}
}

// TestLoadOwnDirectory shows that a master's own files are not loaded into it.
func TestLoadOwnDirectory(t *testing.T) {
	s := newSink(takeAll)
	dir := serveFake(t, &s.fake, false)
	writeFile(t, filepath.Join(dir, "000001.vlog"), "database")
	writeFile(t, filepath.Join(filepath.Dir(dir), "beside.txt"), "file")
	r := call(t.Context(), "", nil, "load", "--data", dir, "--files", filepath.Dir(dir))
	if r.exit != exitPartial || !strings.Contains(r.stderr, "it is the master's own directory") {
		t.Errorf("exit %d: %s", r.exit, r.stderr)
	}
	if len(s.keys) != 1 || s.keys[0] != "beside.txt" {
		t.Errorf("loaded %v", s.keys)
	}
}
