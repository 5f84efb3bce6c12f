package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
)

// diffCommand is a repair's dry run that tells every key. Keys come while the
// comparison goes on, so that a large difference shows at once; what they add up
// to, and whether they are all, is known at the end only: hence the report in
// the last line, and an exit code that is 0 for "the same" and nothing else.
func (a *app) diffCommand() *cobra.Command {
	var enc encoding
	var timeout time.Duration
	cmd := a.command("diff [flags]", "Tell what differs from the master", `Compares a follower with its master at one offset while both go on, and changes
nothing. Prints the keys that differ, in no order:

  - KEY   missing here, the master has it
  + KEY   here only
  * KEY   in both, with different values
  =       (alone, with offset, count and fingerprint) everything is the same

Exit code 0 the same, 1 different, 4 the master cannot be reached or the
comparison has no outcome. That is never 0.`,
		takes(),
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			ctx, cancel := withTimeout(ctx, timeout)
			defer cancel()
			c, err := a.client(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if err := enc.check(cmd); err != nil {
				return err
			}
			report, err := c.Repair(ctx, control.Repair{DryRun: true, Keys: true}, func(d control.Difference) error {
				a.difference(d, enc)
				return a.stdout.Flush()
			})
			if err != nil {
				return err
			}
			if a.output == "json" {
				a.json(map[string]replica.Report{"report": report})
				return reportExit(report)
			}
			if report.Outcome == replica.Same {
				a.printf("= %s at offset %d, fingerprint %s\n", plural(keysOf(report.After), "key"), report.Offset, report.After)
			}
			if !a.quiet {
				fmt.Fprintf(a.stderr, "%s\n", found(report))
			}
			return a.told(report)
		})
	a.addData(cmd)
	addEncoding(cmd, &enc, "keys printed")
	addTimeout(cmd, &timeout, 0)
	return cmd
}

// difference prints one key that differs.
func (a *app) difference(d control.Difference, enc encoding) {
	if a.output == "json" {
		b := append(append([]byte(`{"diff":"`), d.Kind...), `",`...)
		a.stdout.Write(append(appendField(b, "key", d.Key), "}\n"...))
		return
	}
	a.printf("%s %s\n", d.Kind, enc.encode(d.Key))
}
