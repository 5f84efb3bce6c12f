package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/replica"
)

// statusCommand reports and judges nothing: a replica that is behind, parked or
// read only still answers, and its exit code is 0. A check that has an opinion
// looks at the fields it cares for.
func (a *app) statusCommand() *cobra.Command {
	var timeout time.Duration
	cmd := a.command("status [flags]", "Tell how a replica is", `Prints the role, the position and how far it is behind, the fingerprint and
whether it equals the master's at the same offset, the followers a master knows
(connected or not), the state with since when and why, the last repair and the
size of the store. Exit code 0 if the process answers, whatever it says.`,
		takes(),
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			ctx, cancel := withTimeout(ctx, timeout)
			defer cancel()
			c, err := a.client(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := c.Status(ctx)
			if err != nil {
				return err
			}
			if a.output == "json" {
				a.json(s)
			} else {
				a.status(s, time.Now())
			}
			return nil
		})
	a.addData(cmd)
	addTimeout(cmd, &timeout, answerTimeout)
	return cmd
}

// status prints a status as a table.
func (a *app) status(s replica.Status, now time.Time) {
	row := func(name, format string, args ...any) {
		a.printf("%-12s "+format+"\n", append([]any{name}, args...)...)
	}
	role := s.Role
	if s.ID != "" {
		role += " " + visible(s.ID)
	}
	row("role", "%s", role)
	row("dataset", "%s, item hash %s", cmp.Or(s.Dataset, "not known yet"), s.Hash)
	if s.Address != "" {
		row("address", "%s", s.Address)
	}
	row("state", "%s for %s (since %s)", s.State, span(now.Sub(s.Since)), s.Since.UTC().Format(time.RFC3339))
	if s.Why != "" {
		row("why", "%s", visible(s.Why))
	}
	row("position", "offset %d, head %d, epoch %s", s.Offset, s.Head, cmp.Or(s.Epoch, "none"))
	if s.Role == "follower" {
		lag := fmt.Sprintf("%s, %.1f s", plural(s.LagCommits, "commit"), s.LagSeconds)
		if !s.LagKnown {
			// What the master has done since is not known here.
			lag = "not known without the master; " + lag + " when it was last heard of"
		}
		row("lag", "%s", lag)
		if s.LastContact != nil {
			row("contact", "%s ago", span(now.Sub(*s.LastContact)))
		}
	}
	a.progress(row, s, now)
	row("keys", "%d", s.Keys)
	row("fingerprint", "%s%s", s.Fingerprint, a.inSync(s))
	if !s.Complete {
		row("base", "incomplete: it may lack anything until a repair has been verified")
	}
	if r := s.LastRepair; r != nil {
		row("last repair", "%s ago: %s", span(now.Sub(r.Start)), found(*r))
		if r.Reason != "" {
			row("", "%s", visible(r.Reason))
		}
	}
	a.decision(row, s)
	if s.Log != nil {
		row("log", "from offset %d, about %s; in memory from %d", s.Log.Start, size(s.Log.Bytes), s.Log.Tail)
	}
	a.scrub(row, s.Scrub, now)
	a.bad(row, s)
	a.storeRows(row, s.Store)
	if m := s.Memory; m != nil {
		row("memory", "%s in use; the budget is %s and the tree", size(m.Used), size(m.Budget))
	}
	a.followers(s, now)
}

// progress prints when the position moved last: a stall does not look healthy
// because nothing else has changed.
func (a *app) progress(row func(name, format string, args ...any), s replica.Status, now time.Time) {
	if s.Progress.IsZero() {
		return // before the tree is built
	}
	what := "the newest commit, or the start"
	if s.Role == "follower" {
		what = "the position moved, or the master confirmed it"
	}
	row("progress", "%s ago: %s", span(now.Sub(s.Progress)), what)
}

// away reports whether a follower has no session with its master.
func away(s replica.Status) bool {
	return s.Role == "follower" && (s.State == replica.Connecting || s.State == replica.Parked)
}

// decision prints the command that goes on, where a follower waits for one.
func (a *app) decision(row func(name, format string, args ...any), s replica.Status) {
	switch r := s.LastRepair; {
	case s.State == replica.Parked:
		row("decide", "sdiff diff --data %s tells what the master has otherwise", visible(a.data))
		row("", "sdiff repair --accept-rollback --data %s makes this copy what the master now is", visible(a.data))
	case r != nil && r.NeedsConsent != "" && (!s.Complete || s.InSync == nil || !*s.InSync):
		row("decide", "sdiff repair --%s --data %s lets the repair go on", strings.TrimLeft(r.NeedsConsent, "-"), visible(a.data))
	}
}

// scrub prints how the re-reading of the store in the background goes: what is
// done, at what pace, and what it has found.
func (a *app) scrub(row func(name, format string, args ...any), s replica.ScrubStatus, now time.Time) {
	if s.Share <= 0 && s.Error == "" && s.Found == 0 {
		row("scrub", "off")
		return
	}
	if s.Error != "" {
		row("scrub", "%s", paint(a.painted(), red, visible(s.Error)))
	}
	pace := fmt.Sprintf("%.0f items/s, %s/s", s.ItemsPerSecond, size(int64(s.BytesPerSecond)))
	if s.Running && s.Began != nil {
		eta := ""
		if s.ETA != nil {
			eta = ", to end in " + span(max(0, s.ETA.Sub(now)))
		}
		row("scrub", "%.0f%% of pass %d, begun %s ago, %s at %.0f%% of a core%s", 100*s.Progress, s.Passes+1, span(now.Sub(*s.Began)), pace, 100*s.Share, eta)
	} else if s.Passes == 0 && s.Error == "" {
		row("scrub", "no pass yet")
	}
	if s.Last != nil {
		took := time.Duration(s.TookSeconds * float64(time.Second))
		row("scrubbed", "%s, the last ended %s ago and took %s; %s found since the start", plural(s.Passes, "pass"), span(now.Sub(*s.Last)), span(took), plural(s.Found, "bad key"))
	}
}

// bad prints which keys the store is known not to hold as they were written.
func (a *app) bad(row func(name, format string, args ...any), s replica.Status) {
	b := s.Scrub
	if b.Bad == 0 {
		return
	}
	n, more := plural(b.Bad, "key"), ""
	if b.More {
		n = "more than " + n
	}
	var names []string
	for _, k := range b.Keys {
		names = append(names, escape(k.Key)+" "+k.What)
	}
	if uint64(len(names)) < b.Bad {
		more = ", …"
	}
	what := "not as written here, until a repair"
	if s.Role == "master" {
		what = "unsendable: not as written, and sent to nobody until written again"
	}
	row("bad", "%s", paint(a.painted(), red, n+" "+what)+": "+strings.Join(names, ", ")+more)
}

// storeRows prints what is known of the database and its disk.
func (a *app) storeRows(row func(name, format string, args ...any), s replica.StoreStatus) {
	sync := "never"
	if s.Sync {
		sync = "always"
	}
	free := ""
	if s.Free >= 0 {
		free = ", " + size(s.Free) + " free"
	}
	row("store", "%s, %s%s, sync %s, tree %s", visible(s.Path), size(max(s.Bytes, 0)), free, sync, size(s.TreeHeap))
	for _, note := range s.Notes {
		row("note", "%s", visible(note))
	}
}

// inSync says whether the copy is the master's, where that is known.
func (a *app) inSync(s replica.Status) string {
	switch {
	case s.Role != "follower":
		return ""
	case s.State == replica.Parked:
		return ", which the master cannot confirm"
	case s.InSync == nil:
		return ", not compared with the master's yet"
	case *s.InSync && away(s):
		return ", as the master had it at this offset"
	case *s.InSync:
		return ", " + paint(a.painted(), green, "equal to the master's")
	}
	return ", " + paint(a.painted(), red, "the master's is "+s.Master)
}

// followers prints what a master knows of its followers, connected or not.
func (a *app) followers(s replica.Status, now time.Time) {
	if s.Role != "master" {
		return
	}
	a.printf("%-12s %d\n", "followers", len(s.Followers))
	if len(s.Followers) == 0 {
		return
	}
	tw := tabwriter.NewWriter(a.stdout, 2, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "  ID\tCONNECTED\tSTATE\tSINCE\tACKED\tLAG\tIN SYNC\tLAST CONTACT\tADDRESS\tWHY")
	for _, f := range s.Followers {
		same := "?"
		if f.InSync != nil {
			same = yes(*f.InSync)
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\t%d\t%d, %.1f s\t%s\t%s ago\t%s\t%s\n", visible(f.ID), yes(f.Connected), f.State, span(now.Sub(f.Since)),
			f.Acked, f.LagCommits, f.LagSeconds, same, span(now.Sub(f.LastContact)), cmp.Or(f.Address, "-"), cmp.Or(visible(f.Why), "-"))
	}
	tw.Flush() // its errors are those of stdout, which tells at the end
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
