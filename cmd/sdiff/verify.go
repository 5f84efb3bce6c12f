package main

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
)

// A verification is what verify prints.
type verification struct {
	// Outcome is "same", "different", "damaged" or "could not tell".
	Outcome string          `json:"outcome"`
	Store   storeCheck      `json:"store"`
	Master  *explanation    `json:"error,omitempty"`  // why the master could not be asked
	Report  *replica.Report `json:"report,omitempty"` // the comparison with the master
	Known   *known          `json:"known,omitempty"`  // without the master
}

// What a follower knows of its master that cannot be asked: what that held at
// the offset where the copy stands.
type known struct {
	Offset      uint64     `json:"offset"`
	Fingerprint string     `json:"fingerprint"`
	Master      string     `json:"master_fingerprint"`
	InSync      bool       `json:"in_sync"`
	LastContact *time.Time `json:"last_contact,omitempty"`
}

// A storeCheck is a replica.VerifyReport with keys as list prints them.
type storeCheck struct {
	OK      bool     `json:"ok"`
	Items   uint64   `json:"items"`
	Store   string   `json:"fingerprint"`
	Tree    string   `json:"tree"`
	Bad     uint64   `json:"bad"`
	Keys    []badKey `json:"keys,omitempty"`
	Seconds float64  `json:"seconds"`
}

type badKey struct {
	Key   *string `json:"key,omitempty"`
	Key64 []byte  `json:"key64,omitempty"`
	What  string  `json:"what"`
}

// verifyCommand asks two questions of which the second needs the first: a tree
// that does not describe the store says nothing when it equals the master's.
func (a *app) verifyCommand() *cobra.Command {
	var timeout time.Duration
	cmd := a.command("verify [flags]", "Hold the store against the tree, and a follower against its master", `Reads the whole store again and holds every item against the tree; on a
follower, then compares with the master as sdiff diff does. Changes nothing;
a follower then repairs what was found, as its --repair says.

Exit code 0 all is as it should be, 1 the follower differs from its master (which
it may know without asking it), 4 the store is sound but the master could not be
asked, 8 the store does not hold what it should.`,
		takes(),
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			ctx, cancel := withTimeout(ctx, timeout)
			defer cancel()
			c, err := a.client(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			v, end := a.verify(ctx, c)
			if v == nil {
				return end
			}
			if a.output == "json" {
				a.json(v)
				return end
			}
			a.verification(v)
			return end
		})
	a.addData(cmd)
	addTimeout(cmd, &timeout, 0)
	return cmd
}

// verify asks for both checks. It returns nil and an error if there is no
// first one, and otherwise how the command ends.
func (a *app) verify(ctx context.Context, c *control.Client) (*verification, error) {
	info, err := c.Info(ctx)
	if err != nil {
		return nil, err
	}
	rep, err := c.Verify(ctx)
	if err != nil {
		return nil, err
	}
	v := &verification{Outcome: "same", Store: checked(rep)}
	switch {
	case !rep.OK:
		v.Outcome = "damaged"
		return v, outcome(exitDamaged)
	case info.Role == "master":
		return v, nil
	}
	report, err := c.Repair(ctx, control.Repair{DryRun: true}, nil)
	if err != nil {
		e := a.explain(err)
		v.Outcome, v.Master = string(replica.Unknown), &e
		// That the copy is not what the master had at its offset is known without
		// the master; that it is the same is not.
		s, err := c.Status(ctx)
		if err != nil || s.InSync == nil {
			return v, outcome(e.exit)
		}
		v.Known = &known{Offset: s.Offset, Fingerprint: s.Fingerprint, Master: s.Master, InSync: *s.InSync, LastContact: s.LastContact}
		if !*s.InSync {
			v.Outcome = string(replica.Different)
			return v, outcome(exitDifferent)
		}
		return v, outcome(e.exit)
	}
	v.Outcome, v.Report = string(report.Outcome), &report
	return v, reportExit(report)
}

// checked converts a report for print.
func checked(r replica.VerifyReport) storeCheck {
	s := storeCheck{OK: r.OK, Items: r.Items, Store: r.Store, Tree: r.Tree, Bad: r.Bad, Seconds: r.Took.Seconds()}
	for _, k := range r.Keys {
		s.Keys = append(s.Keys, namedKey(k))
	}
	return s
}

// namedKey returns a bad key with its name as the JSON of list has it.
func namedKey(k replica.BadKey) badKey {
	if utf8.Valid(k.Key) {
		return badKey{Key: new(string(k.Key)), What: k.What}
	}
	return badKey{Key64: k.Key, What: k.What}
}

func (k badKey) bytes() []byte {
	if k.Key != nil {
		return []byte(*k.Key)
	}
	return k.Key64
}

// verification prints what was found as text.
func (a *app) verification(v *verification) {
	s := v.Store
	if s.OK {
		a.printf("store        ok: %s, fingerprint %s, as the tree has it\n", plural(s.Items, "item"), s.Store)
	} else {
		a.printf("store        damaged: %s read with fingerprint %s, the tree has %s; %s wrong\n", plural(s.Items, "item"), s.Store, s.Tree, plural(s.Bad, "key"))
		for _, k := range s.Keys {
			a.printf("  %-8s %s\n", k.What, escape(k.bytes()))
		}
	}
	switch {
	case v.Report != nil:
		a.printf("master       %s\n", found(*v.Report))
		if v.Report.Reason != "" {
			a.printf("reason       %s\n", visible(v.Report.Reason))
		}
	case v.Master != nil:
		switch k := v.Known; {
		case k == nil:
			a.printf("master       could not tell\n")
		case k.InSync:
			a.printf("master       could not tell: the copy is what the master had at offset %d; what it has done since is not known\n", k.Offset)
		default:
			a.printf("master       different: at offset %d the master had %s, the copy is %s; which keys, could not tell\n", k.Offset, k.Master, k.Fingerprint)
		}
		a.stdout.Flush()
		a.complain(v.Master.Message, v.Master.Hint)
	}
}
