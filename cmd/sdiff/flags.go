package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sdiff/sdiff/internal/control"
)

// envKey is the annotation of a flag whose variable is not named after the
// flag alone, because a flag of that name means something else elsewhere.
const envKey = "sdiff_env"

// ownEnv gives a flag of a command a variable of its own:
// SDIFF_<COMMAND>_<FLAG>.
func ownEnv(cmd *cobra.Command, flag string) {
	name := "SDIFF_" + upper(cmd.Name()) + "_" + upper(flag)
	if err := cmd.Flags().SetAnnotation(flag, envKey, []string{name}); err != nil {
		panic("BUG: " + err.Error())
	}
}

// envName returns the environment variable of a flag: SDIFF_<FLAG>, unless it
// has its own.
func envName(f *pflag.Flag) string {
	if own := f.Annotations[envKey]; len(own) == 1 {
		return own[0]
	}
	return "SDIFF_" + upper(f.Name)
}

// upper writes a name as variables have it.
func upper(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

// bindEnv sets the flags of a command that were not given to what their
// variables say. An empty variable is as good as none.
func bindEnv(cmd *cobra.Command, env map[string]string) error {
	var first error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value := env[envName(f)]
		if f.Changed || f.Name == "help" || value == "" || first != nil {
			return
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			first = &failure{code: control.Usage, msg: fmt.Sprintf("the variable %s: %s", envName(f), flagWords(err)), hint: "see " + cmd.CommandPath() + " --help"}
		}
	})
	return first
}
