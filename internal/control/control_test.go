package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

func wantCode(t *testing.T, what string, err error, want Code) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Code != want {
		t.Errorf("%s: error %v (%T), want code %s", what, err, err, want)
	}
}

func TestMaster(t *testing.T) {
	f := newFake()
	c := serve(t, f, false)
	ctx := t.Context()

	info, err := c.Info(ctx)
	if err != nil || info.Role != "master" || info.PID != os.Getpid() || info.Limits != (Limits{10, 20, 30, 40}) {
		t.Errorf("Info() = %+v, %v", info, err)
	}
	value := []byte{0, 0xff, '\n'}
	p, err := c.Write(ctx, []Op{{Key: []byte("a"), Value: value}, {Key: []byte("b")}, {Key: []byte("bc"), Value: []byte("x")}})
	if err != nil || p.Offset != 1 {
		t.Fatalf("Write() = %+v, %v", p, err)
	}
	if parsed, err := stream.ParsePosition(p.Token); err != nil || parsed.Offset != 1 {
		t.Errorf("the position %q parses as %v, %v", p.Token, parsed, err)
	}
	if v, err := c.Get(ctx, []byte("a")); err != nil || !bytes.Equal(v, value) {
		t.Errorf("Get(a) = %x, %v", v, err)
	}
	_, err = c.Get(ctx, []byte("z"))
	wantCode(t, "get of an absent key", err, NotFound)
	_, err = c.Delete(ctx, []byte("z"))
	wantCode(t, "delete of an absent key", err, NotFound)

	if got := keys(t, c.List(ctx, List{})); got != "a b bc" {
		t.Errorf("list = %s", got)
	}
	if got := keys(t, c.List(ctx, List{Prefix: []byte("b")})); got != "b bc" {
		t.Errorf("list of prefix b = %s", got)
	}
	if got := keys(t, c.List(ctx, List{Limit: 2})); got != "a b" {
		t.Errorf("list of two = %s", got)
	}
	if _, err := c.Delete(ctx, []byte("a")); err != nil {
		t.Error(err)
	}
	if s, err := c.Status(ctx); err != nil || s.Offset != 2 {
		t.Errorf("Status() = %+v, %v", s, err)
	}
	if r, err := c.Verify(ctx); err != nil || !r.OK || r.Items != 2 {
		t.Errorf("Verify() = %+v, %v", r, err)
	}
	if err := c.Forget(ctx, "one"); err != nil || f.forgot[0] != "one" {
		t.Errorf("Forget(one) = %v, forgot %v", err, f.forgot)
	}
	wantCode(t, "forget of an unknown follower", c.Forget(ctx, "unknown"), NotFound)
	_, err = c.Repair(ctx, Repair{}, nil)
	wantCode(t, "repair of a master", err, WrongRole)
}

func TestFollower(t *testing.T) {
	f := newFake()
	f.repair = func(_ context.Context, opt replica.RepairOptions) (replica.Report, error) {
		if opt.Each != nil {
			for i := range 1000 {
				opt.Each(replica.Difference{Kind: replica.Missing, Key: fmt.Appendf(nil, "k%d", i)})
			}
		}
		return replica.Report{Outcome: replica.Different, DryRun: opt.DryRun, Missing: 1000}, nil
	}
	c := serve(t, f, true)
	ctx := t.Context()

	n := 0
	r, err := c.Repair(ctx, Repair{DryRun: true, Keys: true}, func(d Difference) error {
		if d.Kind != "-" || string(d.Key) != fmt.Sprintf("k%d", n) {
			t.Errorf("difference %d is %s %s", n, d.Kind, d.Key)
		}
		n++
		return nil
	})
	if err != nil || n != 1000 || r.Missing != 1000 || !r.DryRun {
		t.Errorf("Repair() = %+v, %v after %d differences", r, err, n)
	}
	_, err = c.Repair(ctx, Repair{Keys: true}, nil)
	wantCode(t, "keys of a real repair", err, Usage)
	_, err = c.Write(ctx, []Op{{Key: []byte("a")}})
	wantCode(t, "write to a follower", err, WrongRole)
	_, err = c.Delete(ctx, []byte("a"))
	wantCode(t, "delete on a follower", err, WrongRole)
	wantCode(t, "forget on a follower", c.Forget(ctx, "a"), WrongRole)
	for _, err = range c.Watch(ctx, Watch{From: 7}) {
		wantCode(t, "watch of a follower from an offset", err, WrongRole)
	}
}

// TestRepairCaller shows that a repair ends when whoever asked for it goes.
func TestRepairCaller(t *testing.T) {
	f := newFake()
	began, ended := make(chan struct{}), make(chan struct{})
	f.repair = func(ctx context.Context, _ replica.RepairOptions) (replica.Report, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return replica.Report{}, ctx.Err()
	}
	c := serve(t, f, true)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	var wg sync.WaitGroup
	wg.Go(func() {
		<-began
		cancel(gone)
	})
	if _, err := c.Repair(ctx, Repair{}, nil); !errors.Is(err, gone) {
		t.Errorf("Repair() = %v, want the cause of the caller's context", err)
	}
	<-ended
	wg.Wait()
}

func TestWatchPrefix(t *testing.T) {
	f := newFake()
	change := func(offset uint64, key string, last bool) replica.Change {
		return replica.Change{Position: stream.Position{Offset: offset}, Key: []byte(key), Last: last}
	}
	f.changes = []replica.Change{
		change(1, "a1", false), change(1, "b1", false), change(1, "a2", false), change(1, "b2", true),
		change(2, "b3", true),
		change(3, "a3", true),
		{Position: stream.Position{Offset: 9}, Gap: true},
		{Position: stream.Position{Offset: 9}, Key: []byte("a4"), Repair: true},
	}
	c := serve(t, f, false)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	for ch, err := range c.Watch(ctx, Watch{Prefix: []byte("a")}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d %s last=%t repair=%t gap=%t", ch.Offset, ch.Key, ch.Last, ch.Repair, ch.Gap))
		if len(got) == 5 {
			break
		}
	}
	want := []string{
		"1 a1 last=false repair=false gap=false",
		"1 a2 last=true repair=false gap=false",
		"3 a3 last=true repair=false gap=false",
		"9  last=false repair=false gap=true",
		"9 a4 last=false repair=true gap=false",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("watch of prefix a:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, err := range c.Watch(ctx, Watch{From: 1}) {
		wantCode(t, "watch from a trimmed offset", err, Trimmed)
	}
}

// TestEnd shows what a client sees of a server that ends under it.
func TestEnd(t *testing.T) {
	f := newFake()
	dir := t.TempDir()
	c, stop := serveIn(t, dir, f, false)
	var wg sync.WaitGroup
	wg.Go(func() {
		<-f.watching
		stop()
	})
	for _, err := range c.Watch(t.Context(), Watch{}) {
		wantCode(t, "watch of a process that ends", err, Ending)
	}
	wg.Wait()
	_, err := c.Status(t.Context())
	wantCode(t, "status of a process that has ended", err, Unreachable)
	if _, err := os.Lstat(filepath.Join(dir, socketName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestErrorsTravel(t *testing.T) {
	f := newFake()
	c := serve(t, f, false)
	tests := []struct {
		err  error
		want Code
	}{
		{&replica.LimitError{What: "value", Got: 3, Max: 2}, TooLarge},
		{fmt.Errorf("%w: it is empty", replica.ErrKey), BadKey},
		{replica.ErrOutcomeUnknown, OutcomeUnknown},
		{store.ErrNoSpace, ReadOnly},
		{fmt.Errorf("%w: really", store.ErrCorrupt), Damaged},
		{errors.New("something else"), Internal},
	}
	for _, test := range tests {
		f.writeErr = func([]stream.Op) error { return test.err }
		_, err := c.Write(t.Context(), []Op{{Key: []byte("k")}})
		wantCode(t, test.err.Error(), err, test.want)
		if err.Error() != test.err.Error() {
			t.Errorf("the message is %q, want %q", err, test.err)
		}
	}
}

// TestBadRequests sends what our own client never would.
func TestBadRequests(t *testing.T) {
	c := serve(t, newFake(), false)
	post := func(path, body string) (int, string) {
		resp, err := c.http.Post("http://sdiff"+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	tests := []struct {
		path, body string
		status     int
		want       string
	}{
		{"/v1/get", `{"key":"YQ==","more":1}`, 400, "unknown field"},
		{"/v1/get", `{"key":"YQ=="}{}`, 400, "goes on"},
		{"/v1/get", `{"key":"YQ=="} x`, 400, "goes on"},
		{"/v1/get", `{"key":"secret!"}`, 400, "no JSON object"},
		{"/v1/get", `[]`, 400, "no JSON object"},
		{"/v1/list", `{"limit":-1}`, 400, "no JSON object"},
		{"/v1/nothing", `{}`, 404, "knows no request POST /v1/nothing"},
		{"/", ``, 404, "knows no request"},
		{"/v1/write", `{"ops":[{"key":"` + strings.Repeat("A", maxBody) + `"}]}`, 400, "larger than"},
	}
	for _, test := range tests {
		status, body := post(test.path, test.body)
		if status != test.status || !strings.Contains(body, test.want) || !strings.HasPrefix(body, `{"error":{"code":"`) {
			t.Errorf("POST %s %.40s: %d %s, want %d and %q", test.path, test.body, status, body, test.status, test.want)
		}
		if strings.Contains(body, "secret") {
			t.Errorf("POST %s: the answer repeats what was sent: %s", test.path, body)
		}
	}
}

func TestTooManyRequests(t *testing.T) {
	f := newFake()
	entered, leave := make(chan struct{}), make(chan struct{})
	f.verify = func(ctx context.Context) (replica.VerifyReport, error) {
		entered <- struct{}{}
		<-leave
		return replica.VerifyReport{}, nil
	}
	c := serve(t, f, false)
	var wg sync.WaitGroup
	for range MaxRequests {
		wg.Go(func() {
			if _, err := c.Verify(t.Context()); err != nil {
				t.Error(err)
			}
		})
		<-entered
	}
	_, err := c.Status(t.Context())
	wantCode(t, "one request too many", err, Busy)
	close(leave)
	wg.Wait()
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("status after the others have ended: %v", err)
	}
}

// TestCutOff serves answers that end too early.
func TestCutOff(t *testing.T) {
	dir := t.TempDir()
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"item":{"key":"YQ=="}}`+"\n")
	})}
	var wg sync.WaitGroup
	wg.Go(func() { srv.Serve(l) })
	defer wg.Wait()
	defer srv.Close()
	c := NewClient(dir)
	var last error
	n := 0
	for _, err := range c.List(t.Context(), List{}) {
		if last = err; err == nil {
			n++
		}
	}
	wantCode(t, "a list without an end", last, CutOff)
	if n != 1 {
		t.Errorf("%d items before the end, want 1", n)
	}
	_, err = c.Repair(t.Context(), Repair{}, nil)
	wantCode(t, "a repair without a report", err, CutOff)
}

// TestSlowReader shows that a client that reads nothing holds up the producer,
// not the memory: what it has not read is in the socket's buffers, in one
// buffer and in sixteen lines.
func TestSlowReader(t *testing.T) {
	f := newFake()
	sent := make(chan int, 1)
	f.repair = func(ctx context.Context, opt replica.RepairOptions) (replica.Report, error) {
		n := 0
		for ctx.Err() == nil && n < 1<<20 {
			opt.Each(replica.Difference{Kind: replica.Extra, Key: bytes.Repeat([]byte("k"), 60_000)})
			n++
		}
		sent <- n
		return replica.Report{}, ctx.Err()
	}
	c := serve(t, f, true)
	stop := errors.New("enough")
	if _, err := c.Repair(t.Context(), Repair{DryRun: true, Keys: true}, func(Difference) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Repair() = %v", err)
	}
	if n := <-sent; n > 1000 {
		t.Errorf("%d differences of 60 kB were made for a client that took one", n)
	}
}

func TestSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, socketName)

	// One that a dead process left is replaced.
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	_, err = NewClient(dir).Status(t.Context())
	wantCode(t, "a stale socket", err, Unreachable)
	if !strings.Contains(err.Error(), "did not end cleanly") {
		t.Errorf("a stale socket: %v", err)
	}
	// So is what a start that was killed left.
	if err := os.MkdirAll(filepath.Join(dir, buildName, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	c, stop := serveIn(t, dir, newFake(), false)
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != os.ModeSocket {
		t.Errorf("the socket is %v, %v; want mode 0600", info, err)
	}
	if _, err := os.Stat(filepath.Join(dir, buildName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", buildName, err)
	}
	stop()
	_, err = NewClient(dir).Status(t.Context())
	wantCode(t, "no socket", err, Unreachable)
	_, err = NewClient(filepath.Join(dir, "none")).Status(t.Context())
	wantCode(t, "no directory", err, Unreachable)
	if !strings.Contains(err.Error(), "no directory") {
		t.Errorf("no directory: %v", err)
	}
}

func TestSocketPath(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Listen(dir)
	wantCode(t, "a path that is too long", err, Usage)
	if !strings.Contains(err.Error(), "has") || !strings.Contains(err.Error(), fmt.Sprint(maxPath())) {
		t.Errorf("the error names no limit: %v", err)
	}
	_, err = NewClient(dir).Status(t.Context())
	wantCode(t, "a path that is too long", err, Usage)

	// From close by it has a shorter name.
	t.Chdir(dir)
	c, stop := serveIn(t, dir, newFake(), false)
	defer stop()
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPermission does not open a socket: the tests may run as root, who may
// open them all.
func TestPermission(t *testing.T) {
	denied := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)}
	wantCode(t, "a socket of somebody else", dialError("d", "d/control.sock", denied), Permission)
}

func TestClassify(t *testing.T) {
	for c := replica.CodeVersion; c <= replica.CodeLimit; c++ {
		want := Code("refused_" + c.String())
		if got := Classify(fmt.Errorf("dial: %w", &replica.PeerError{Code: c})); got != want {
			t.Errorf("Classify(peer error %v) = %s, want %s", c, got, want)
		}
	}
	for what, want := range map[string]Code{"role": WrongRole, "dataset": OtherDataset, "item hash": OtherHash} {
		if got := Classify(&replica.IdentityError{What: what}); got != want {
			t.Errorf("Classify(identity error %s) = %s, want %s", what, got, want)
		}
	}
	for _, s := range sentinels {
		if got := Classify(fmt.Errorf("a: %w", s.err)); got != s.code {
			t.Errorf("Classify(%v) = %s, want %s", s.err, got, s.code)
		}
	}
	// An error of several classes has the graver one.
	if got := Classify(fmt.Errorf("%w: %w", replica.ErrClosed, replica.ErrDamaged)); got != Damaged {
		t.Errorf("Classify(ended because damaged) = %s, want %s", got, Damaged)
	}
}
