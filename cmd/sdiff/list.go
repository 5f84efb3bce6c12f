package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
)

// listCommand prints as it reads: neither side ever holds more than a page, and
// a list of a hundred million keys begins at once.
func (a *app) listCommand() *cobra.Command {
	var enc encoding
	var prefix string
	var req control.List
	cmd := a.command("list [flags]", "List keys, or keys and values", `Prints the keys in byte order, one a line; with --values a tab and the value
after it. What is not printable is escaped as in Go, a backslash doubled, on a
terminal or not: one line is one item. --hex and --base64 say how the prefix is
written and how keys and values are printed.

With -o json every line is an object, and list --values -o json is what load
reads, byte for byte.`,
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
			var line []byte // the buffer of one line after the other
			for item, err := range c.List(ctx, req) {
				if err != nil {
					return err
				}
				if a.output == "json" {
					line = appendItem(line[:0], item.Key, item.Value, req.Values)
				} else {
					line = append(line[:0], enc.encode(item.Key)...)
					if req.Values {
						line = append(append(line, '\t'), enc.encode(item.Value)...)
					}
					line = append(line, '\n')
				}
				if _, err := a.stdout.Write(line); err != nil {
					break // the flush tells
				}
			}
			return nil
		})
	a.addData(cmd)
	cmd.Flags().StringVar(&prefix, "prefix", "", "only keys that begin with `P`")
	cmd.Flags().Uint64Var(&req.Limit, "limit", 0, "at most `N` items; 0 all")
	cmd.Flags().BoolVar(&req.Values, "values", false, "print values too")
	addEncoding(cmd, &enc, "prefix, keys and values")
	ownEnv(cmd, "prefix")
	return cmd
}
