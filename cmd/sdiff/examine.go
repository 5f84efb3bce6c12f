package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
)

// examineIn has a child examine the store, and adds what it finds. It returns
// an error only if that could not be done.
func (a *app) examineIn(ctx context.Context, flags *storeFlags, hash merkle.Hasher, add func(finding)) error {
	scratch, err := os.MkdirTemp("", "sdiff-doctor-")
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	defer os.RemoveAll(scratch)
	if programName == "" {
		return a.examine(hash, flags.prefix, scratch, add)
	}
	args := []string{"examine", "--data", a.data, "--scratch", scratch, "--prefix", flags.prefix, "--hash", flags.hash}
	if flags.hashKey != "" {
		args = append(args, "--hash-key", flags.hashKey)
	}
	var failure error
	err = child(ctx, nil, args, func(l childLine) {
		if l.Finding != nil {
			add(*l.Finding)
		}
		if l.Error != nil {
			failure = l.Error.error()
		}
	})
	switch {
	case errors.Is(err, errDied):
		add(finding{Check: "database", Level: levelBad, Text: err.Error(), Advice: restoreAdvice})
		return nil
	case err == nil:
		return failure
	}
	return err
}

// examineCommand is what examineIn runs.
func (a *app) examineCommand() *cobra.Command {
	var flags storeFlags
	var scratch string
	cmd := a.command("examine [flags]", "Examine a store for doctor", "For the use of doctor only.", takes(),
		func(_ context.Context, cmd *cobra.Command, _ []string) error {
			hash, err := flags.check(cmd, slog.New(slog.DiscardHandler))
			if err == nil {
				err = a.examine(hash, flags.prefix, scratch, func(f finding) {
					a.json(childLine{Finding: &f})
					a.stdout.Flush() // the next check may end the process
				})
			}
			if err != nil {
				e := a.explain(err)
				a.json(childLine{Error: &failed{e.Code, e.Message, e.Hint}})
			}
			a.json(childLine{End: true})
			return nil
		})
	cmd.Hidden = true
	a.addData(cmd)
	flags.addIdentity(cmd)
	cmd.Flags().StringVar(&scratch, "scratch", "", "")
	return cmd
}

// examine looks at tables, opens a copy of the database and looks at what is in
// it. Its error is the system's.
func (a *app) examine(hash merkle.Hasher, prefix, scratch string, add func(finding)) error {
	in, err := badgerstore.Inspect(a.data)
	if err != nil {
		return err
	}
	if err := in.Verify(); errors.Is(err, store.ErrCorrupt) {
		add(finding{Check: "tables", Level: levelBad, Text: err.Error(), Advice: restoreAdvice})
		return nil
	} else if err != nil {
		return err
	}
	add(finding{Check: "tables", Level: levelOK, Text: fmt.Sprintf("the checksums of %s hold", plural(uint64(in.Tables), "table"))})
	st, err := badgerstore.OpenReadOnly(a.data, scratch, badgerstore.Options{Prefix: prefix})
	switch {
	case errors.Is(err, store.ErrCorrupt):
		add(finding{Check: "database", Level: levelBad, Text: err.Error(), Advice: restoreAdvice})
		return nil
	case err != nil:
		return openError(a.data, err)
	}
	add(finding{Check: "database", Level: levelOK, Text: "Badger opens it"})
	examineStore(st, hash, add)
	return st.Close()
}

// examineStore tells what a replica would find in a store.
func examineStore(st store.Store, hash merkle.Hasher, add func(finding)) {
	ex, err := replica.Examine(st, hash)
	head := st.Info().Head
	if e, ok := errors.AsType[*replica.IdentityError](err); ok {
		examineIdentity(ex, add)
		add(finding{Check: "items", Level: levelWarn, Text: "not looked at: " + e.Error(), Advice: "give --hash and --hash-key as serve and follow were given"})
		return
	}
	if err != nil {
		add(finding{Check: "items", Level: levelBad, Text: err.Error(), Advice: restoreAdvice})
		return
	}
	f := finding{Check: "HEAD", Level: levelOK}
	switch notes := st.Info().Notes; {
	case len(notes) > 0:
		f.Level, f.Text, f.Advice = levelWarn, notes[0], "nothing to do: the next start makes it anew. Whether a follower's copy is right, sdiff diff says"
	case head == nil:
		f.Text = "there is none yet"
	case head.Seq < ex.Meta.Seq:
		f.Text = fmt.Sprintf("at transaction %d, the database is at %d: a kill or a power cut leaves it so", head.Seq, ex.Meta.Seq)
	default:
		f.Text = fmt.Sprintf("at transaction %d, offset %d", head.Seq, head.Position.Offset)
	}
	add(f)
	examineIdentity(ex, add)
	examineItems(ex, add)
	if ex.Meta.Role == store.Master && !ex.Fresh {
		examineLog(ex, add)
	}
}

// examineIdentity tells whose the store is and where it stands.
func examineIdentity(ex replica.Examination, add func(finding)) {
	m := ex.Meta
	if m.Role == 0 {
		add(finding{Check: "identity", Level: levelWarn, Text: "sdiff never wrote here, or the prefix is another", Advice: "serve and follow take it over with --adopt; a dataset in a shared database needs its --prefix"})
		return
	}
	add(finding{Check: "identity", Level: levelOK, Text: fmt.Sprintf("a %s's, of dataset %v, item hash %s", m.Role, m.Dataset, m.Hash)})
	add(finding{Check: "position", Level: levelOK, Text: fmt.Sprintf("epoch %v, offset %d, fingerprint %v", m.Position.Epoch, m.Position.Offset, m.Position.Fingerprint)})
}

// examineItems tells whether the items are those that were stored.
func examineItems(ex replica.Examination, add func(finding)) {
	f := finding{Check: "items", Level: levelOK, Text: fmt.Sprintf("%s with fingerprint %v, as stored", plural(ex.Items.Count, "key"), ex.Items)}
	master := ex.Meta.Role != store.Follower
	switch {
	case ex.Doubt == "" && ex.Fresh:
		f.Text = fmt.Sprintf("%s, of which nothing is known", plural(ex.Items.Count, "key"))
	case ex.Doubt != "" && master:
		f.Level, f.Text = levelBad, ex.Doubt
		if ex.Where != "" {
			f.Text += "; " + ex.Where
		}
		f.Advice = damageHint(&replica.DamageError{Lost: ex.Lost})
	case ex.Doubt != "":
		f.Level, f.Text, f.Advice = levelBad, ex.Doubt, "start it: it compares itself with its master and repairs what differs"
	case !master && !ex.Meta.Complete:
		f.Level, f.Text = levelWarn, fmt.Sprintf("%s; the copy was never verified, or a repair was cut off", plural(ex.Items.Count, "key"))
		f.Advice = "start it: it compares itself with its master and repairs what differs"
	case !master && ex.Items != ex.Meta.Position.Fingerprint:
		f.Level, f.Text = levelWarn, fmt.Sprintf("%v is not what the master had at this offset, %v", ex.Items, ex.Meta.Position.Fingerprint)
		f.Advice = "start it: it compares itself with its master and repairs what differs"
	}
	add(f)
}

// examineLog tells whether the log is whole.
func examineLog(ex replica.Examination, add func(finding)) {
	l := ex.Log
	f := finding{Check: "log", Level: levelOK, Text: fmt.Sprintf("offsets %d to %d in %s", l.First, l.Last, plural(uint64(l.Records), "record"))}
	switch {
	case l.Err != nil:
		f.Level, f.Text = levelBad, l.Err.Error()
		f.Advice = "no item is lost by that: followers that stand before the damage are repaired instead of resuming"
	case l.Records == 0:
		f.Text = "empty: a follower that was away is repaired"
	}
	add(f)
}
