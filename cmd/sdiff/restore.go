package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
)

// restoreCommand works on two directories that nobody runs. The follower's is
// opened like any other, because only its owner may read it, but not changed.
func (a *app) restoreCommand() *cobra.Command {
	var flags storeFlags
	var from, fromPrefix string
	var anyway, dry bool
	cmd := a.command("restore [flags]", "Make a master's directory hold what a follower's holds", `For when the master has lost data that a follower still has. Stop both first.
What the follower holds becomes the truth, in a new epoch; its own directory is
only read. It prints what was changed. It can be interrupted and begun again.

An empty directory becomes a master of the follower's dataset. A copy that was
never verified, that is in doubt, or that is older than the master is refused
without --anyway: what it lacks would be deleted.

With --dry-run it says what would change, and changes nothing in either
directory: exit code 0 nothing, 1 something.`,
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
			do := a.restore
			if dry {
				do = a.restoreDryRun
			}
			report, err := do(ctx, cmd, &flags, from, fromPrefix, anyway)
			if err != nil {
				return err
			}
			if a.output == "json" {
				a.json(report)
			} else if dry {
				a.printf("would restore: %d missing, %d extra, %d changed; from %s to %s\n", report.Missing, report.Extra, report.Changed, report.Before, report.Master)
			} else {
				a.printf("restored: %d missing, %d extra, %d changed; now %s\n", report.Missing, report.Extra, report.Changed, report.After)
			}
			return reportExit(report)
		})
	a.addData(cmd)
	flags.addIdentity(cmd)
	cmd.Flags().StringVar(&from, "from", "", "the follower's `DIR`ectory")
	cmd.Flags().StringVar(&fromPrefix, "from-prefix", "", "the follower's prefix `P`")
	cmd.Flags().BoolVar(&anyway, "anyway", false, "take a copy that may lack anything: what it lacks is lost")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "compare only, change nothing")
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

// restoreDryRun compares both directories, which it holds and does not change.
func (a *app) restoreDryRun(ctx context.Context, cmd *cobra.Command, flags *storeFlags, from, fromPrefix string, anyway bool) (rep replica.Report, err error) {
	hash, err := flags.check(cmd, a.logger())
	if err != nil {
		return rep, err
	}
	follower, closeFollower, err := openHeld(from, fromPrefix)
	if err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, closeFollower()) }()
	if follower == nil {
		return rep, &failure{code: control.BadOption, msg: "there is no database in " + from}
	}
	master, closeMaster, err := openHeld(a.data, flags.prefix)
	if err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, closeMaster()) }()
	if master == nil {
		return replica.RestoreDryRun(ctx, store.NewMemory(), follower, hash, anyway)
	}
	return replica.RestoreDryRun(ctx, master, follower, hash, anyway)
}

// openHeld opens the database in a directory for reading only, and keeps others
// off until it is closed. The store is nil where there is none.
func openHeld(dir, prefix string) (st store.Store, done func() error, err error) {
	done = func() error { return nil }
	if err := checkDir(dir); err != nil {
		return nil, done, err
	}
	in, err := badgerstore.Inspect(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, done, nil
	case err != nil:
		return nil, done, openError(dir, err)
	case !in.Database && in.Files == nil:
		return nil, done, nil
	}
	release, err := badgerstore.Hold(dir)
	if err != nil {
		return nil, done, openError(dir, err)
	}
	scratch, err := os.MkdirTemp("", "sdiff-restore-")
	if err != nil {
		return nil, done, errors.Join(fmt.Errorf("make a temporary directory: %w", err), release())
	}
	if err = in.Verify(); err == nil {
		st, err = badgerstore.OpenReadOnly(dir, scratch, badgerstore.Options{Prefix: prefix})
	}
	if err != nil {
		return nil, done, errors.Join(openError(dir, err), os.RemoveAll(scratch), release())
	}
	return st, func() error { return errors.Join(st.Close(), os.RemoveAll(scratch), release()) }, nil
}
