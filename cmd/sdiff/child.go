package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
)

// programName is how this process was called, set by main: what its children
// are called. It is empty where run is called by something else, which then has
// no children.
var programName string

// lockFD is the number under which a child has the file that is given to it.
const lockFD = 3

// A childLine is what a child prints, one object a line; the last one has End.
type childLine struct {
	Note    string   `json:"note,omitempty"`
	Finding *finding `json:"finding,omitempty"`
	Error   *failed  `json:"error,omitempty"`
	End     bool     `json:"end,omitempty"`
}

// A failed is why a child could not do what it was to do.
type failed struct {
	Code    control.Code `json:"code"`
	Message string       `json:"message"`
	Hint    string       `json:"hint"`
}

// error returns it as an error of this process.
func (f *failed) error() error { return &failure{code: f.Code, msg: f.Message, hint: f.Hint} }

// errDied is wrapped by the error for a child that ended before its last line:
// something within it ended the process. It wraps store.ErrCorrupt.
var errDied = fmt.Errorf("%w: Badger cannot open it and ended the process that tried", store.ErrCorrupt)

// child runs this program again, in a process that may die, and calls each for
// every line it prints. Its error is that of ctx, of the system, or wraps
// errDied.
func child(ctx context.Context, inherit *os.File, args []string, each func(childLine)) error {
	path := "/proc/self/exe" // also after an upgrade
	if runtime.GOOS != "linux" {
		var err error
		if path, err = os.Executable(); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Args[0] = programName
	var said lastWords
	cmd.Stderr = &said
	if inherit != nil {
		cmd.ExtraFiles = []*os.File{inherit}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	// The child is to end with the thread that started it, see endWithParent.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	endWithParent(cmd)
	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("start a process: %w", err)
	}
	ended := false
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l childLine
		if json.Unmarshal(lines.Bytes(), &l) == nil {
			ended = ended || l.End
			each(l)
		}
	}
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case ended:
		return nil
	case killed(cmd.ProcessState):
		return fmt.Errorf("the process that was to open the store was ended from outside: %w", err)
	}
	return fmt.Errorf("%w: %s", errDied, said.why(err))
}

// lastWords keeps the beginning of what a process says on standard error.
type lastWords struct{ b []byte }

func (w *lastWords) Write(b []byte) (int, error) {
	w.b = append(w.b, b[:min(len(b), max(0, 64<<10-len(w.b)))]...)
	return len(b), nil
}

// why returns the line that says why the process ended. What comes after it may
// be a dump of data.
func (w *lastWords) why(exit error) string {
	first := ""
	for line := range bytes.Lines(w.b) {
		text := string(bytes.TrimSpace(line))
		if first == "" {
			first = text
		}
		if strings.HasPrefix(text, "panic: ") || strings.HasPrefix(text, "fatal error: ") {
			first = text
			break
		}
	}
	switch {
	case first == "" && exit == nil:
		return "it said nothing"
	case first == "":
		return exit.Error()
	}
	return first[:min(len(first), 200)]
}

// firstTry returns what opens a store in a child before it is opened here, nil
// if there are no children.
func firstTry(ctx context.Context, f *storeFlags) badgerstore.First {
	if programName == "" {
		return nil
	}
	return func(dir string, lock *os.File) (notes []string, err error) {
		var again error
		args := []string{"try-open", "--data", dir, "--prefix", f.prefix, "--sync", f.sync,
			"--reserve", (*byteSize)(&f.reserve).String(), "--memory", (*byteSize)(&f.memory).String(), "--locked=" + strconv.FormatBool(lock != nil)}
		err = child(ctx, lock, args, func(l childLine) {
			if l.Note != "" {
				notes = append(notes, l.Note)
			}
			if l.Error != nil {
				again = fmt.Errorf("%w: %s", badgerstore.ErrTryAgain, l.Error.Message)
			}
		})
		if err == nil {
			err = again
		}
		return notes, err
	}
}

// tryOpenCommand is what firstTry runs.
func (a *app) tryOpenCommand() *cobra.Command {
	var flags storeFlags
	var locked bool
	cmd := a.command("try-open [flags]", "Open a store and close it again", "For the use of serve and its like only.", takes(),
		func(context.Context, *cobra.Command, []string) error {
			var lock *os.File
			if locked {
				lock = os.NewFile(lockFD, a.data)
			}
			memory := limitMemory(flags.memory)
			defer memory.stop()
			notes, err := badgerstore.Try(a.data, lock, badgerstore.Options{Prefix: flags.prefix, NoSync: flags.sync == "never", Reserve: flags.reserve, Memory: storeMemory(flags.memory)})
			for _, n := range notes {
				a.json(childLine{Note: n})
			}
			if err != nil {
				a.json(childLine{Error: &failed{Message: err.Error()}})
			}
			a.json(childLine{End: true})
			return nil
		})
	cmd.Hidden = true
	a.addData(cmd)
	cmd.Flags().StringVar(&flags.prefix, "prefix", "", "")
	cmd.Flags().StringVar(&flags.sync, "sync", "always", "")
	sizeVar(cmd, &flags.reserve, "reserve", "")
	flags.memory = defaultMemory
	sizeVar(cmd, &flags.memory, "memory", "")
	cmd.Flags().BoolVar(&locked, "locked", false, "")
	return cmd
}
