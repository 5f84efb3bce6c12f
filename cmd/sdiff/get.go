package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// getCommand prints bytes, not text: what goes into a file or a pipe must come
// out as it went in. Only a terminal gets something else.
func (a *app) getCommand() *cobra.Command {
	var enc encoding
	var timeout time.Duration
	cmd := a.command("get KEY", "Print the value of a key", `Prints the value as it is, without a line end, so that a file comes back as it
was put. On a terminal a line end is added and control bytes are escaped.
--hex and --base64 say how KEY is written and how the value is printed.
An absent key is exit code 3.`,
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
			value, err := c.Get(ctx, key)
			if err != nil {
				return err
			}
			switch {
			case a.output == "json":
				a.stdout.Write(appendItem(nil, key, value, true))
			case enc.hex || enc.base64:
				a.printf("%s\n", enc.encode(value))
			case a.outTerminal:
				a.printf("%s\n", onTerminal(value))
			default:
				a.stdout.Write(value)
			}
			return nil
		})
	a.addData(cmd)
	addEncoding(cmd, &enc, "KEY and the value printed")
	addTimeout(cmd, &timeout, answerTimeout)
	return cmd
}

// onTerminal makes a value fit to be looked at: several lines stay several
// lines, everything else that a terminal would act on is escaped.
func onTerminal(value []byte) string {
	lines := strings.Split(string(value), "\n")
	for i, line := range lines {
		cells := strings.Split(line, "\t")
		for j := range cells {
			cells[j] = visible(cells[j])
		}
		lines[i] = strings.Join(cells, "\t")
	}
	return strings.Join(lines, "\n")
}
