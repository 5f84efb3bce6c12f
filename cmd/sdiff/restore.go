package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
)

// restoreCommand works on two directories that nobody runs. The follower's is
// opened like any other, because only its owner may read it, but not changed.
func (a *app) restoreCommand() *cobra.Command {
	var flags storeFlags
	var from, fromPrefix string
	var anyway bool
	cmd := a.command("restore [flags]", "Make a master's directory hold what a follower's holds", `For when the master has lost data that a follower still has. Stop both first.
What the follower holds becomes the truth, in a new epoch; its own directory is
only read. It prints what was changed. It can be interrupted and begun again.

An empty directory becomes a master of the follower's dataset. A copy that was
never verified, that is in doubt, or that is older than the master is refused
without --anyway: what it lacks would be deleted.`,
		takes(),
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			if err := a.needData(cmd); err != nil {
				return err
			}
			if from == "" {
				return &failure{code: control.Usage, msg: "from which follower?", hint: "give --from DIR: the directory of a follower that is stopped"}
			}
			if same(from, a.data) {
				return usagef(cmd, "--from and --data are the same directory")
			}
			report, err := a.restore(ctx, cmd, &flags, from, fromPrefix, anyway)
			if err != nil {
				return err
			}
			if a.output == "json" {
				a.json(report)
			} else {
				a.printf("restored: %d missing, %d extra, %d changed; now %s\n", report.Missing, report.Extra, report.Changed, report.After)
			}
			return nil
		})
	a.addData(cmd)
	flags.addIdentity(cmd)
	cmd.Flags().StringVar(&from, "from", "", "the follower's `DIR`ectory")
	cmd.Flags().StringVar(&fromPrefix, "from-prefix", "", "the follower's prefix `P`")
	cmd.Flags().BoolVar(&anyway, "anyway", false, "take a copy that may lack anything: what it lacks is lost")
	ownEnv(cmd, "from")
	complete(cmd.MarkFlagDirname("from"))
	return cmd
}

// same reports whether two paths lead to one directory.
func same(a, b string) bool {
	ai, aerr := os.Stat(a)
	bi, berr := os.Stat(b)
	return aerr == nil && berr == nil && os.SameFile(ai, bi)
}

// restore opens both stores and closes them again.
func (a *app) restore(ctx context.Context, cmd *cobra.Command, flags *storeFlags, from, fromPrefix string, anyway bool) (rep replica.Report, err error) {
	log := a.logger()
	hash, err := flags.check(cmd, log)
	if err != nil {
		return rep, err
	}
	source := *flags
	source.prefix = fromPrefix
	follower, err := openExisting(ctx, from, &source, log)
	if err != nil {
		return rep, err
	}
	master, err := openStore(ctx, a.data, flags, log)
	if err != nil {
		return rep, errors.Join(err, follower.Close())
	}
	rep, err = replica.Restore(ctx, master, follower, hash, anyway)
	if cerr := errors.Join(master.Close(), follower.Close()); err == nil && cerr != nil {
		err = fmt.Errorf("close the stores: %w", cerr)
	}
	return rep, err
}
