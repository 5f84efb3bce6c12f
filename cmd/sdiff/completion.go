package main

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// completionCommand replaces cobra's own, which knows nothing of -o json and
// has a command for each shell.
func (a *app) completionCommand() *cobra.Command {
	cmd := a.command("completion bash|zsh|fish|powershell", "Print a completion script for a shell", `For bash, which needs its bash-completion package:

  source <(sdiff completion bash)

For zsh:  sdiff completion zsh > "${fpath[1]}/_sdiff"
For fish: sdiff completion fish > ~/.config/fish/completions/sdiff.fish`,
		takes("SHELL (bash, zsh, fish or powershell)"),
		func(_ context.Context, cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			generate := map[string]func(io.Writer) error{
				"bash":       func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
				"zsh":        root.GenZshCompletion,
				"fish":       func(w io.Writer) error { return root.GenFishCompletion(w, true) },
				"powershell": root.GenPowerShellCompletionWithDesc,
			}[args[0]]
			if generate == nil {
				return usagef(cmd, "there is no completion for %q, only for bash, zsh, fish and powershell", args[0])
			}
			var script bytes.Buffer
			if err := generate(&script); err != nil {
				return fmt.Errorf("make the completion script: %w", err)
			}
			if a.output == "json" {
				a.json(map[string]string{"shell": args[0], "script": script.String()})
			} else {
				a.stdout.Write(script.Bytes())
			}
			return nil
		})
	cmd.ValidArgs = []string{"bash", "zsh", "fish", "powershell"}
	return cmd
}
