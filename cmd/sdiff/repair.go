package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
)

// repairCommand waits for the repair to end. When the command is interrupted a
// dry run ends, but a repair goes on in the follower, without the consent that
// came with the request.
func (a *app) repairCommand() *cobra.Command {
	var timeout time.Duration
	var req control.Repair
	cmd := a.command("repair [flags]", "Make a follower equal to its master", `Compares, replays what differs, verifies, and prints a report. Writes go on
meanwhile, and no key ever goes back in time. Ctrl-C ends the waiting and not
the repair, which goes on in the follower; to stop it, stop the follower: it can
be begun again at any point.

A repair that would delete more than half of the copy, and one from a master
that holds nothing, stops and asks for --allow-mass-delete. A follower that its
master cannot confirm (it is ahead, or of another history) keeps what it has
until --accept-rollback says that the master is right.

Exit code 0 the same or repaired, 1 still different, 4 could not tell, 7
repaired but for values that are damaged at the master.`,
		takes(),
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			ctx, cancel := withTimeout(ctx, timeout)
			defer cancel()
			c, err := a.client(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			report, err := c.Repair(ctx, req, nil)
			if err != nil {
				return err
			}
			if a.output == "json" {
				a.json(report)
				return reportExit(report)
			}
			a.report(report)
			return a.told(report)
		})
	a.addData(cmd)
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "compare only, change nothing")
	cmd.Flags().BoolVar(&req.AllowMassDelete, "allow-mass-delete", false, "let it delete more than half of the copy")
	cmd.Flags().BoolVar(&req.AcceptRollback, "accept-rollback", false, "go on with a master that cannot confirm this copy's position")
	addTimeout(cmd, &timeout, 0)
	return cmd
}

// report prints a report as a table. What stands in the way of being the same
// is told on standard error after it, by told.
func (a *app) report(r replica.Report) {
	row := func(name, format string, args ...any) {
		a.printf("%-12s "+format+"\n", append([]any{name}, args...)...)
	}
	row("outcome", "%s", r.Outcome)
	if r.Reason != "" {
		row("reason", "%s", visible(r.Reason))
	}
	if r.Why != "" {
		row("why", "%s", visible(r.Why))
	}
	row("offset", "%d", r.Offset)
	row("found", "%d missing, %d extra, %d changed", r.Missing, r.Extra, r.Changed)
	if r.Unsendable > 0 {
		row("unsendable", "%d, damaged at the master", r.Unsendable)
	}
	if !r.DryRun {
		row("done", "%d put, %d deleted", r.Put, r.Deleted)
	}
	a.overwritten(row, r)
	row("before", "%s", r.Before)
	row("after", "%s", r.After)
	row("master", "%s", r.Master)
	if r.Method != "" {
		row("compared", "by %s: %s", r.Method, r.MethodWhy)
	}
	row("cost", "%s in, %s out (%s to compare), %s in %s, %s", size(r.BytesIn), size(r.BytesOut), size(r.CompareBytes),
		plural(uint64(r.RoundTrips), "round trip"), plural(uint64(r.Rounds), "round"), span(r.Took))
}

// overwritten names what a repair has changed because a person accepted the
// master's history.
func (a *app) overwritten(row func(name, format string, args ...any), r replica.Report) {
	if len(r.Keys) == 0 {
		return
	}
	row("overwritten", "%d deleted, %d added, %d changed", r.Deleted, r.Missing, r.Changed)
	for _, d := range r.Keys {
		a.printf("  %s %s\n", string(rune(d.Kind)), escape(d.Key))
	}
	if r.MoreKeys {
		a.printf("  and more\n")
	}
}
