package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
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

// A byteSize is a flag with a number of bytes: 1048576, 1MiB or 1.5GB.
type byteSize int64

// sizeUnits are what a byteSize may end in. The longer come before their ends.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
}

// sizeVar adds a flag for a number of bytes. The default is what is in n.
func sizeVar(cmd *cobra.Command, n *int64, name, usage string) {
	cmd.Flags().Var((*byteSize)(n), name, usage)
}

// Type returns what the help calls it.
func (*byteSize) Type() string { return "bytes" }

// String writes the size in the largest unit in which it is a whole number.
func (s *byteSize) String() string {
	for _, i := range []int{3, 2, 1, 0} {
		if u := sizeUnits[i]; *s != 0 && int64(*s)%u.bytes == 0 {
			return strconv.FormatInt(int64(*s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(*s), 10)
}

// Set reads a size.
func (s *byteSize) Set(text string) error {
	number, unit := text, int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			number, unit = strings.TrimRight(rest, " "), u.bytes
			break
		}
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && n <= math.MaxInt64/unit && n >= math.MinInt64/unit {
		*s = byteSize(n * unit)
		return nil
	}
	f, err := strconv.ParseFloat(number, 64)
	// Written so that NaN is refused.
	if err != nil || unit == 1 || !(math.Abs(f*float64(unit)) < 1<<62) {
		return errors.New("want a number of bytes, such as 1048576, 256MiB or 1.5GB")
	}
	*s = byteSize(f * float64(unit))
	return nil
}
