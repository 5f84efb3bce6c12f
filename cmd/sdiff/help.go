package main

import (
	"bytes"
	"context"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
)

// help prints the help of a command; with -o json as {"help": text}.
func (a *app) help(cmd *cobra.Command, args []string, text func(*cobra.Command, []string)) {
	if a.output != "json" {
		text(cmd, args)
		return
	}
	var buf bytes.Buffer
	root := cmd.Root()
	root.SetOut(&buf)
	text(cmd, args)
	root.SetOut(a.stdout)
	a.json(struct {
		Help string `json:"help"`
	}{buf.String()})
}

// noCommand is what "sdiff" alone does: a script that forgot its command must
// not go on as if all were well, a person wants to see what there is.
func (a *app) noCommand(cmd *cobra.Command) error {
	if a.output != "json" {
		cmd.SetOut(a.stderr)
		cmd.HelpFunc()(cmd, nil)
	}
	return &failure{code: control.Usage, msg: "which command?", hint: "sdiff --help lists the commands"}
}

// helpCommand replaces cobra's, which prints to the wrong stream and succeeds
// for commands that do not exist.
func (a *app) helpCommand() *cobra.Command {
	return a.command("help [COMMAND]", "Print the help of a command",
		"The same as sdiff COMMAND --help.", cobra.MaximumNArgs(1),
		func(_ context.Context, cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			if len(args) == 0 {
				return root.Help()
			}
			if c := commandNamed(root, args[0]); c != nil {
				return c.Help()
			}
			return unknownCommand(root, args[0])
		})
}
