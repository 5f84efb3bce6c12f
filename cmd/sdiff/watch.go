package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
)

// watchCommand writes out every change at once: whoever reads from the pipe is
// waiting for it. It ends by a signal or an error, never by itself, so its exit
// code is never 0.
func (a *app) watchCommand() *cobra.Command {
	var enc encoding
	var prefix string
	var values bool
	var req control.Watch
	cmd := a.command("watch [flags]", "Print changes as they happen", `Prints every change until it is interrupted: the offset of its commit, put or
del, and the key; with --values a put's value; (repair) after a change that a
repair made. A gap says that changes were missed and what was read before is to
be read again.

On a master --from OFFSET begins with that commit, and fails if it is no longer
in the log. A follower keeps no log and can be watched from now on only. To go
on after a line with "last":true (-o json), give its offset plus one.`,
		takes(),
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			c, err := a.client(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if req.Prefix, err = enc.decode(cmd, "prefix", prefix); err != nil {
				return err
			}
			var line []byte
			for ch, err := range c.Watch(ctx, req) {
				if err != nil {
					return err
				}
				if a.output == "json" {
					line = appendChangeJSON(line[:0], ch)
				} else {
					line = appendChange(line[:0], ch, enc, values)
				}
				a.stdout.Write(line)
				if err := a.stdout.Flush(); err != nil {
					return nil // the last flush tells
				}
			}
			return nil
		})
	a.addData(cmd)
	cmd.Flags().Uint64Var(&req.From, "from", 0, "begin with the commit `OFFSET`; 0 from now on")
	cmd.Flags().StringVar(&prefix, "prefix", "", "only keys that begin with `P`")
	cmd.Flags().BoolVar(&values, "values", false, "print values too; -o json always does")
	addEncoding(cmd, &enc, "prefix, keys and values")
	ownEnv(cmd, "from")
	ownEnv(cmd, "prefix")
	return cmd
}

// appendChange writes a change as text: offset, what happened, key and value,
// with tabs between.
func appendChange(b []byte, ch control.Change, enc encoding, values bool) []byte {
	b = append(strconv.AppendUint(b, ch.Offset, 10), '\t')
	switch {
	case ch.Gap:
		return append(b, "gap\n"...)
	case ch.Delete:
		b = append(b, "del\t"...)
	default:
		b = append(b, "put\t"...)
	}
	b = append(b, enc.encode(ch.Key)...)
	if values && !ch.Delete {
		b = append(append(b, '\t'), enc.encode(ch.Value)...)
	}
	if ch.Repair {
		b = append(b, "\t(repair)"...)
	}
	return append(b, '\n')
}

// appendChangeJSON writes a change as one object on a line.
func appendChangeJSON(b []byte, ch control.Change) []byte {
	b = strconv.AppendUint(append(b, `{"offset":`...), ch.Offset, 10)
	if ch.Epoch != "" {
		b = append(append(append(b, `,"epoch":"`...), ch.Epoch...), '"')
	}
	switch {
	case ch.Gap:
		return append(b, `,"op":"gap"}`+"\n"...)
	case ch.Delete:
		b = appendField(append(b, `,"op":"del",`...), "key", ch.Key)
	default:
		b = appendField(append(b, `,"op":"put",`...), "key", ch.Key)
		b = appendField(append(b, ','), "value", ch.Value)
	}
	if ch.Last {
		b = append(b, `,"last":true`...)
	}
	if ch.Repair {
		b = append(b, `,"repair":true`...)
	}
	return append(b, "}\n"...)
}
