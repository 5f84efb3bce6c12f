package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/replica"
)

// commands returns the names of all commands that people see, and help.
func commands() []string {
	names := []string{"help"}
	for _, cmd := range testRoot().Commands() {
		if cmd.IsAvailableCommand() {
			names = append(names, cmd.Name())
		}
	}
	return names
}

// wantFields fails unless the object has exactly the fields, in any order; a
// name with a question mark may be missing.
func wantFields(t *testing.T, what string, o map[string]any, fields ...string) {
	t.Helper()
	known := map[string]bool{}
	for _, f := range fields {
		name, optional := strings.CutSuffix(f, "?")
		known[name] = true
		if _, ok := o[name]; !ok && !optional {
			t.Errorf("%s: no field %s in %v", what, name, o)
		}
	}
	for name := range o {
		if !known[name] {
			t.Errorf("%s: the field %s is new: add it here and to docs/CLI.md", what, name)
		}
	}
}

var reportFields = []string{"outcome", "reason?", "why?", "dry_run?", "offset", "before", "after", "master", "missing", "extra", "changed", "unsendable",
	"put", "deleted", "bytes_in", "bytes_out", "compare_bytes", "round_trips", "rounds", "start", "took_ns", "needs_consent?", "keys?", "more_keys?", "method?", "method_why?"}

// A jsonCase is a command line that succeeds and prints objects that all have
// the fields.
type jsonCase struct {
	args   string
	stdin  string
	lines  int
	fields []string
}

var positionFields = []string{"epoch", "offset", "fingerprint", "position"}

// TestJSONSuccess runs every command with -o json against a master and a
// follower and parses what it prints.
func TestJSONSuccess(t *testing.T) {
	m, f, mp, fp := pair(t, "--id", "f1")
	await(t, f, "streaming", streaming)
	files := filepath.Join(t.TempDir(), "files")
	writeFile(t, filepath.Join(files, "sub", "one.txt"), "1\n")
	input := filepath.Join(t.TempDir(), "in.jsonl")
	writeFile(t, input, `{"key":"l1","value":"v"}`+"\n")
	paths := strings.NewReplacer("{m}", m, "{f}", f, "{input}", input, "{files}", files)
	done := []string{"serve", "follow", "watch"} // above and below

	loadFields := []string{"items", "bytes", "commits", "offset", "seconds"}
	done = append(done, succeed(t, paths, []jsonCase{
		{"put --data {m} k v", "", 1, positionFields},
		{"put --data {m} --hex 6b32 00ff", "", 1, positionFields},
		{"put --data {m} k3 -", "from stdin", 1, positionFields},
		{"get --data {m} k", "", 1, []string{"key", "value"}},
		{"get --data {m} k2", "", 1, []string{"key", "value64"}},
		{"list --data {m}", "", 3, []string{"key"}},
		{"list --data {m} --values --prefix k --limit 1", "", 1, []string{"key", "value"}},
		{"load --data {m} -", `{"key":"a","value":"b"}` + "\n", 1, loadFields},
		{"load --data {m} {input}", "", 1, loadFields},
		{"load --data {m} --files {files}", "", 1, loadFields},
		{"del --data {m} a", "", 1, positionFields},
		{"status --data {m}", "", 1, statusFields},
		{"status --data {f}", "", 1, statusFields},
		{"diff --data {f}", "", 1, []string{"report"}},
		{"repair --data {f}", "", 1, reportFields},
		{"repair --data {f} --dry-run", "", 1, reportFields},
		{"verify --data {m}", "", 1, []string{"outcome", "store"}},
		{"verify --data {f}", "", 1, []string{"outcome", "store", "report"}},
	})...)
	watchJSON(t, m)

	if code := fp.stop(); code != 0 {
		t.Errorf("follow ended with %d", code)
	}
	await(t, m, "without the follower", func(s replica.Status) bool { return len(s.Followers) == 1 && !s.Followers[0].Connected })
	done = append(done, succeed(t, paths, []jsonCase{{"forget --data {m} f1", "", 1, []string{"forgotten"}}})...)
	if code := mp.stop(); code != 0 {
		t.Errorf("serve ended with %d\n%s", code, mp.stderr.String())
	}
	done = append(done, succeed(t, paths, []jsonCase{
		{"doctor --data {m}", "", 1, []string{"level", "checks"}},
		{"doctor --data {f}", "", 1, []string{"level", "checks"}},
		{"restore --data {m} --from {f}", "", 1, reportFields},
		{"promote --data {f}", "", 1, positionFields},
		{"demo --keys 1000 --bad 5", "", 1, []string{"verified", "seconds"}},
		{"version", "", 1, []string{"version", "go", "platform", "revision?", "modified?"}},
		{"completion bash", "", 1, []string{"shell", "script"}},
		{"completion zsh", "", 1, []string{"shell", "script"}},
		{"completion fish", "", 1, []string{"shell", "script"}},
		{"completion powershell", "", 1, []string{"shell", "script"}},
		{"help", "", 1, []string{"help"}},
		{"help get", "", 1, []string{"help"}},
		{"get --help", "", 1, []string{"help"}},
		{"--help", "", 1, []string{"help"}},
	})...)
	for _, name := range commands() {
		if !slices.Contains(done, name) {
			t.Errorf("%s is not run here", name)
		}
	}
}

// succeed runs command lines with -o json and returns the commands' names.
func succeed(t *testing.T, paths *strings.Replacer, tests []jsonCase) (done []string) {
	t.Helper()
	for _, test := range tests {
		args := strings.Fields(paths.Replace(test.args))
		done = append(done, args[0])
		r := call(t.Context(), test.stdin, nil, append(args, "-o", "json")...)
		all := r.objects(t)
		if r.exit != 0 || len(all) != test.lines {
			t.Errorf("%s: exit %d and %d lines, want 0 and %d\n%s%s", test.args, r.exit, len(all), test.lines, r.stdout, r.stderr)
			continue
		}
		for _, o := range all {
			wantFields(t, test.args, o, test.fields...)
		}
	}
	return done
}

var statusFields = []string{"role", "state", "since", "why?", "id?", "dataset", "hash", "address?", "epoch", "offset", "head", "keys", "fingerprint",
	"master_fingerprint?", "in_sync?", "complete", "lag_known", "lag_commits", "lag_seconds", "progress", "last_contact?", "last_repair?", "followers?", "log?", "scrub", "store", "memory"}

// watchJSON watches a master from its first commit and stops after two lines.
func watchJSON(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	lines := &lineCounter{want: 2, full: func() { cancel(&signalError{os.Interrupt}) }}
	exit := run(ctx, []string{"watch", "--data", dir, "--from", "1", "-o", "json"}, strings.NewReader(""), lines, os.Stderr, nil)
	if exit != exitInterrupted {
		t.Errorf("watch: exit %d, want %d", exit, exitInterrupted)
	}
	all := result{stdout: lines.String()}.objects(t)
	if len(all) < 3 {
		t.Fatalf("watch printed %v", all)
	}
	wantFields(t, "watch", all[0], "offset", "epoch", "op", "key", "value", "last")
	if fmt.Sprint(all[0]["op"], all[0]["key"], all[0]["value"], all[0]["offset"]) != "put k v 1" && all[0]["key"] != "k" {
		t.Errorf("the first change is %v", all[0])
	}
	wantFields(t, "watch, interrupted", all[len(all)-1], "error")
}

// A lineCounter calls full when it has taken so many lines.
type lineCounter struct {
	strings.Builder
	want int
	full func()
}

func (l *lineCounter) Write(b []byte) (int, error) {
	n, err := l.Builder.Write(b)
	if strings.Count(l.String(), "\n") >= l.want {
		l.full()
	}
	return n, err
}

// TestJSONFailure runs every command with -o json so that it fails, in a
// directory that nobody serves or with arguments that make no sense, and wants
// one object with an error that says the same as the exit code.
func TestJSONFailure(t *testing.T) {
	nobody := t.TempDir()
	failing := map[string][]string{
		"serve":      {"--data", nobody, "--listen", "7600"},
		"follow":     {"--data", nobody},
		"put":        {"--data", nobody, "k", "v"},
		"get":        {"--data", nobody, "k"},
		"del":        {"--data", nobody, "k"},
		"list":       {"--data", nobody},
		"watch":      {"--data", nobody},
		"load":       {"--data", nobody, "-"},
		"status":     {"--data", nobody},
		"diff":       {"--data", nobody},
		"repair":     {"--data", nobody},
		"verify":     {"--data", nobody},
		"forget":     {"--data", nobody, "f"},
		"promote":    {"--data", nobody},
		"doctor":     {"--data", nobody},
		"restore":    {"--data", nobody, "--from", nobody},
		"demo":       {"--bad", "-1"},
		"completion": {"tcsh"},
		"version":    {"now"},
		"help":       {"stauts"},
	}
	check := func(args []string, env ...string) {
		t.Helper()
		r := call(t.Context(), "", env, args...)
		all := r.objects(t)
		if r.exit == 0 || len(all) != 1 {
			t.Errorf("%v: exit %d and %d objects, want a failure and one\n%s%s", args, r.exit, len(all), r.stdout, r.stderr)
			return
		}
		wantFields(t, strings.Join(args, " "), all[0], "error")
		e, ok := all[0]["error"].(map[string]any)
		if !ok {
			t.Errorf("%v: the error is %v", args, all[0]["error"])
			return
		}
		wantFields(t, strings.Join(args, " "), e, "code", "message", "hint")
		if r.stderr != "" {
			t.Errorf("%v: the error is on standard error too: %s", args, r.stderr)
		}
	}
	for _, name := range commands() {
		args, ok := failing[name]
		if !ok {
			t.Errorf("%s is not run here", name)
			continue
		}
		check(append(append([]string{name}, args...), "-o", "json"))
		check([]string{name, "--nonsense", "--output=json"})
		check([]string{name, "--nonsense"}, "SDIFF_OUTPUT=json")
	}
	check([]string{"-o", "json"})
	check([]string{"stauts", "-o", "json"})
	check([]string{"stauts", "--data", "x", "-o", "json"})
}

// TestJSONRoundTrip loads all kinds of bytes, and loads what list prints into
// another master: both lists are the same, byte for byte.
func TestJSONRoundTrip(t *testing.T) {
	base := t.TempDir()
	a, b := filepath.Join(base, "a"), filepath.Join(base, "b")
	start(t, "serve", "--data", a, "--listen", "127.0.0.1:0")
	start(t, "serve", "--data", b, "--listen", "127.0.0.1:0")
	var in []byte
	for i := range 256 {
		in = appendItem(in, []byte{byte(i)}, []byte{byte(i), 0, byte(255 - i)}, true)
		in = appendItem(in, fmt.Appendf(nil, "key/%d/ü\n\u2028\u202e", i), []byte(strings.Repeat("😀\t\"\\<&>", i)), true)
	}
	list := func(dir string) string {
		t.Helper()
		r := call(t.Context(), "", nil, "list", "--data", dir, "--values", "-o", "json")
		if r.exit != 0 {
			t.Fatalf("list: exit %d\n%s", r.exit, r.stdout)
		}
		return r.stdout
	}
	load := func(dir, in string) {
		t.Helper()
		if r := call(t.Context(), in, nil, "load", "--data", dir, "-"); r.exit != 0 || !strings.HasPrefix(r.stdout, "loaded 512 items") {
			t.Fatalf("load: exit %d\n%s%s", r.exit, r.stdout, r.stderr)
		}
	}
	load(a, string(in))
	first := list(a)
	if strings.Count(first, "\n") != 512 {
		t.Fatalf("%d lines, want 512", strings.Count(first, "\n"))
	}
	load(b, first)
	if second := list(b); second != first {
		t.Error("the copy lists differently")
	}
	for line := range strings.Lines(first) {
		if !json.Valid([]byte(line)) {
			t.Errorf("encoding/json refuses %s", line)
		}
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
