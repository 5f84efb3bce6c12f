package main

import (
	"context"
	"io"
)

// interruptible returns a reader that ends with the cause of ctx even while r
// waits for input that may never come: a terminal, or a pipe from a program
// that hangs. The goroutine that waits in r then stays behind; the process is
// about to end. It reads at most two pieces ahead.
func interruptible(ctx context.Context, r io.Reader) *input {
	in := &input{ctx: ctx, piecec: make(chan piece, 1)}
	go in.read(r)
	return in
}

// A piece is what one read returned.
type piece struct {
	b   []byte
	err error
}

// An input is an io.Reader, whose Read has no room for a context: so it holds
// one.
type input struct {
	ctx    context.Context
	piecec chan piece
	rest   piece
}

// read feeds Read until r ends or nobody wants more.
func (in *input) read(r io.Reader) {
	for {
		p := piece{b: make([]byte, 64<<10)}
		var n int
		n, p.err = r.Read(p.b)
		p.b = p.b[:n]
		select {
		case in.piecec <- p:
		case <-in.ctx.Done():
			return
		}
		if p.err != nil {
			return
		}
	}
}

// Read implements io.Reader.
func (in *input) Read(b []byte) (int, error) {
	for len(in.rest.b) == 0 {
		if in.rest.err != nil {
			return 0, in.rest.err
		}
		select {
		case in.rest = <-in.piecec:
		case <-in.ctx.Done():
			return 0, context.Cause(in.ctx)
		}
	}
	n := copy(b, in.rest.b)
	in.rest.b = in.rest.b[n:]
	return n, nil
}

// idle reports whether the next Read would wait.
func (in *input) idle() bool {
	return len(in.rest.b) == 0 && in.rest.err == nil && len(in.piecec) == 0
}
