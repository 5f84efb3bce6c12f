package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A process is a running sdiff serve or follow.
type process struct {
	name  string
	cmd   *exec.Cmd
	ready struct{ Address string }
	ended bool

	mu  sync.Mutex
	log bytes.Buffer
}

// Write takes the process's log.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) said(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Contains(p.log.String(), text)
}

// launch starts a process and waits for its ready line.
func (s *story) launch(ctx context.Context, args ...string) (*process, error) {
	p := &process{name: args[0], cmd: exec.CommandContext(ctx, s.bin, append(args, "-o", "json")...)}
	p.cmd.Stderr = p
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.ready)
	}
	if err != nil {
		p.end()
		p.complain()
		return nil, fmt.Errorf("%s is not ready: %w", p.name, err)
	}
	return p, nil
}

// end asks the process to end, as Ctrl-C does. It may be called on nil.
func (p *process) end() error {
	if p == nil || p.ended {
		return nil
	}
	p.ended = true
	p.cmd.Process.Signal(os.Interrupt)
	return p.cmd.Wait()
}

// complain prints the end of the log.
func (p *process) complain() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.log.Bytes()
	fmt.Fprintf(os.Stderr, "--- %s ---\n%s\n", p.name, b[max(0, len(b)-4000):])
}

// sdiff runs a command to its end and returns its output and exit code.
func (s *story) sdiff(ctx context.Context, in io.Reader, args ...string) ([]byte, int, error) {
	cmd := exec.CommandContext(ctx, s.bin, append(args, "-o", "json")...)
	cmd.Stdin = in
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("sdiff %s: %w: %s %s", args[0], err, bytes.TrimSpace(out[:min(len(out), 500)]), bytes.TrimSpace(stderr.Bytes()))
	}
	return out, cmd.ProcessState.ExitCode(), err
}

func parse(out []byte, v any) error {
	if err := json.Unmarshal(out, v); err != nil {
		return fmt.Errorf("parse %q: %w", out[:min(len(out), 200)], err)
	}
	return nil
}

// A status is what the story needs of sdiff status.
type status struct {
	State, Why  string
	Offset      uint64
	Keys        uint64
	Fingerprint string
	Complete    bool
	LastRepair  *report `json:"last_repair"`
}

type report struct {
	Outcome                 string
	Missing, Extra, Changed uint64
	BytesIn                 uint64        `json:"bytes_in"`
	BytesOut                uint64        `json:"bytes_out"`
	CompareBytes            uint64        `json:"compare_bytes"`
	RoundTrips              int           `json:"round_trips"`
	Rounds                  int           `json:"rounds"`
	Took                    time.Duration `json:"took_ns"`
}

func (s *story) status(ctx context.Context, side string) (st status, err error) {
	out, _, err := s.sdiff(ctx, nil, "status", "--data", s.data(side))
	if err == nil {
		err = parse(out, &st)
	}
	return st, err
}

// patience bounds every wait of the story.
const patience = time.Minute

// until asks again and again whether something has come to be.
func until(ctx context.Context, what string, ok func() (bool, error)) error {
	deadline := time.Now().Add(patience)
	for {
		yes, err := ok()
		switch {
		case err != nil:
			return err
		case yes:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%s did not happen within %v", what, patience)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		sleep(ctx, 50*time.Millisecond)
	}
}

// sameFingerprint waits until the follower has a complete base, stands where
// the master does, and has the same fingerprint there.
func (s *story) sameFingerprint(ctx context.Context) (f status, err error) {
	err = until(ctx, "the follower's being equal to its master", func() (bool, error) {
		m, err := s.status(ctx, "m")
		if err != nil {
			return false, err
		}
		if f, err = s.status(ctx, "f"); err != nil {
			return false, err
		}
		return f.Complete && f.Offset == m.Offset && f.Fingerprint == m.Fingerprint, nil
	})
	return f, err
}

// repaired waits for the report of the repair after the start.
func (s *story) repaired(ctx context.Context) (r *report, err error) {
	err = until(ctx, "the repair", func() (bool, error) {
		st, err := s.status(ctx, "f")
		if err != nil {
			return false, err
		}
		r = st.LastRepair
		return r != nil && r.Outcome == "repaired" && st.Complete, nil
	})
	return r, err
}

// contents sums up everything that one side lists.
type contents struct {
	items, bytes uint64
	sum          string
}

// an item is one line of list --values -o json.
type item struct {
	Key     *string
	Value   *string
	Key64   []byte
	Value64 []byte
}

func (i item) key() string {
	if i.Key != nil {
		return *i.Key
	}
	return string(i.Key64)
}

func (i item) value() string {
	if i.Value != nil {
		return *i.Value
	}
	return string(i.Value64)
}

func (s *story) contents(ctx context.Context, side string) (c contents, err error) {
	h := sha256.New()
	err = s.each(ctx, side, "", func(it item) error {
		fmt.Fprintf(h, "%d %d %s%s", len(it.key()), len(it.value()), it.key(), it.value())
		c.items++
		c.bytes += uint64(len(it.key()) + len(it.value()))
		return nil
	})
	c.sum = hex.EncodeToString(h.Sum(nil))
	return c, err
}

// each calls fn for every item that a side lists.
func (s *story) each(ctx context.Context, side, prefix string, fn func(item) error) error {
	out, _, err := s.sdiff(ctx, nil, "list", "--values", "--data", s.data(side), "--prefix", prefix)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var it item
		if err := dec.Decode(&it); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := fn(it); err != nil {
			return err
		}
	}
}

// holdAgainstFiles compares what the follower holds with the files themselves.
func (s *story) holdAgainstFiles(ctx context.Context, items uint64, skipped int) error {
	var n uint64
	err := s.each(ctx, "f", "", func(it item) error {
		want, err := os.ReadFile(filepath.Join(*s.files, filepath.FromSlash(it.key())))
		if err != nil {
			return err
		}
		if string(want) != it.value() {
			return fmt.Errorf("the follower's %s is not the file's content", it.key())
		}
		n++
		return nil
	})
	if err != nil {
		return err
	}
	var files uint64
	err = filepath.WalkDir(*s.files, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files++
		}
		return err
	})
	if err != nil {
		return err
	}
	if n != items || files != items+uint64(skipped) {
		return fmt.Errorf("%d files, %d loaded, %d skipped, %d at the follower", files, items, skipped, n)
	}
	s.say("the follower's %d values are the files, byte for byte", n)
	return nil
}
