package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/stream"
	"github.com/sdiff/sdiff/transport"
)

// serveCommand checks everything that can be checked before it opens anything,
// and takes the port before the store: reading a large store takes long, and a
// port that is taken should not be told of after that.
func (a *app) serveCommand() *cobra.Command {
	var flags storeFlags
	var listen string
	logSize := int64(replica.DefaultLogBytes)
	var logAge time.Duration
	var acceptLoss, acceptStore bool
	cmd := a.command("serve [flags]", "Run a master", `Runs the master of the dataset in a directory, which is made if it is not there.
It serves followers on --listen, and the other commands through the control
socket in the directory. Its log goes to standard error; the line that says
"ready" has the real address, with -o json also as one object on standard
output. Ctrl-C ends it cleanly, a second one at once.`,
		takes(),
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			if err := a.needData(cmd); err != nil {
				return err
			}
			if err := control.CheckPath(a.data); err != nil {
				return err
			}
			if err := checkAddress(cmd, "listen", listen); err != nil {
				return err
			}
			if logSize == 0 || logAge == 0 {
				return usagef(cmd, "--log-size and --log-age are not 0; negative is no limit")
			}
			log := a.logger()
			hash, err := flags.check(cmd, log)
			if err != nil {
				return err
			}
			l, err := transport.Listen(listen)
			if err != nil {
				return listenError(listen, err)
			}
			return a.serve(ctx, &flags, replica.MasterConfig{
				Listener: l, Hash: hash, Adopt: flags.adopt, Scrub: flags.scrub, LogBytes: logSize, LogAge: logAge,
				AcceptDataLoss: acceptLoss, AcceptStore: acceptStore,
				Logger: log, Observer: observer(log),
			})
		})
	a.addData(cmd)
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:7600", "serve followers at `HOST:PORT`; port 0 takes a free one")
	flags.add(cmd)
	sizeVar(cmd, &logSize, "log-size", "keep at most so many `BYTES` of commits for followers that were away; negative no limit")
	cmd.Flags().DurationVar(&logAge, "log-age", replica.DefaultLogAge, "and none older than this `DURATION`; negative no limit")
	cmd.Flags().BoolVar(&acceptLoss, "accept-data-loss", false, "start although something is missing from the store, in a new epoch")
	cmd.Flags().BoolVar(&acceptStore, "accept-store", false, "start although the store holds foreign or changed keys, with what it holds, in a new epoch")
	return cmd
}

// serve opens the store and runs the master. It owns the listener.
func (a *app) serve(ctx context.Context, flags *storeFlags, cfg replica.MasterConfig) error {
	defer cfg.Listener.Close()
	memory := limitMemory(flags.memory)
	defer memory.stop()
	cfg.TailBytes = tailMemory(flags.memory)
	st, err := openStore(ctx, a.data, flags, cfg.Logger)
	if err != nil {
		return err
	}
	m, err := replica.NewMaster(st, cfg)
	if err != nil {
		return errors.Join(err, st.Close())
	}
	line := ready{Role: "master", Address: cfg.Listener.Addr().String()}
	return a.host(ctx, st, memory.of(m), control.Config{Master: master{m}}, cfg.Logger, line)
}

// A master is a replica.Master as the control server wants it.
type master struct{ *replica.Master }

// Remove deletes a key that is there, damaged or not. Nothing else commits
// between the look and the deletion.
func (m master) Remove(ctx context.Context, key []byte) (stream.Position, error) {
	return m.Update(ctx, func(tx *replica.Tx) error {
		if _, err := tx.Get(key); err != nil && !errors.Is(err, replica.ErrDamaged) {
			return err
		}
		return tx.Delete(key)
	})
}

// listenError says why an address cannot be listened on.
func listenError(addr string, err error) error {
	f := &failure{code: control.BadOption, msg: fmt.Sprintf("cannot listen on %s: %v", addr, cause(err))}
	switch {
	case errors.Is(err, transport.ErrAddressInUse):
		f.code, f.msg = control.InUse, fmt.Sprintf("cannot listen on %s: another process does", addr)
	case errors.Is(err, fs.ErrPermission):
		f.code, f.hint = control.Permission, "ports below 1024 need privileges; choose another with --listen"
	}
	return f
}

// cause returns the innermost reason of a network error: what surrounds it
// repeats the address.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
