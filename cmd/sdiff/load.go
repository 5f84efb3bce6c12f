package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
)

// maxInput bounds a line of load's input: the largest item in escapes.
const maxInput = 8 << 20

// A loaded is what load prints in the end.
type loaded struct {
	Items   uint64    `json:"items"`
	Bytes   uint64    `json:"bytes"` // of keys and values
	Commits uint64    `json:"commits"`
	Offset  uint64    `json:"offset"` // of the last commit
	Skipped []skipped `json:"skipped,omitempty"`
	Seconds float64   `json:"seconds"`
}

// A skipped is a file that was not loaded.
type skipped struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// loadCommand asks for the limits first: the commits are to be as large as this
// process takes, and files over the value limit are not even read.
func (a *app) loadCommand() *cobra.Command {
	var files string
	cmd := a.command("load FILE|- | load --files DIR", "Load many items", `From a FILE, or with - from standard input, it loads JSON Lines: an object
{"key":"…","value":"…"} a line, with key64 or value64 in base64 for bytes that
are no UTF-8. That is what list --values -o json prints. The first bad line ends
it with its number; what came before is loaded.

With --files it loads a folder: the key is a file's path below DIR with slashes,
the value its content. Files over the value limit and what is no regular file
are skipped and named on standard error; exit code 7 says that there were some.

Items go into large commits, in order. Progress goes to standard error.`,
		nil,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			c, err := a.client(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			info, err := c.Info(ctx)
			if err != nil {
				return err
			}
			if info.Role != "master" {
				return &failure{code: control.WrongRole, msg: "this is a follower: its keys change by what its master sends only", hint: "load into the master's directory"}
			}
			return a.load(ctx, c, info.Limits, func(ctx context.Context, l *loader) error {
				if files != "" {
					return l.walk(ctx, files)
				}
				return l.lines(ctx, args[0])
			})
		})
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := bindEnv(cmd, a.env); err != nil {
			return err
		}
		if files != "" {
			return takes()(cmd, args)
		}
		return takes("FILE (or - for standard input, or --files DIR)")(cmd, args)
	}
	a.addData(cmd)
	cmd.Flags().StringVar(&files, "files", "", "load the files below `DIR`")
	complete(cmd.MarkFlagDirname("files"))
	return cmd
}

// lines loads JSON Lines from a file or, for "-", from standard input.
func (l *loader) lines(ctx context.Context, path string) error {
	in, total, err := l.open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	l.progress.total = total
	wait := interruptible(ctx, in) // in may be a terminal, or a pipe that hangs
	r := bufio.NewReaderSize(wait, 64<<10)
	var at uint64 // bytes read
	for n := uint64(1); ; n++ {
		// Whoever writes to us slowly should not wait for a full commit.
		if r.Buffered() == 0 && wait.idle() {
			if err := l.idle(ctx, wait); err != nil {
				return err
			}
		}
		line, err := readLine(r)
		at += uint64(len(line))
		ended := errors.Is(err, io.EOF)
		switch {
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, bufio.ErrBufferFull):
			return l.badLine(ctx, n, fmt.Sprintf("it is longer than %d bytes", maxInput))
		case err != nil && !ended:
			return &failure{code: control.BadInput, msg: fmt.Sprintf("read %s after line %d: %v", path, n-1, cause(err))}
		}
		if len(bytes.TrimSpace(line)) > 0 {
			key, value, err := parseItem(bytes.TrimRight(line, "\r\n"))
			if err != nil {
				return l.badLine(ctx, n, err.Error())
			}
			if err := l.add(ctx, key, value, n, "", at); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
	}
}

// open opens the input and returns its size, 0 if that is not known.
func (l *loader) open(path string) (io.ReadCloser, uint64, error) {
	if path == "-" {
		return io.NopCloser(l.a.stdin), 0, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, &failure{code: control.BadInput, msg: err.Error(), hint: "load reads a file of JSON Lines, - for standard input, or a folder with --files"}
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		f.Close()
		return nil, 0, &failure{code: control.BadInput, msg: path + " is a folder", hint: "sdiff load --files " + path + " loads the files in it"}
	}
	if err == nil && info.Mode().IsRegular() {
		return f, uint64(info.Size()), nil
	}
	return f, 0, nil
}

// readLine reads a line with its end. At the end of the input it returns what
// is left with io.EOF; ErrBufferFull means that the line is over maxInput.
func readLine(r *bufio.Reader) ([]byte, error) {
	var long []byte
	for {
		part, err := r.ReadSlice('\n')
		if err == nil && long == nil {
			return part, nil
		}
		long = append(long, part...)
		if len(long) > maxInput {
			return nil, bufio.ErrBufferFull
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return long, err
		}
	}
}

// idlePause is how long the input may pause before what has been read is sent.
const idlePause = 50 * time.Millisecond

// idle waits for more input for a moment; if there is none, it sends what
// there is.
func (l *loader) idle(ctx context.Context, in *input) error {
	t := time.NewTimer(idlePause)
	defer t.Stop()
	select {
	case in.rest = <-in.piecec:
		return nil
	case <-t.C:
		return l.flush(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// badLine ends the load at a line; what came before goes in.
func (l *loader) badLine(ctx context.Context, n uint64, msg string) error {
	err := error(&failure{code: control.BadInput, msg: fmt.Sprintf("line %d: %s", n, msg)})
	if ferr := l.flush(ctx); ferr != nil {
		return ferr
	}
	return err
}
