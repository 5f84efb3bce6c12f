package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/sdiff/sdiff/internal/version"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A Replica is what a master and a follower both answer.
type Replica interface {
	Get(ctx context.Context, key []byte) ([]byte, error)
	Ascend(ctx context.Context, lo, hi []byte) iter.Seq2[replica.Item, error]
	Watch(ctx context.Context, from uint64) iter.Seq2[replica.Change, error]
	Status() replica.Status
	Verify(ctx context.Context) (replica.VerifyReport, error)
}

// A Master is what only a master answers.
type Master interface {
	// Write makes one commit of the ops.
	Write(ctx context.Context, ops []stream.Op) (stream.Position, error)
	// Remove deletes a key, or returns replica.ErrNotFound and makes no commit.
	Remove(ctx context.Context, key []byte) (stream.Position, error)
	// Forget drops a follower from memory.
	Forget(ctx context.Context, id string) error
}

// A Follower is what only a follower answers.
type Follower interface {
	Repair(ctx context.Context, opt replica.RepairOptions) (replica.Report, error)
}

// A Config says whom a Server speaks for.
type Config struct {
	Replica Replica
	// Exactly one of Master and Follower is set.
	Master   Master
	Follower Follower
	// Limits are the store's.
	Limits store.Limits
	// Logger takes what goes wrong with requests. If nil, nothing is logged.
	Logger *slog.Logger
}

// A Server answers requests. It starts nothing before Run.
type Server struct {
	cfg   Config
	slots chan struct{} // one for each request being served
}

// NewServer returns a server for a replica.
func NewServer(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, slots: make(chan struct{}, MaxRequests)}
}

// Run serves the listener until ctx ends, and closes it. Requests under way
// then see their own contexts end; Run returns when all have returned, or two
// seconds later. The error is nil unless the listener failed.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s.handler(),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       time.Minute, // of a whole request; answers may take longer
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelWarn),
	}
	ended := make(chan struct{})
	defer func() { <-ended }()
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(l)
	if stop() { // the listener failed by itself
		close(ended)
		srv.Close()
		return err
	}
	return nil
}

// handler routes requests. A unary request is one object in, one out.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/info", unary(s.info))
	mux.HandleFunc("GET /v1/status", unary(func(context.Context, none) (replica.Status, error) {
		return s.cfg.Replica.Status(), nil
	}))
	mux.HandleFunc("POST /v1/get", unary(s.get))
	mux.HandleFunc("POST /v1/write", unary(s.write))
	mux.HandleFunc("POST /v1/delete", unary(s.delete))
	mux.HandleFunc("POST /v1/forget", unary(s.forget))
	mux.HandleFunc("POST /v1/verify", unary(func(ctx context.Context, _ none) (replica.VerifyReport, error) {
		return s.cfg.Replica.Verify(ctx)
	}))
	mux.HandleFunc("POST /v1/list", lines(s.list))
	mux.HandleFunc("POST /v1/watch", lines(s.watch))
	mux.HandleFunc("POST /v1/repair", lines(s.repair))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		// The number names our side; whoever asks knows his own.
		answerError(w, http.StatusNotFound, &Error{Usage, "this process (sdiff " + version.Get().Version + ") knows no request " + r.Method + " " + r.URL.Path})
	})
	return s.bounded(mux)
}

// bounded refuses requests over MaxRequests and bodies over maxBody.
func (s *Server) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			answerError(w, http.StatusServiceUnavailable, &Error{Busy, fmt.Sprintf("the process serves %d requests already", MaxRequests)})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// none is the request of what needs no request.
type none struct{}

// unary turns a func into a handler.
func unary[Req, Resp any](fn func(context.Context, Req) (Resp, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req Req
		resp, err := *new(Resp), decode(r, &req)
		if err == nil {
			resp, err = fn(r.Context(), req)
		}
		if err != nil {
			e := asError(err)
			answerError(w, httpStatus(e.Code), e)
			return
		}
		answer(w, http.StatusOK, resp)
	}
}

// decode reads the one object of a request. A GET and an empty body are the
// empty object.
func decode(r *http.Request, req any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(req)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			return &Error{Usage, "the request goes on after its JSON object"}
		}
		return nil
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &Error{TooLarge, fmt.Sprintf("the request is larger than %d bytes", e.Limit)}
	}
	// encoding/json names types and offsets, never what a request holds.
	return &Error{Usage, "the request is no JSON object as expected: " + err.Error()}
}

func answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":{"code":"internal","message":"the answer has no JSON form"}}`)
	}
	// The connection may still have the deadline of an answer before this one.
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(stall))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // an error means that nobody listens any more
}

func answerError(w http.ResponseWriter, status int, e *Error) {
	answer(w, status, Frame{Error: e})
}

func (s *Server) info(context.Context, none) (Info, error) {
	role, lim := "master", s.cfg.Limits
	if s.cfg.Follower != nil {
		role = "follower"
	}
	return Info{
		Version: version.Get().Version,
		PID:     os.Getpid(),
		Role:    role,
		Limits:  Limits{Key: lim.Key, Value: lim.Value, CommitBytes: lim.CommitBytes, CommitOps: lim.CommitOps},
	}, nil
}

func (s *Server) get(ctx context.Context, req Key) (Value, error) {
	v, err := s.cfg.Replica.Get(ctx, req.Key)
	return Value{v}, named(err, "there is no such key")
}

// errFollower refuses a write to a follower.
var errFollower = &Error{WrongRole, "this is a follower: its keys change by what its master sends only"}

func (s *Server) write(ctx context.Context, req Write) (Position, error) {
	if s.cfg.Master == nil {
		return Position{}, errFollower
	}
	ops := make([]stream.Op, len(req.Ops))
	for i, op := range req.Ops {
		ops[i] = stream.Op(op)
	}
	p, err := s.cfg.Master.Write(ctx, ops)
	return NewPosition(p), err
}

func (s *Server) delete(ctx context.Context, req Key) (Position, error) {
	if s.cfg.Master == nil {
		return Position{}, errFollower
	}
	p, err := s.cfg.Master.Remove(ctx, req.Key)
	return NewPosition(p), named(err, "there is no such key")
}

func (s *Server) forget(ctx context.Context, req Forget) (none, error) {
	if s.cfg.Master == nil {
		return none{}, &Error{WrongRole, "this is a follower: only a master remembers followers"}
	}
	return none{}, named(s.cfg.Master.Forget(ctx, req.ID), "no follower of that name is known")
}

// named says what it is that was not found.
func named(err error, what string) error {
	if err != nil && Classify(err) == NotFound {
		return &Error{NotFound, what}
	}
	return err
}
