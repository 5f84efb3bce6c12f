package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
)

// A producer makes the lines of an answer. It hands them to send, which
// returns an error when nobody reads any more, and returns the last one.
type producer[Req any] func(ctx context.Context, req Req, send func(Frame) error) (Frame, error)

// lines turns a producer into a handler. Lines are written at once while there
// is nothing more to say, and in large pieces while there is. Up to sixteen
// wait for the writer; then the producer waits.
func lines[Req any](produce producer[Req]) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req Req
		if err := decode(r, &req); err != nil {
			e := asError(err)
			answerError(w, httpStatus(e.Code), e)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		linec := make(chan []byte, 16)
		send := func(f Frame) error {
			line, err := json.Marshal(f)
			if err != nil {
				return err
			}
			select {
			case linec <- append(line, '\n'):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			defer close(linec)
			last, err := produce(ctx, req, send)
			if err != nil {
				last = Frame{Error: asError(err)}
			}
			// The last line goes out even when the process is ending, if
			// there still is somebody to read it.
			if line, err := json.Marshal(last); err == nil {
				linec <- append(line, '\n')
			}
		})
		writeLines(w, linec, cancel)
	}
}

// writeLines writes what comes in until linec is closed. When nobody reads any
// more it calls cancel and takes the rest without writing it.
func writeLines(w http.ResponseWriter, linec <-chan []byte, cancel func()) {
	w.Header().Set("Content-Type", "application/jsonl")
	rc := http.NewResponseController(w)
	buf := bufio.NewWriterSize(w, 64<<10)
	flush := func() error { return errors.Join(buf.Flush(), rc.Flush()) }
	// The head goes out first: a watch may have nothing to say for long.
	err := errors.Join(rc.SetWriteDeadline(time.Now().Add(stall)), flush())
	for line := range linec {
		if err != nil {
			continue
		}
		err = rc.SetWriteDeadline(time.Now().Add(stall))
		if err == nil {
			_, err = buf.Write(line)
		}
		if err == nil && len(linec) == 0 {
			err = flush()
		}
		if err != nil {
			cancel()
		}
	}
	if err == nil {
		flush()
	}
}

func (s *Server) list(ctx context.Context, req List, send func(Frame) error) (Frame, error) {
	var n uint64
	for item, err := range s.cfg.Replica.Ascend(ctx, req.Prefix, merkle.PrefixEnd(req.Prefix)) {
		if err != nil {
			return Frame{}, err
		}
		line := Item{Key: item.Key}
		if req.Values {
			line.Value = item.Value
		}
		if err := send(Frame{Item: &line}); err != nil {
			return Frame{}, err
		}
		if n++; n == req.Limit {
			break
		}
	}
	return Frame{End: &End{Count: n}}, nil
}

// watch sends the changes whose keys have the prefix. One op is held back
// until it is known whether its commit has another one that matches, so that
// the last of them can be marked: only there is the offset a bookmark.
func (s *Server) watch(ctx context.Context, req Watch, send func(Frame) error) (Frame, error) {
	if s.cfg.Follower != nil && req.From != 0 {
		return Frame{}, &Error{WrongRole, "a follower keeps no log: it can be watched from now on only"}
	}
	var held *Change
	release := func(last bool) error {
		if held == nil {
			return nil
		}
		line := held
		line.Last, held = last, nil
		return send(Frame{Change: line})
	}
	for c, err := range s.cfg.Replica.Watch(ctx, req.From) {
		if err != nil {
			return Frame{}, err
		}
		line := change(c)
		if c.Gap {
			if err := errors.Join(release(false), send(Frame{Change: &line})); err != nil {
				return Frame{}, err
			}
			continue
		}
		if bytes.HasPrefix(c.Key, req.Prefix) {
			if err := release(false); err != nil {
				return Frame{}, err
			}
			line.Key, line.Value = bytes.Clone(c.Key), bytes.Clone(c.Value)
			held = &line
		}
		if c.Last || c.Repair {
			if err := release(c.Last); err != nil {
				return Frame{}, err
			}
		}
	}
	// A watch ends by its context or an error only.
	return Frame{}, errors.Join(ctx.Err(), replica.ErrClosed)
}

func change(c replica.Change) Change {
	line := Change{Offset: c.Position.Offset, Key: c.Key, Value: c.Value, Delete: c.Delete, Repair: c.Repair, Gap: c.Gap}
	if !c.Position.Epoch.IsZero() {
		line.Epoch = c.Position.Epoch.String()
	}
	return line
}

func (s *Server) repair(ctx context.Context, req Repair, send func(Frame) error) (Frame, error) {
	if s.cfg.Follower == nil {
		return Frame{}, &Error{WrongRole, "this is a master: a follower is what is compared and repaired"}
	}
	if req.Keys && !req.DryRun {
		return Frame{}, &Error{Usage, "only a dry run tells its keys"}
	}
	opt := replica.RepairOptions{DryRun: req.DryRun, AllowMassDelete: req.AllowMassDelete, AcceptRollback: req.AcceptRollback}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if req.Keys {
		opt.Each = func(d replica.Difference) {
			if err := send(Frame{Difference: &Difference{Kind: string(rune(d.Kind)), Key: d.Key}}); err != nil {
				cancel(err)
			}
		}
	}
	report, err := s.cfg.Follower.Repair(ctx, opt)
	if err != nil {
		return Frame{}, err
	}
	return Frame{Report: &report}, nil
}
