package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"

	"github.com/sdiff/sdiff/replica"
)

// A Client asks the process that serves a directory. Its methods return an
// *Error for whatever the process or the way to it has to say, and the cause of
// a context that ended.
type Client struct {
	http *http.Client
}

// NewClient returns a client for a directory. Nothing is opened yet.
func NewClient(dir string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		path, err := socketPath(dir)
		if err != nil {
			return nil, err
		}
		var d net.Dialer
		nc, err := d.DialContext(ctx, "unix", path)
		if err != nil && ctx.Err() == nil {
			err = dialError(dir, path, err)
		}
		return nc, err
	}
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true, MaxIdleConnsPerHost: 2}}}
}

// Close closes connections that are kept open between requests.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Info returns who serves the directory.
func (c *Client) Info(ctx context.Context) (Info, error) {
	return call[Info](ctx, c, http.MethodGet, "info", nil)
}

// Status returns the replica's status.
func (c *Client) Status(ctx context.Context) (replica.Status, error) {
	return call[replica.Status](ctx, c, http.MethodGet, "status", nil)
}

// Get returns the value of a key.
func (c *Client) Get(ctx context.Context, key []byte) ([]byte, error) {
	v, err := call[Value](ctx, c, http.MethodPost, "get", Key{key})
	return v.Value, err
}

// Write makes one commit of the ops.
func (c *Client) Write(ctx context.Context, ops []Op) (Position, error) {
	return call[Position](ctx, c, http.MethodPost, "write", Write{ops})
}

// Delete deletes a key; the error of an absent one has the code NotFound.
func (c *Client) Delete(ctx context.Context, key []byte) (Position, error) {
	return call[Position](ctx, c, http.MethodPost, "delete", Key{key})
}

// Forget drops a follower from the master's memory.
func (c *Client) Forget(ctx context.Context, id string) error {
	_, err := call[none](ctx, c, http.MethodPost, "forget", Forget{id})
	return err
}

// Verify re-reads the replica's store and holds it against its tree.
func (c *Client) Verify(ctx context.Context) (replica.VerifyReport, error) {
	return call[replica.VerifyReport](ctx, c, http.MethodPost, "verify", none{})
}

// List yields items in key order, then ends; or yields an error and ends.
func (c *Client) List(ctx context.Context, req List) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for f, err := range c.frames(ctx, "list", req) {
			switch {
			case err != nil:
				yield(Item{}, err)
				return
			case f.Item != nil && !yield(*f.Item, nil):
				return
			}
		}
	}
}

// Watch yields changes until ctx ends or an error, which it yields.
func (c *Client) Watch(ctx context.Context, req Watch) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for f, err := range c.frames(ctx, "watch", req) {
			switch {
			case err != nil:
				yield(Change{}, err)
				return
			case f.Change != nil && !yield(*f.Change, nil):
				return
			}
		}
	}
}

// Repair asks a follower for a repair or a dry run, and calls each for every
// difference if the request asks for Keys.
func (c *Client) Repair(ctx context.Context, req Repair, each func(Difference) error) (replica.Report, error) {
	for f, err := range c.frames(ctx, "repair", req) {
		switch {
		case err != nil:
			return replica.Report{}, err
		case f.Report != nil:
			return *f.Report, nil
		case f.Difference != nil && each != nil:
			if err := each(*f.Difference); err != nil {
				return replica.Report{}, err
			}
		}
	}
	return replica.Report{}, errCutOff
}

var errCutOff = &Error{CutOff, "the process ended before its answer did"}

// call makes a unary request.
func call[Resp any](ctx context.Context, c *Client, method, name string, req any) (resp Resp, err error) {
	body, err := c.send(ctx, method, name, req)
	if err != nil {
		return resp, err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(&resp); err != nil {
		return resp, transportError(ctx, err)
	}
	return resp, nil
}

// frames yields the lines of an answer up to and with its last one. An error
// in it, and an answer without a last line, are yielded as errors.
func (c *Client) frames(ctx context.Context, name string, req any) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		body, err := c.send(ctx, http.MethodPost, name, req)
		if err != nil {
			yield(Frame{}, err)
			return
		}
		defer body.Close()
		scan := bufio.NewScanner(body)
		scan.Buffer(make([]byte, 64<<10), maxLine)
		for scan.Scan() {
			var f Frame
			if err := json.Unmarshal(scan.Bytes(), &f); err != nil {
				yield(Frame{}, transportError(ctx, err))
				return
			}
			if f.Error != nil {
				yield(Frame{}, f.Error)
				return
			}
			if !yield(f, nil) || f.End != nil || f.Report != nil {
				return
			}
		}
		err = scan.Err()
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		yield(Frame{}, transportError(ctx, err))
	}
}

// send makes a request and returns the body of a good answer.
func (c *Client) send(ctx context.Context, method, name string, req any) (io.ReadCloser, error) {
	var body io.Reader
	if req != nil {
		b, err := json.Marshal(req)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	hr, err := http.NewRequestWithContext(ctx, method, "http://sdiff/v1/"+name, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(hr)
	if err != nil {
		return nil, transportError(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var f Frame
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxLine)).Decode(&f); err != nil || f.Error == nil {
		return nil, &Error{Internal, fmt.Sprintf("the process answered %s and nothing that can be read", resp.Status)}
	}
	return nil, f.Error
}

// transportError turns an error of the connection into one for people.
func transportError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errCutOff
	}
	return &Error{CutOff, "the connection to the process broke: " + err.Error()}
}
