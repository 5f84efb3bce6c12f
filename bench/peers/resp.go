package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// A respConn is a client's connection to Redis: as much of its protocol as it
// takes to write and read in pipelines.
type respConn struct {
	nc net.Conn
	r  *bufio.Reader
	w  *bufio.Writer
}

func dialRedis(addr string) (*respConn, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &respConn{nc, bufio.NewReaderSize(nc, 256<<10), bufio.NewWriterSize(nc, 256<<10)}, nil
}

// send adds a command to what is sent by Flush or when there is much of it.
func (c *respConn) send(args ...[]byte) error {
	b := c.w.AvailableBuffer()
	b = append(strconv.AppendInt(append(b, '*'), int64(len(args)), 10), "\r\n"...)
	for _, a := range args {
		b = append(strconv.AppendInt(append(b, '$'), int64(len(a)), 10), "\r\n"...)
		b = append(append(b, a...), "\r\n"...)
	}
	_, err := c.w.Write(b)
	return err
}

// do sends a command and returns its reply.
func (c *respConn) do(args ...string) (any, error) {
	var list [][]byte
	for _, a := range args {
		list = append(list, []byte(a))
	}
	if err := errors.Join(c.send(list...), c.w.Flush()); err != nil {
		return nil, err
	}
	return c.receive()
}

// receive returns the next reply: a []byte, nil for none, an int64, or an []any
// of these.
func (c *respConn) receive() (any, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 {
		return nil, errors.New("redis: a line too short")
	}
	kind, rest := line[0], string(line[1:len(line)-2])
	switch kind {
	case '+':
		return []byte(rest), nil
	case '-':
		return nil, fmt.Errorf("redis: %s", rest)
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	switch {
	case err != nil:
		return nil, err
	case kind == ':':
		return n, nil
	case n < 0:
		return nil, nil
	case kind == '$':
		b := make([]byte, n+2)
		_, err := io.ReadFull(c.r, b)
		return b[:n], err
	case kind == '*':
		list := make([]any, n)
		for i := range list {
			if list[i], err = c.receive(); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	return nil, fmt.Errorf("redis: a reply of type %q", kind)
}
