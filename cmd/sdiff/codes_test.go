package main

import (
	"context"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A fake is a replica that answers everything with one error, or hangs until
// its caller goes away. It is a master and a follower.
type fake struct {
	err    error
	hang   bool
	status replica.Status
	verify replica.VerifyReport
	repair replica.Report
	limits store.Limits
	wrote  func(ops []stream.Op) error
}

func (f *fake) answer(ctx context.Context) error {
	if f.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.err
}

func (f *fake) Get(ctx context.Context, _ []byte) ([]byte, error) { return nil, f.answer(ctx) }
func (f *fake) Ascend(ctx context.Context, _, _ []byte) iter.Seq2[replica.Item, error] {
	return func(yield func(replica.Item, error) bool) {
		if yield(replica.Item{Key: []byte("first")}, nil) {
			yield(replica.Item{}, f.answer(ctx))
		}
	}
}
func (f *fake) Watch(ctx context.Context, _ uint64) iter.Seq2[replica.Change, error] {
	return func(yield func(replica.Change, error) bool) { yield(replica.Change{}, f.answer(ctx)) }
}
func (f *fake) Status() replica.Status { return f.status }
func (f *fake) Verify(ctx context.Context) (replica.VerifyReport, error) {
	return f.verify, f.answer(ctx)
}
func (f *fake) Write(ctx context.Context, ops []stream.Op) (stream.Position, error) {
	if f.wrote != nil {
		return stream.Position{Offset: 1}, f.wrote(ops)
	}
	return stream.Position{}, f.answer(ctx)
}
func (f *fake) Remove(ctx context.Context, _ []byte) (stream.Position, error) {
	return stream.Position{}, f.answer(ctx)
}
func (f *fake) Forget(ctx context.Context, _ string) error { return f.answer(ctx) }
func (f *fake) Repair(ctx context.Context, _ replica.RepairOptions) (replica.Report, error) {
	return f.repair, f.answer(ctx)
}

// serveFake answers for a fake in a directory until the test ends.
func serveFake(t *testing.T, f *fake, follower bool) (dir string) {
	t.Helper()
	dir = t.TempDir()
	l, err := control.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg := control.Config{Replica: f, Master: f, Limits: f.limits, Logger: slog.New(slog.DiscardHandler)}
	if follower {
		cfg.Master, cfg.Follower = nil, f
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := control.NewServer(cfg).Run(ctx, l); err != nil {
			t.Errorf("the control server: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return dir
}

// TestEveryExitCode makes every exit code happen.
func TestEveryExitCode(t *testing.T) {
	ok, bad := merkle.Summary{Count: 2}.String(), merkle.Summary{Count: 1}.String()
	sound := replica.VerifyReport{OK: true, Items: 2, Store: ok, Tree: ok}
	damaged := replica.VerifyReport{Items: 1, Store: bad, Tree: ok, Bad: 1, Keys: []replica.BadKey{{Key: []byte("k\x1b"), What: "missing"}}}
	guard := replica.Report{Outcome: replica.Different, Reason: "it would delete 90 of 100 keys", NeedsConsent: "--allow-mass-delete"}
	tests := []struct {
		what     string
		fake     fake
		follower bool
		args     string
		exit     int
		stdout   string // must contain
		stderr   string // must contain
	}{
		{"sound", fake{verify: sound}, false, "verify", 0, "store        ok: 2 items", ""},
		{"sound and the same", fake{verify: sound, repair: replica.Report{Outcome: replica.Same, After: ok}}, true, "verify", 0, "master       same", ""},
		{"the same", fake{repair: replica.Report{Outcome: replica.Same, Offset: 7, After: ok}}, true, "diff", 0, "= 2 keys at offset 7, fingerprint " + ok, "same at offset 7"},
		{"repaired", fake{repair: replica.Report{Outcome: replica.Repaired, Missing: 3}}, true, "repair", 0, "found        3 missing", ""},

		{"differs", fake{repair: replica.Report{Outcome: replica.Different, Extra: 1}}, true, "diff", 1, "", "different at offset 0: 0 missing, 1 extra"},
		{"sound but different", fake{verify: sound, repair: replica.Report{Outcome: replica.Different}}, true, "verify", 1, "master       different", ""},
		{"guarded", fake{repair: guard}, true, "repair", 1, "outcome      different", "sdiff: error: it would delete 90 of 100 keys\nsdiff: hint: if that is what you want: sdiff repair --allow-mass-delete --data"},

		{"too large", fake{err: &replica.LimitError{What: "value", Got: 2, Max: 1}}, false, "put k secret", 2, "", "value too large: 2, the limit is 1"},
		{"bad key", fake{err: replica.ErrKey}, false, "put k secret", 2, "", "!sdiff!"},
		{"a follower", fake{}, true, "put k secret", 2, "", "this is a follower"},
		{"a master", fake{}, false, "diff", 2, "", "this is a master"},
		{"a master", fake{}, false, "repair", 2, "", "this is a master"},
		{"connected", fake{err: replica.ErrConnected}, false, "forget f", 2, "", "stop the follower first"},

		{"absent", fake{err: replica.ErrNotFound}, false, "get k", 3, "", "there is no such key"},
		{"absent", fake{err: replica.ErrNotFound}, false, "del k", 3, "", "there is no such key"},
		{"unknown", fake{err: replica.ErrNotFound}, false, "forget f", 3, "", "no follower of that name"},
		{"trimmed", fake{err: replica.ErrTrimmed}, false, "watch --from 2", 3, "", "no longer in the log"},
		{"ahead", fake{err: replica.ErrAhead}, false, "watch --from 2", 3, "", "in the future"},

		{"not connected", fake{err: replica.ErrNotConnected}, true, "diff", 4, "", "not connected to the master"},
		{"could not tell", fake{repair: replica.Report{Outcome: replica.Unknown, Reason: "the peer went"}}, true, "diff", 4, "", "sdiff: error: could not tell: the peer went"},
		{"could not tell", fake{repair: replica.Report{Outcome: replica.Unknown, Reason: "the peer went"}}, true, "repair", 4, "reason       the peer went", "could not tell"},
		{"sound, else unknown", fake{verify: sound, repair: replica.Report{Outcome: replica.Unknown, Reason: "the peer went"}}, true, "verify", 4, "could not tell", ""},
		{"repairing", fake{err: replica.ErrRepairing}, true, "repair", 4, "", "under way already"},
		{"unknown outcome", fake{err: replica.ErrOutcomeUnknown}, false, "put k v", 4, "", "restart the process"},
		{"no space", fake{err: store.ErrNoSpace}, false, "put k v", 4, "", "free some space"},
		{"broken list", fake{err: replica.ErrClosed}, false, "list", 4, "first\n", "replica has ended"},

		{"denied", fake{err: &control.Error{Code: control.Permission, Message: "no"}}, false, "get k", 5, "", "error: no"},
		{"slow", fake{hang: true}, false, "get k --timeout 1ms", 6, "", "no answer within 1ms"},
		{"slow", fake{hang: true}, true, "repair --timeout 1ms", 6, "", "no answer within 1ms"},
		{"unsendable", fake{repair: replica.Report{Outcome: replica.Repaired, Unsendable: 2}}, true, "repair", 7, "unsendable   2", ""},

		{"damaged", fake{verify: damaged}, false, "verify", 8, `missing  k\x1b`, ""},
		{"damaged", fake{verify: damaged}, true, "verify", 8, "damaged: 1 item read", ""},
		{"corrupt", fake{err: store.ErrCorrupt}, false, "get k", 8, "", "store is damaged"},
	}
	for _, test := range tests {
		dir := serveFake(t, &test.fake, test.follower)
		words := append(strings.Fields(test.args), "--data", dir)
		r := call(t.Context(), "", nil, words...)
		if r.exit != test.exit || !strings.Contains(r.stdout, test.stdout) || !strings.Contains(r.stderr, test.stderr) {
			t.Errorf("%s: sdiff %s: exit %d, want %d\nstdout: %s\nwant:   %s\nstderr: %s\nwant:   %s",
				test.what, test.args, r.exit, test.exit, r.stdout, test.stdout, r.stderr, test.stderr)
		}
		if strings.Contains(r.stderr, "secret") {
			t.Errorf("%s: sdiff %s: the error holds the value: %s", test.what, test.args, r.stderr)
		}
		if r.exit == 0 && strings.Contains(r.stderr, "error") {
			t.Errorf("%s: sdiff %s: an error beside exit code 0: %s", test.what, test.args, r.stderr)
		}
		if got := call(t.Context(), "", nil, append(words, "-o", "json")...); got.exit != test.exit {
			t.Errorf("%s: sdiff %s -o json: exit %d, want %d: %s", test.what, test.args, got.exit, test.exit, got.stdout)
		} else if n := len(got.objects(t)); n != 1 && !strings.HasPrefix(test.args, "list") {
			t.Errorf("%s: sdiff %s -o json prints %d objects: %s", test.what, test.args, n, got.stdout)
		}
	}
}

// TestInterrupted shows that a command that waits ends with its signal.
func TestInterrupted(t *testing.T) {
	dir := serveFake(t, &fake{hang: true}, false)
	for sig, want := range map[os.Signal]int{os.Interrupt: 130, syscall.SIGTERM: 143} {
		for _, args := range []string{"get k", "verify", "watch", "list", "put k v"} {
			ctx, cancel := context.WithCancelCause(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { cancel(&signalError{sig}) })
			r := call(ctx, "", nil, append(strings.Fields(args), "--data", dir)...)
			wg.Wait()
			if r.exit != want {
				t.Errorf("sdiff %s with %v: exit %d, want %d: %s", args, sig, r.exit, want, r.stderr)
			}
		}
	}
}

// TestInterruptedInput shows that waiting for input does not hold up the end.
func TestInterruptedInput(t *testing.T) {
	dir := serveFake(t, &fake{limits: store.Limits{Value: 100, CommitBytes: 1000, CommitOps: 10}}, false)
	for _, args := range []string{"put k -", "load -"} {
		r, w, err := os.Pipe() // nothing is ever written
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { cancel(&signalError{os.Interrupt}) })
		var out, errs strings.Builder
		if exit := run(ctx, append(strings.Fields(args), "--data", dir), r, &out, &errs, nil); exit != exitInterrupted {
			t.Errorf("sdiff %s: exit %d, want %d: %s", args, exit, exitInterrupted, errs.String())
		}
		wg.Wait()
		w.Close()
		r.Close()
	}
}

// TestBrokenOutput shows that output that cannot be written is no success.
func TestBrokenOutput(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Logf("no /dev/full here: %v", err)
		return
	}
	defer full.Close()
	var errs strings.Builder
	if exit := run(t.Context(), []string{"version"}, strings.NewReader(""), full, &errs, nil); exit == 0 || !strings.Contains(errs.String(), "write to standard output") {
		t.Errorf("exit %d: %s", exit, errs.String())
	}
}

// TestTiredPerson types what people type.
func TestTiredPerson(t *testing.T) {
	empty, files := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(files, "letter.txt"), "Dear…")
	short := filepath.Join(files, "short.key")
	writeFile(t, short, "0123")
	dir := serveFake(t, &fake{}, false)
	tests := []struct {
		args   string
		exit   int
		stderr string // one after the other, between bars
	}{
		{"", 2, "Available Commands|error: which command?|hint: sdiff --help"},
		{"stauts --data {d}", 2, `no command "stauts"|did you mean status?`},
		{"help stauts", 2, "did you mean status?"},
		{"get k", 2, "which directory?|give --data DIR to sdiff get, or set SDIFF_DATA"},
		{"get --data {d}", 2, "KEY is missing|see sdiff get --help"},
		{"get --data {d} a b", 2, `"b" is one argument too many`},
		{"put --data {d} k", 2, "VALUE (- reads it from standard input) is missing"},
		{"put --data {d} --hex 0g 00", 2, "the key is not in hex"},
		{"put --data {d} --base64 YQ== YQ", 2, "the value is not in base64"},
		{"put --data {d} --hex --base64 00 00", 2, "exclude each other"},
		{"get --data {d} k --timeout soon", 2, `invalid argument "soon" for "--timeout"`},
		{"get --data {d} k -o yaml", 2, `--output "yaml" is neither text nor json`},
		{"get --data EMPTY k", 4, "no process serves EMPTY|start one with sdiff serve --data EMPTY"},
		{"get --data EMPTY/none k", 4, "there is no directory EMPTY/none"},
		{"status --data", 2, "flag needs an argument"},
		{"list --data {d} --limit -1", 2, "invalid argument"},
		{"watch --data {d} --from yesterday", 2, "invalid argument"},
		{"load --data {d}", 2, "FILE (or - for standard input, or --files DIR) is missing"},
		{"load --data {d} FILES", 2, "FILES is a folder|sdiff load --files FILES"},
		{"load --data {d} nosuch.jsonl", 2, "nosuch.jsonl: no such file|hint: load reads"},
		{"load --data {d} --files nosuch", 2, "nosuch: no such file|the folder whose files"},
		{"load --data {d} --files FILES/letter.txt", 2, "is no folder"},
		{"load --data {d} --files FILES x", 2, "one argument too many"},
		{"serve --data EMPTY --listen 7600", 2, `--listen "7600" is not HOST:PORT, such as 127.0.0.1:7600`},
		{"serve --data EMPTY --listen :port", 2, "has no port from 0 to 65535"},
		{"serve --data EMPTY --listen nosuch.invalid:0", 2, "cannot listen on nosuch.invalid:0"},
		{"serve", 2, "which directory?"},
		{"serve --data FILES --listen 127.0.0.1:0", 2, `holds other files ("letter.txt") and no database|choose a new directory`},
		{"serve --data FILES/letter.txt --listen 127.0.0.1:0", 2, "letter.txt"},
		{"serve --data EMPTY --sync sometimes", 2, `--sync "sometimes" is neither always nor never`},
		{"serve --data EMPTY --hash md5", 2, `--hash "md5" is neither xxh64 nor sha256`},
		{"serve --data EMPTY --hash sha256", 2, "--hash sha256 needs --hash-key FILE"},
		{"serve --data EMPTY --hash-key SHORT", 2, "--hash-key goes with --hash sha256 only"},
		{"serve --data EMPTY --hash sha256 --hash-key SHORT", 2, "neither 32 bytes nor 64 hex digits"},
		{"serve --data EMPTY --hash sha256 --hash-key EMPTY/none", 2, "the hash key: open|head -c 32 /dev/urandom"},
		{"serve --data EMPTY --log-size 0", 2, "negative is no limit"},
		{"serve --data EMPTY --scrub 2", 2, "--scrub is a share"},
		{"follow --data EMPTY", 2, "which master?|give --from HOST:PORT"},
		{"follow --data EMPTY --from 127.0.0.1", 2, "is not HOST:PORT"},
		{"follow --data EMPTY --from 127.0.0.1:1 --repair never", 2, "want manual, or any of"},
		{"follow --data EMPTY --from 127.0.0.1:1 --id my\tfollower", 2, "must be 1 to 100 printable ASCII"},
		{"forget --data {d}", 2, "ID (the follower's name, as sdiff status prints it) is missing"},
		{"promote --data EMPTY", 2, "there is no database in EMPTY"},
		{"restore --data EMPTY", 2, "from which follower?|--from DIR"},
		{"restore --data EMPTY --from EMPTY", 2, "are the same directory"},
		{"restore --data EMPTY --from FILES", 2, "there is no database in FILES"},
		{"completion tcsh", 2, `no completion for "tcsh"`},
	}
	replace := strings.NewReplacer("EMPTY", empty, "FILES", files, "SHORT", short, "{d}", dir)
	for _, test := range tests {
		var args []string
		if test.args != "" {
			args = strings.Split(replace.Replace(test.args), " ")
		}
		r := call(t.Context(), "", nil, args...)
		if r.exit != test.exit {
			t.Errorf("sdiff %s: exit %d, want %d: %s", test.args, r.exit, test.exit, r.stderr)
		}
		if r.stdout != "" {
			t.Errorf("sdiff %s prints an error on standard output: %s", test.args, r.stdout)
		}
		rest := r.stderr
		for want := range strings.SplitSeq(replace.Replace(test.stderr), "|") {
			_, after, ok := strings.Cut(rest, want)
			if !ok {
				t.Errorf("sdiff %s: standard error has no %q after what came before:\n%s", test.args, want, r.stderr)
				break
			}
			rest = after
		}
		if n := strings.Count(r.stderr, "sdiff: error:"); n != 1 {
			t.Errorf("sdiff %s: %d errors:\n%s", test.args, n, r.stderr)
		}
	}
	// None of it left anything behind.
	if entries, err := os.ReadDir(empty); err != nil || len(entries) > 0 {
		t.Errorf("the empty directory now holds %v, %v", entries, err)
	}
}
