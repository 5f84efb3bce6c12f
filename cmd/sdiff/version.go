package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/version"
)

// versionCommand needs no directory and no process.
func (a *app) versionCommand() *cobra.Command {
	return a.command("version", "Print the version", "Prints the version, the commit it was built from where known, the toolchain and\nthe platform.",
		takes(),
		func(context.Context, *cobra.Command, []string) error {
			if a.output == "json" {
				a.json(version.Get())
			} else {
				a.printf("sdiff %v\n", version.Get())
			}
			return nil
		})
}
