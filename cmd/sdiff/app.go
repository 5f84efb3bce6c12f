package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
)

// An app is one call of the program: its streams and the flags that every
// command has. One goroutine uses it.
type app struct {
	stdin  io.Reader
	stdout *bufio.Writer
	stderr io.Writer
	env    map[string]string

	outTerminal bool // stdout is a terminal, so it must not see control bytes
	errTerminal bool
	colour      bool // stderr takes colours

	args           []string
	output         string // "text" or "json"
	quiet, verbose bool
	data           string

	ran bool // a command has begun: what fails now is not the usage
}

// run is the program without the process: main and the tests call it. env
// holds KEY=VALUE strings. It returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env []string) int {
	a := &app{
		args:   args,
		stdin:  stdin,
		stdout: bufio.NewWriterSize(stdout, 64<<10),
		stderr: stderr,
		env:    make(map[string]string, len(env)),
	}
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		a.env[k] = v
	}
	a.outTerminal, a.errTerminal = isTerminal(stdout), isTerminal(stderr)
	a.colour = a.errTerminal && a.env["NO_COLOR"] == "" && a.env["TERM"] != "dumb"
	// If the flags cannot be parsed the error must have its form all the same.
	a.output = wantedOutput(args, a.env["SDIFF_OUTPUT"])

	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(a.stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.ran {
		err = asUsage(err)
	}
	return a.finish(err)
}

// wantedOutput finds the value of -o in args without parsing the rest.
func wantedOutput(args []string, env string) string {
	out := env
	for i, arg := range args {
		if arg == "--" {
			break
		}
		switch {
		case (arg == "-o" || arg == "--output") && i+1 < len(args):
			out = args[i+1]
		case strings.HasPrefix(arg, "--output="):
			out = strings.TrimPrefix(arg, "--output=")
		case strings.HasPrefix(arg, "-o"):
			out = strings.TrimPrefix(strings.TrimPrefix(arg, "-o"), "=")
		}
	}
	if out == "json" {
		return "json"
	}
	return "text"
}

// root builds the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "sdiff",
		Short:         "Keep copies of a key-value dataset identical",
		Long:          rootLong,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs, // so that an unknown command gets our words
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && commandNamed(cmd, args[0]) != nil {
				// What stands before it hid it, such as -qo json.
				return &failure{code: control.Usage, msg: fmt.Sprintf("the flags before %q cannot be told from it", args[0]), hint: "write them after it, one by one"}
			}
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return a.noCommand(cmd)
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.begin(cmd) },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(a.flagError)
	root.SetHelpCommand(a.helpCommand())
	text := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) { a.help(cmd, args, text) })

	flags := root.PersistentFlags()
	flags.StringVarP(&a.output, "output", "o", a.output, "form of the output: `text|json`")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress, and of the log warnings only")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "log more")

	complete(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)))

	root.AddCommand(
		a.serveCommand(), a.followCommand(),
		a.putCommand(), a.getCommand(), a.delCommand(), a.listCommand(), a.watchCommand(), a.loadCommand(),
		a.statusCommand(), a.diffCommand(), a.repairCommand(), a.verifyCommand(), a.forgetCommand(),
		a.promoteCommand(), a.restoreCommand(), a.doctorCommand(), a.examineCommand(), a.tryOpenCommand(),
		a.demoCommand(), a.completionCommand(), a.versionCommand(),
	)
	return root
}

// rootLong is the help of the program: enough to begin with.
const rootLong = `sdiff keeps copies of a key-value dataset identical. One master is canonical;
followers hold a copy, receive every commit, and find and repair any difference.

  sdiff serve  --data ./m --listen 127.0.0.1:7600     run a master
  sdiff follow --data ./f --from 127.0.0.1:7600       run a follower
  sdiff put    --data ./m key1 value1                 write through the running master
  sdiff status --data ./f                             ask the running follower

A running process owns its directory; every other command reaches it through
the control socket in it.`

// begin runs before every command: it takes what the environment says for
// flags that were not given, and checks the flags that all commands have.
func (a *app) begin(cmd *cobra.Command) error {
	if err := bindEnv(cmd, a.env); err != nil {
		return err
	}
	if a.output != "text" && a.output != "json" {
		given := a.output
		a.output = "text"
		return usagef(cmd, "--output %q is neither text nor json", given)
	}
	return nil
}

// command makes a command whose run is told what it needs. Errors before run
// is called are usage errors.
func (a *app) command(use, short, long string, args cobra.PositionalArgs, run func(ctx context.Context, cmd *cobra.Command, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use:                   use,
		Short:                 short,
		Long:                  short + ".\n\n" + long,
		Args:                  args,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.ran = true
			return run(cmd.Context(), cmd, args)
		},
	}
}

// takes makes a check that the arguments are as named: "KEY", "VALUE". It
// tells what is missing or too much.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef(cmd, "%s is missing", names[len(args)])
		case len(args) > len(names):
			return usagef(cmd, "%q is one argument too many", args[len(names)])
		}
		return nil
	}
}

// addData adds the flag that says which process is meant.
func (a *app) addData(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&a.data, "data", "d", "", "the replica's `DIR`ectory")
	complete(cmd.MarkFlagDirname("data"))
}

// complete checks that a flag that is to be completed exists.
func complete(err error) {
	if err != nil {
		panic("BUG: " + err.Error())
	}
}

// needData returns an error unless --data was given.
func (a *app) needData(cmd *cobra.Command) error {
	if a.data == "" {
		return &failure{code: control.Usage, msg: "which directory?", hint: fmt.Sprintf("give --data DIR to sdiff %s, or set SDIFF_DATA", cmd.Name())}
	}
	return nil
}

// client returns a client for the process that serves --data.
func (a *app) client(cmd *cobra.Command) (*control.Client, error) {
	if err := a.needData(cmd); err != nil {
		return nil, err
	}
	return control.NewClient(a.data), nil
}

// addTimeout adds the flag that bounds how long a command takes.
func addTimeout(cmd *cobra.Command, d *time.Duration, def time.Duration) {
	cmd.Flags().DurationVar(d, "timeout", def, "give up after this `DURATION`; 0 never")
}

// answerTimeout is the default for commands whose answer comes at once.
const answerTimeout = 30 * time.Second

// withTimeout bounds a context; zero does not.
func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, d, &failure{code: control.Timeout, msg: fmt.Sprintf("no answer within %v", d)})
}

// logger returns the log of serve and follow: text on standard error.
func (a *app) logger() *slog.Logger {
	level := slog.LevelInfo
	switch {
	case a.quiet:
		level = slog.LevelWarn
	case a.verbose:
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
}

// asUsage turns what cobra has to say into a usage error.
func asUsage(err error) error {
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	return &failure{code: control.Usage, msg: err.Error(), hint: "sdiff --help lists what there is"}
}

// usagef returns the error for a command line that makes no sense.
func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &failure{code: control.Usage, msg: fmt.Sprintf(format, args...), hint: "see " + cmd.CommandPath() + " --help"}
}

// flagError says what is wrong with a flag. At the root it is the command that
// is wrong: a flag of its own would be known there.
func (a *app) flagError(cmd *cobra.Command, err error) error {
	if !cmd.HasParent() {
		for i, arg := range a.args {
			ofOutput := i > 0 && (a.args[i-1] == "-o" || a.args[i-1] == "--output")
			if strings.HasPrefix(arg, "-") || ofOutput {
				continue
			}
			if commandNamed(cmd, arg) == nil {
				return unknownCommand(cmd, arg)
			}
			break
		}
	}
	return usagef(cmd, "%s", flagWords(err))
}

// flagWords returns what is wrong with a flag, without the name of the func
// that found out.
func flagWords(err error) string {
	msg := err.Error()
	if num, ok := errors.AsType[*strconv.NumError](err); ok {
		msg = strings.ReplaceAll(msg, num.Error(), num.Err.Error())
	}
	return msg
}

// commandNamed returns the command of that name, nil if there is none.
func commandNamed(root *cobra.Command, name string) *cobra.Command {
	for _, c := range root.Commands() {
		if c.Name() == name {
			return c
		}
	}
	return nil
}

// unknownCommand returns the error for a command that does not exist, with
// the one that may have been meant.
func unknownCommand(root *cobra.Command, name string) error {
	hint := "sdiff --help lists the commands"
	if near := root.SuggestionsFor(name); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return &failure{code: control.Usage, msg: fmt.Sprintf("there is no command %q", name), hint: hint}
}
