package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
)

// The exit codes. They mean the same in every command; docs/CLI.md lists them.
const (
	exitOK          = 0   // done, or the same
	exitDifferent   = 1   // differences
	exitUsage       = 2   // wrong usage, input or config
	exitNotFound    = 3   // no such key, follower or offset
	exitUnreachable = 4   // nobody there, or not able to answer now
	exitPermission  = 5   // not allowed
	exitTimeout     = 6   // took too long
	exitPartial     = 7   // some items failed
	exitDamaged     = 8   // damaged data
	exitInterrupted = 130 // ended by SIGINT
	exitTerminated  = 143 // ended by SIGTERM
)

// A failure is an error that this program found out by itself.
type failure struct {
	code control.Code
	msg  string
	hint string // instead of the table's
}

func (f *failure) Error() string { return f.msg }

// An outcome ends a command with an exit code after it has printed all there
// is to say.
type outcome int

func (o outcome) Error() string { return fmt.Sprintf("exit %d", int(o)) }

// troubles says, for every code, how the program exits and what a person can
// do. {data} stands for the directory that was given.
var troubles = map[control.Code]struct {
	exit int
	hint string
}{
	control.Usage:        {exitUsage, "sdiff --help lists what there is"},
	control.BadKey:       {exitUsage, "keys are not empty and begin with neither !sdiff! nor !badger!"},
	control.BadInput:     {exitUsage, `one item a line: {"key":"…","value":"…"}, or key64 and value64 for bytes; what came before is loaded`},
	control.BadOption:    {exitUsage, ""},
	control.TooLarge:     {exitUsage, "docs/CLI.md lists the limits; split the value or the batch"},
	control.WrongRole:    {exitUsage, "write to the master; compare and repair on a follower. sdiff status --data {data} says which it is"},
	control.OtherDataset: {exitUsage, "follow with a directory of this dataset, or with a new one"},
	control.OtherHash:    {exitUsage, "start it with the --hash and --hash-key it was made with"},
	control.NotEmpty:     {exitUsage, "--adopt takes over what is there; on a follower a repair then makes it equal to the master, and asks before it deletes more than half"},
	control.Incomplete:   {exitUsage, "--anyway takes it all the same: what it lacks is then lost"},
	control.InUse:        {exitUsage, "stop the other process, or choose another directory or port (port 0 takes a free one)"},
	control.Connected:    {exitUsage, "stop the follower first"},

	control.NotFound:     {exitNotFound, ""},
	control.Trimmed:      {exitNotFound, "read everything with sdiff list, and watch from now on"},
	control.Ahead:        {exitNotFound, "sdiff status --data {data} prints the newest offset"},
	control.UnknownEpoch: {exitNotFound, ""},

	control.Unreachable:    {exitUnreachable, "start one with sdiff serve --data {data}, or sdiff follow --data {data} --from HOST:PORT"},
	control.CutOff:         {exitUnreachable, "its log says why it ended; what was printed may not be all, and a write that was under way may have been made"},
	control.NotConnected:   {exitUnreachable, "sdiff status --data {data} says why"},
	control.CouldNotTell:   {exitUnreachable, "nothing is known of whether they are the same; try again"},
	control.Busy:           {exitUnreachable, "try again when it has ended"},
	control.Ending:         {exitUnreachable, ""},
	control.OutcomeUnknown: {exitUnreachable, "restart the process: it finds out whether the write is there"},
	control.ReadOnly:       {exitUnreachable, "free some space on the disk, or make it writable; writes go on by themselves. How much is kept free --reserve of serve and follow says"},
	control.Internal:       {exitUnreachable, ""},

	control.Permission: {exitPermission, "only the user who runs the process may talk to it"},
	control.Timeout:    {exitTimeout, "--timeout allows more; sdiff status --data {data} says what it is doing. A write or a repair may go on all the same"},
	control.Partial:    {exitPartial, ""},
	control.Different:  {exitDifferent, "sdiff repair --data {data} makes them the same"},
	control.Damaged:    {exitDamaged, "sdiff doctor --data {data} says more; keep a copy of {data}. A follower: follow with a new directory. A master: stop a follower that holds it all, then sdiff restore --data NEW-DIRECTORY --from ITS-DIRECTORY"},

	// What the other replica said before it hung up.
	"refused_unknown":   {exitUnreachable, ""},
	"refused_version":   {exitUsage, "run the same version of sdiff on both sides"},
	"refused_dataset":   {exitUsage, "follow with a directory of this dataset, or with a new one"},
	"refused_hash":      {exitUsage, "give both sides the same --hash and --hash-key"},
	"refused_duplicate": {exitUsage, "give this follower another name with --id, or stop the other one"},
	"refused_history":   {exitUsage, "sdiff repair --accept-rollback makes this copy what the master now is"},
	"refused_full":      {exitUnreachable, "the master serves as many followers as it may"},
	"refused_protocol":  {exitUnreachable, ""},
	"refused_ending":    {exitUnreachable, ""},
	"refused_silent":    {exitUnreachable, ""},
	"refused_store":     {exitUnreachable, "the master's log says more"},
	"refused_limit":     {exitUnreachable, ""},
}

// An explanation is an error as it is told.
type explanation struct {
	Code    control.Code `json:"code"`
	Message string       `json:"message"`
	Hint    string       `json:"hint"`
	exit    int
}

// explain finds the words and the exit code for an error.
func (a *app) explain(err error) explanation {
	e := explanation{Code: control.Classify(err), Message: err.Error()}
	if sig, ok := errors.AsType[*signalError](err); ok {
		e.Code, e.Hint, e.exit = control.Interrupted, "", sig.exit()
		return e
	}
	var hint string
	if f, ok := errors.AsType[*failure](err); ok {
		e.Code, hint = f.code, f.hint
	} else if d, ok := errors.AsType[*replica.DamageError](err); ok {
		hint = damageHint(d)
	} else if id, ok := errors.AsType[*replica.IdentityError](err); ok && id.What == "role" {
		hint = "sdiff serve runs a master's directory, sdiff follow a follower's; sdiff promote makes a follower's a master's"
	} else if errors.Is(err, context.Canceled) {
		e.Code = control.Interrupted
	}
	t, ok := troubles[e.Code]
	if !ok {
		t.exit = exitUnreachable // a newer process may know more codes
		if e.Code == control.Interrupted {
			t.exit = exitInterrupted
		}
	}
	if hint == "" {
		hint = t.hint
	}
	if data := a.data; data != "" {
		hint = strings.ReplaceAll(hint, "{data}", data)
	} else {
		hint = strings.ReplaceAll(hint, "{data}", "DIR")
	}
	e.Hint, e.exit = hint, t.exit
	return e
}

// damageHint names the ways out of a master's damage, the best one first.
func damageHint(d *replica.DamageError) string {
	hint := "a follower may still hold it all: stop one and sdiff restore --data {data} --from ITS-DIRECTORY; or, to go on with what is here, "
	if d.Lost {
		return hint + "--accept-data-loss"
	}
	return hint + "--accept-store"
}

// finish says how the call ended and returns the exit code.
func (a *app) finish(err error) int {
	if o, ok := errors.AsType[outcome](err); ok {
		return a.flushed(int(o))
	}
	if err == nil {
		return a.flushed(exitOK)
	}
	e := a.explain(err)
	if a.output == "json" {
		a.json(map[string]explanation{"error": e})
		return a.flushed(e.exit)
	}
	code := a.flushed(e.exit) // what was printed comes before what is wrong
	a.complain(e.Message, e.Hint)
	return code
}

// flushed writes out what is buffered. If that cannot be done the call failed,
// whatever else there was.
func (a *app) flushed(exit int) int {
	if err := a.stdout.Flush(); err != nil {
		a.complain("write to standard output: "+err.Error(), "")
		if exit == exitOK {
			return exitUnreachable
		}
	}
	return exit
}

// complain prints an error and its hint to standard error.
func (a *app) complain(msg, hint string) {
	fmt.Fprintf(a.stderr, "%s %s\n", paint(a.colour, red, "sdiff: error:"), visible(msg))
	if hint != "" {
		fmt.Fprintf(a.stderr, "%s %s\n", paint(a.colour, cyan, "sdiff: hint:"), visible(hint))
	}
}
