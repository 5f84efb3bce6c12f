package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
)

// promoteCommand works on a directory that nobody runs: whoever promotes a
// follower while its master lives has two masters, and should at least have had
// to stop something.
func (a *app) promoteCommand() *cobra.Command {
	var flags storeFlags
	var anyway bool
	cmd := a.command("promote [flags]", "Make a follower's directory a master's", `For when the master is gone for good. Stop the follower first, promote its
directory, then sdiff serve it: the dataset keeps its identity, and its history
goes on in a new epoch. The other followers find back by themselves; one that is
ahead of this copy parks and waits for a decision.

A copy that was never verified, or that is in doubt, is refused without --anyway.`,
		takes(),
		func(ctx context.Context, cmd *cobra.Command, _ []string) (err error) {
			if err := a.needData(cmd); err != nil {
				return err
			}
			log := a.logger()
			hash, err := flags.check(cmd, log)
			if err != nil {
				return err
			}
			st, err := openExisting(ctx, a.data, &flags, log)
			if err != nil {
				return err
			}
			p, err := replica.Promote(st, hash, anyway)
			if cerr := st.Close(); err == nil && cerr != nil {
				err = fmt.Errorf("close the store: %w", cerr)
			}
			if err != nil {
				return err
			}
			a.position(control.NewPosition(p))
			return nil
		})
	a.addData(cmd)
	flags.addIdentity(cmd)
	cmd.Flags().BoolVar(&anyway, "anyway", false, "promote a copy that may lack anything")
	return cmd
}
