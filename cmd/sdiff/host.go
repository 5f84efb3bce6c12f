package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
)

// A runner is a master or a follower.
type runner interface {
	control.Replica
	Run(ctx context.Context) error
	Ready() <-chan struct{}
}

// A ready line is what serve and follow print when they are ready, with
// -o json.
type ready struct {
	Role        string `json:"role"`
	ID          string `json:"id,omitempty"`
	Address     string `json:"address"`
	Data        string `json:"data"`
	PID         int    `json:"pid"`
	Dataset     string `json:"dataset,omitempty"`
	Offset      uint64 `json:"offset"`
	Keys        uint64 `json:"keys"`
	Fingerprint string `json:"fingerprint"`
}

// slowClose is how long closing a store may take without a word about it.
const slowClose = 10 * time.Second

// host runs a replica and its control socket until ctx ends, which is a clean
// end, or until one of them fails. It closes the store, which holds the
// directory: so it comes last.
func (a *app) host(ctx context.Context, st store.Store, r runner, cfg control.Config, log *slog.Logger, line ready) (err error) {
	clean := false
	defer func() {
		// Badger tries for ever to write out what it holds, even if its
		// directory is gone.
		slow := time.AfterFunc(slowClose, func() {
			log.Warn("the store has not closed yet; another Ctrl-C or SIGTERM does not wait for it")
		})
		defer slow.Stop()
		if cerr := st.Close(); cerr != nil && err == nil {
			err = fmt.Errorf("close the store: %w", cerr)
		}
		if clean && err == nil {
			log.Info("ended cleanly")
		}
	}()
	l, err := control.Listen(a.data)
	if err != nil {
		return err
	}
	cfg.Replica, cfg.Limits, cfg.Logger = r, st.Limits().Logged(), log
	server := control.NewServer(cfg)

	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := r.Run(gctx)
		if err == nil && gctx.Err() == nil {
			err = errors.New("the replica ended by itself")
		}
		return err
	})
	g.Go(func() error { return server.Run(gctx, l) })
	g.Go(func() error {
		select {
		case <-r.Ready():
			a.announce(line, r.Status(), log)
		case <-gctx.Done():
		}
		return nil
	})
	err = g.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		clean = true
		return nil
	}
	if ctx.Err() != nil && errors.Is(err, store.ErrRefused) {
		f := &failure{code: control.Classify(err), msg: fmt.Sprintf("ended, but not cleanly: %v", err)}
		if errors.Is(err, store.ErrNoSpace) {
			f.hint = "what was acknowledged is in the store; the next start needs some space"
		}
		return f
	}
	return err
}

// announce says that the replica is ready, on the log and, with -o json, on
// standard output.
func (a *app) announce(line ready, s replica.Status, log *slog.Logger) {
	line.Dataset, line.Offset, line.Keys, line.Fingerprint = s.Dataset, s.Offset, s.Keys, s.Fingerprint
	line.Data, line.PID = a.data, os.Getpid()
	log.Info("ready", "role", line.Role, "address", line.Address, "data", line.Data, "keys", line.Keys, "offset", line.Offset, "fingerprint", line.Fingerprint)
	if a.output == "json" {
		a.json(line)
		if err := a.stdout.Flush(); err != nil {
			log.Warn("cannot write to standard output", "error", err)
		}
	}
}

// observer logs changes of state. What a repair found the replica logs itself.
func observer(log *slog.Logger) replica.Observer {
	return replica.Observer{
		State: func(s replica.State, why string) {
			log.Info("state", because(why, "state", string(s))...)
		},
		Follower: func(id string, s replica.State, why string) {
			log.Info("follower", because(why, "follower", id, "state", string(s))...)
		},
	}
}

// because adds the reason, if there is one, to what is logged.
func because(why string, args ...any) []any {
	if why == "" {
		return args
	}
	return append(args, "why", why)
}

// checkAddress refuses what is no host:port before anything is opened.
func checkAddress(cmd *cobra.Command, flag, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return usagef(cmd, "--%s %q is not HOST:PORT, such as 127.0.0.1:7600", flag, addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return usagef(cmd, "--%s %q has no port from 0 to 65535", flag, addr)
	}
	return nil
}
