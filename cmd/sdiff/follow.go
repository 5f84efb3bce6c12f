package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/transport"
)

// followCommand does not wait for the master: a follower whose master is away
// serves what it has, and goes on when the master is back.
func (a *app) followCommand() *cobra.Command {
	var flags storeFlags
	var from, id, repair string
	cmd := a.command("follow [flags]", "Run a follower", `Runs a copy of a master's dataset in a directory, which is made if it is not
there. It receives every commit, and repairs what differs when --repair says so
or sdiff repair asks. It goes on when the master is away and connects again when
it is back. Its log goes to standard error; with -o json one object is printed
when it is ready to be asked. Ctrl-C ends it cleanly, a second one at once.

The master remembers a follower by its name, --id. Without one it is made of the
host's name and the directory, and kept in the directory.`,
		takes(),
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			if err := a.needData(cmd); err != nil {
				return err
			}
			if err := control.CheckPath(a.data); err != nil {
				return err
			}
			if from == "" {
				return &failure{code: control.Usage, msg: "which master?", hint: "give --from HOST:PORT: what sdiff serve prints as its address"}
			}
			if err := checkAddress(cmd, "from", from); err != nil {
				return err
			}
			policy, err := parseRepair(cmd, repair)
			if err != nil {
				return err
			}
			log := a.logger()
			hash, err := flags.check(cmd, log)
			if err != nil {
				return err
			}
			return a.follow(ctx, &flags, from, replica.FollowerConfig{
				ID: id, Dial: transport.DialTCP(from), Hash: hash, Adopt: flags.adopt, Scrub: flags.scrub, Repair: policy,
				Logger: log, Observer: observer(log),
			})
		})
	a.addData(cmd)
	cmd.Flags().StringVar(&from, "from", "", "the master's `HOST:PORT`")
	cmd.Flags().StringVar(&id, "id", "", "the follower's `NAME` at the master")
	cmd.Flags().StringVar(&repair, "repair", "on-connect,on-drift", "when to repair without being asked: `WHEN` is manual, or any of on-connect,on-drift,every=DURATION")
	flags.add(cmd)
	return cmd
}

// follow opens the store and runs the follower.
func (a *app) follow(ctx context.Context, flags *storeFlags, from string, cfg replica.FollowerConfig) error {
	memory := limitMemory(flags.memory)
	defer memory.stop()
	if cfg.ID != "" {
		// Before the name is kept anywhere.
		if err := cfg.Validate(); err != nil {
			return err
		}
	}
	st, err := openStore(ctx, a.data, flags, cfg.Logger)
	if err != nil {
		return err
	}
	if cfg.ID, err = followerID(a.data, cfg.ID); err != nil {
		return errors.Join(err, st.Close())
	}
	f, err := replica.NewFollower(st, cfg)
	if err != nil {
		return errors.Join(err, st.Close())
	}
	return a.host(ctx, st, memory.of(f), control.Config{Follower: f}, cfg.Logger, ready{Role: "follower", ID: cfg.ID, Address: from})
}

// parseRepair reads the value of --repair.
func parseRepair(cmd *cobra.Command, text string) (replica.RepairPolicy, error) {
	if text == "manual" {
		return replica.RepairPolicy{Manual: true}, nil
	}
	p := replica.RepairPolicy{NoConnect: true, NoDrift: true}
	for word := range strings.SplitSeq(text, ",") {
		every, isEvery := strings.CutPrefix(word, "every=")
		switch {
		case word == "on-connect":
			p.NoConnect = false
		case word == "on-drift":
			p.NoDrift = false
		case isEvery:
			d, err := time.ParseDuration(every)
			if err != nil || d < time.Second {
				return p, usagef(cmd, "--repair every=%s: want a duration of at least 1s, such as 6h", every)
			}
			p.Every = d
		default:
			return p, usagef(cmd, "--repair %q: want manual, or any of on-connect,on-drift,every=DURATION", text)
		}
	}
	return p, nil
}
