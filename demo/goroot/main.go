// Command goroot tells the whole story with real data and real processes: the
// Go standard library's own sources are loaded into a master, followed, changed
// while they are followed, damaged in the follower's database by another
// program while it is stopped, and repaired while a thousand keys a second
// change. A recorder reads every change that either side ever showed; at the
// end both sides are compared byte for byte with each other and with what was
// written, and no key may ever have gone back in time.
//
//	go run ./demo/goroot
//
// It exits 0 only if everything was verified.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s := story{
		files: flag.String("files", "", "the `FOLDER` to load; the default is the Go sources"),
		rate:  flag.Int("rate", 1000, "keys that change each second"),
		live:  flag.Duration("live", 4*time.Second, "how long keys change before and after the damage"),
		hurt:  flag.Int("hurt", 100, "keys to delete, to change and to add in the follower's database"),
	}
	flag.Parse()
	if err := s.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "goroot: error:", err)
		os.Exit(1)
	}
}

// A story is one run.
type story struct {
	files      *string
	rate, hurt *int
	live       *time.Duration

	dir   string
	bin   string
	began time.Time

	master, follower *process
}

func (s *story) run(ctx context.Context) (err error) {
	s.began = time.Now()
	if s.dir, err = os.MkdirTemp("", "sdiff-goroot-"); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	if *s.files == "" {
		out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
		if err != nil {
			return fmt.Errorf("go env GOROOT: %w", err)
		}
		*s.files = filepath.Join(strings.TrimSpace(string(out)), "src")
	}
	s.bin = filepath.Join(s.dir, "sdiff")
	if runtime.GOOS == "windows" {
		s.bin += ".exe"
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", s.bin, "github.com/sdiff/sdiff/cmd/sdiff")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build sdiff: %w", err)
	}
	defer func() {
		s.follower.end()
		s.master.end()
		if err != nil {
			s.follower.complain()
			s.master.complain()
		}
	}()
	for _, step := range []func(context.Context) error{s.start, s.load, s.change, s.damage, s.compare} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	s.say("every step verified")
	return nil
}

func (s *story) say(format string, args ...any) {
	fmt.Printf("%6.1fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

func (s *story) data(side string) string { return filepath.Join(s.dir, side) }

// start runs a master and a follower as an operator would.
func (s *story) start(ctx context.Context) (err error) {
	s.master, err = s.launch(ctx, "serve", "--data", s.data("m"), "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := s.startFollower(ctx); err != nil {
		return err
	}
	s.say("a master on %s and a follower, two processes", s.master.ready.Address)
	return nil
}

func (s *story) startFollower(ctx context.Context) (err error) {
	s.follower, err = s.launch(ctx, "follow", "--data", s.data("f"), "--from", s.master.ready.Address, "--id", "copy")
	return err
}

// load puts the files into the master and waits for the follower.
func (s *story) load(ctx context.Context) error {
	out, code, err := s.sdiff(ctx, nil, "load", "--data", s.data("m"), "--files", *s.files)
	if err != nil && code != 7 {
		return err
	}
	var rep struct {
		Items, Bytes uint64
		Seconds      float64
		Skipped      []struct{ Path string }
	}
	if err := parse(out, &rep); err != nil {
		return err
	}
	if (code == 7) != (len(rep.Skipped) > 0) {
		return fmt.Errorf("load exits %d with %d files skipped", code, len(rep.Skipped))
	}
	at, err := s.sameFingerprint(ctx)
	if err != nil {
		return err
	}
	s.say("%d files, %.1f MB loaded in %.1fs, %d over the value limit skipped (exit %d)", rep.Items, float64(rep.Bytes)/1e6, rep.Seconds, len(rep.Skipped), code)
	s.say("the follower has %d keys, fingerprint %s, the master's too", at.Keys, at.Fingerprint)
	return s.holdAgainstFiles(ctx, rep.Items, len(rep.Skipped))
}

// change changes keys while both sides are watched.
func (s *story) change(ctx context.Context) error {
	rec, err := s.record(ctx)
	if err != nil {
		return err
	}
	w := s.write(ctx)
	sleep(ctx, *s.live)
	n, err := w.stop()
	if err != nil {
		return err
	}
	if _, err := s.sameFingerprint(ctx); err != nil {
		return err
	}
	seen, err := rec.stop(ctx)
	if err != nil {
		return err
	}
	s.say("%d writes while followed; %d changes seen at the follower, none went back in time", n, seen.changes)
	return nil
}

// damage stops the follower, lets another program loose on its database, and
// starts it again while keys change.
func (s *story) damage(ctx context.Context) error {
	if err := s.follower.end(); err != nil {
		return fmt.Errorf("the follower did not end cleanly: %w", err)
	}
	if err := vandalise(s.data("f"), *s.hurt); err != nil {
		return err
	}
	s.say("follower stopped; another program deleted %d keys, changed %d and added %d in its database", *s.hurt, *s.hurt, *s.hurt)
	w := s.write(ctx)
	if err := s.startFollower(ctx); err != nil {
		return err
	}
	rec, err := s.record(ctx)
	if err != nil {
		return err
	}
	rep, err := s.repaired(ctx)
	if err != nil {
		return err
	}
	if !s.follower.said("the store does not hold what it should") {
		return fmt.Errorf("the follower did not notice the damage when it opened its store")
	}
	sleep(ctx, *s.live)
	n, err := w.stop()
	if err != nil {
		return err
	}
	if _, err := s.sameFingerprint(ctx); err != nil {
		return err
	}
	seen, err := rec.stop(ctx)
	if err != nil {
		return err
	}
	s.say("noticed at open; repaired in %v while keys changed: %d missing, %d extra, %d changed", rep.Took.Round(time.Millisecond), rep.Missing, rep.Extra, rep.Changed)
	s.say("cost: %d bytes in, %d out, %d of them the comparison, %d round trips, %d rounds", rep.BytesIn, rep.BytesOut, rep.CompareBytes, rep.RoundTrips, rep.Rounds)
	s.say("%d writes meanwhile; %d changes seen at the follower, none went back in time", n, seen.changes)
	return nil
}

// compare holds the two sides against each other, byte for byte.
func (s *story) compare(ctx context.Context) error {
	m, err := s.contents(ctx, "m")
	if err != nil {
		return err
	}
	f, err := s.contents(ctx, "f")
	if err != nil {
		return err
	}
	if m != f {
		return fmt.Errorf("master and follower differ: %+v and %+v", m, f)
	}
	if _, code, err := s.sdiff(ctx, nil, "diff", "--data", s.data("f")); err != nil {
		return fmt.Errorf("diff exits %d: %w", code, err)
	}
	for _, side := range []string{"m", "f"} {
		if _, code, err := s.sdiff(ctx, nil, "verify", "--data", s.data(side)); err != nil {
			return fmt.Errorf("verify exits %d: %w", code, err)
		}
	}
	s.say("%d items, %d bytes, equal byte for byte (SHA-256 %s…); diff and verify agree", m.items, m.bytes, m.sum[:16])
	for _, p := range []*process{s.follower, s.master} {
		if err := p.end(); err != nil {
			return fmt.Errorf("%s did not end cleanly: %w", p.name, err)
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
