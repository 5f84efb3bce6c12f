package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// forgetCommand is the only way in which a follower vanishes from a master's
// status.
func (a *app) forgetCommand() *cobra.Command {
	var timeout time.Duration
	cmd := a.command("forget ID", "Forget a follower", `A master remembers every follower it has seen, so that one that is away cannot
be overlooked. This drops one that will not come back. A connected one cannot be
forgotten; if one that was forgotten connects again, it is simply new.`,
		takes("ID (the follower's name, as sdiff status prints it)"),
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			ctx, cancel := withTimeout(ctx, timeout)
			defer cancel()
			c, err := a.client(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.Forget(ctx, args[0]); err != nil {
				return err
			}
			if a.output == "json" {
				a.json(map[string]string{"forgotten": args[0]})
			} else {
				a.printf("forgot %s\n", visible(args[0]))
			}
			return nil
		})
	a.addData(cmd)
	addTimeout(cmd, &timeout, answerTimeout)
	return cmd
}
