package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// delCommand looks and deletes in one step of the master's writer, so that of two
// who delete the same key one is told that it was gone.
func (a *app) delCommand() *cobra.Command {
	var enc encoding
	var timeout time.Duration
	cmd := a.command("del KEY", "Delete a key", `Deletes one key and prints the position of the commit. An absent key is exit
code 3, and no commit is made.`,
		takes("KEY"),
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			ctx, cancel := withTimeout(ctx, timeout)
			defer cancel()
			c, err := a.client(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			key, err := enc.decode(cmd, "key", args[0])
			if err != nil {
				return err
			}
			p, err := c.Delete(ctx, key)
			if err != nil {
				return err
			}
			a.position(p)
			return nil
		})
	a.addData(cmd)
	addEncoding(cmd, &enc, "KEY")
	addTimeout(cmd, &timeout, answerTimeout)
	return cmd
}
