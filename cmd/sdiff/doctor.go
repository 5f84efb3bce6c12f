package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/transport"
)

// A level says how a check ended.
type level string

const (
	levelOK   level = "ok"
	levelWarn level = "warn" // to be known; nothing is lost
	levelBad  level = "bad"  // something is lost, damaged or contradicts itself
)

// A finding is one line of doctor's.
type finding struct {
	Check  string `json:"check"`
	Level  level  `json:"level"`
	Text   string `json:"text"`
	Advice string `json:"advice,omitempty"`
}

// A diagnosis is what doctor prints with -o json.
type diagnosis struct {
	Level  level     `json:"level"` // the worst of the checks
	Checks []finding `json:"checks"`
}

// doctorCommand looks at files itself, and has a child process look at what
// Badger may not survive.
func (a *app) doctorCommand() *cobra.Command {
	var flags storeFlags
	cmd := a.command("doctor [flags]", "Examine the directory of a stopped replica", `Looks at everything that can be known of a replica's directory while nobody runs
it: free space, files, checksums of tables, the file HEAD, whose it is, the log,
and every item against the stored fingerprint. One line a check: ok, warn or
bad, with what to do. Changes nothing in the directory; it needs some space in
the directory for temporary files, TMPDIR.

Exit code 0 nothing is bad, 8 something is. A running replica is asked with
sdiff status and sdiff verify.`,
		takes(),
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			if err := a.needData(cmd); err != nil {
				return err
			}
			hash, err := flags.check(cmd, a.logger())
			if err != nil {
				return err
			}
			return a.doctor(ctx, &flags, hash)
		})
	a.addData(cmd)
	flags.addIdentity(cmd)
	return cmd
}

// doctor holds the directory while it makes its checks.
func (a *app) doctor(ctx context.Context, flags *storeFlags, hash merkle.Hasher) error {
	d := diagnosis{Level: levelOK, Checks: []finding{}}
	add := func(f finding) {
		d.Checks = append(d.Checks, f)
		if f.Level == levelBad || d.Level == levelOK {
			d.Level = f.Level
		}
		if a.output != "json" {
			a.finding(f)
		}
	}
	in, release, err := a.hold()
	if err != nil {
		return err
	}
	defer release()
	free, reserve := badgerstore.Space(a.data)
	add(checkSpace(free, reserve, badgerstore.RoomToOpen(a.data)))
	checkFiles(in, add)
	checkName(a.data, add)
	if in.Database && in.Files == nil {
		if err := a.examineIn(ctx, flags, hash, add); err != nil {
			return err
		}
	}
	if a.output == "json" {
		a.json(d)
	}
	if d.Level == levelBad {
		return outcome(exitDamaged)
	}
	return nil
}

// finding prints a line, and what to do below it.
func (a *app) finding(f finding) {
	a.printf("%-4s  %-11s  %s\n", f.Level, f.Check, visible(f.Text))
	if f.Advice != "" {
		a.printf("%19s%s\n", "", visible(strings.ReplaceAll(f.Advice, "{data}", a.data)))
	}
	a.stdout.Flush()
}

// hold keeps others off the directory, and refuses one that is in use, is none,
// or has nothing to do with a replica.
func (a *app) hold() (in badgerstore.Inspection, release func() error, err error) {
	info, err := os.Stat(a.data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return in, nil, &failure{code: control.BadOption, msg: "there is no directory " + a.data}
	case err == nil && !info.IsDir():
		return in, nil, &failure{code: control.BadOption, msg: a.data + " is not a directory", hint: "give the directory that sdiff serve or sdiff follow was given"}
	}
	if err := checkDir(a.data); err != nil {
		return in, nil, err
	}
	release, err = badgerstore.Hold(a.data)
	if e, ok := errors.AsType[*badgerstore.InUseError](err); ok {
		return in, nil, &failure{code: control.InUse, msg: e.Error(), hint: "doctor is for a stopped replica; ask a running one: sdiff status --data {data}, sdiff verify --data {data}"}
	}
	if err != nil {
		return in, nil, openError(a.data, err)
	}
	if in, err = badgerstore.Inspect(a.data); err != nil {
		return in, nil, errors.Join(openError(a.data, err), release())
	}
	head, _ := filepath.Glob(filepath.Join(a.data, "HEAD*"))
	if !in.Database && in.Files == nil && len(head) == 0 {
		return in, nil, errors.Join(&failure{code: control.BadOption, msg: "there is no database in " + a.data, hint: "sdiff serve and sdiff follow make one"}, release())
	}
	return in, release, nil
}

// checkSpace holds the free space against what a running replica keeps free,
// and tells why the next start would be refused, if it would.
func checkSpace(free, reserve int64, refused error) finding {
	f := finding{Check: "space", Level: levelOK, Text: fmt.Sprintf("%s free, %s are kept free", size(free), size(reserve))}
	switch {
	case refused != nil:
		f.Level, f.Text, f.Advice = levelWarn, refused.Error(), "the next start is refused until there is more: make room first"
	case free < 0:
		f.Level, f.Text = levelWarn, "how much is free cannot be told here"
	case free < reserve:
		f.Level, f.Advice = levelWarn, "writes will be refused until there is more; a full disk ends the process: make room first"
	}
	return f
}

// checkFiles tells of names, sizes and MANIFEST.
func checkFiles(in badgerstore.Inspection, add func(finding)) {
	add(finding{Check: "lock", Level: levelOK, Text: "nobody has it open"})
	switch {
	case in.Untouched:
		add(finding{Check: "last stop", Level: levelOK, Text: "closed at " + in.Closed.Format("2006-01-02 15:04:05 MST") + ", and nothing was touched since"})
	case !in.Closed.IsZero():
		add(finding{Check: "last stop", Level: levelWarn, Text: "closed at " + in.Closed.Format("2006-01-02 15:04:05 MST") + ", but files were touched since",
			Advice: "if nobody copied or restored it, find out who did: sdiff is to be the only one to write there"})
	default:
		text := "not clean, or of another program"
		if in.Lock != "" {
			text = "not clean: process " + in.Lock + " was killed, or the power was cut"
		}
		add(finding{Check: "last stop", Level: levelWarn, Text: text, Advice: "nothing to do: the next start tries the store in a process of its own first"})
	}
	if n := len(in.Empty); n > 0 {
		add(finding{Check: "empty files", Level: levelWarn, Text: strings.Join(in.Empty, ", "), Advice: "nothing to do: a kill leaves them, and the next start removes them"})
	} else {
		add(finding{Check: "empty files", Level: levelOK, Text: "none"})
	}
	f := finding{Check: "files", Level: levelOK, Text: fmt.Sprintf("MANIFEST names %s of %s; %s of write-ahead logs", plural(uint64(in.Tables), "table"), size(in.TableBytes), size(in.LogBytes))}
	switch {
	case in.Files != nil:
		f.Level, f.Text, f.Advice = levelBad, in.Files.Error(), restoreAdvice
	case !in.Database:
		f.Level, f.Text, f.Advice = levelBad, "the database is gone: there is no MANIFEST and no table, but HEAD is there", restoreAdvice
	case in.Unfinished > 0:
		f.Level, f.Text = levelWarn, fmt.Sprintf("MANIFEST names %s that are not there; what was in them is in the logs, or in the tables they were merged from", plural(uint64(in.Unfinished), "table"))
		f.Advice = "an I/O error leaves it so: look at the disk. The next start takes that back, and puts MANIFEST as it is aside, in {data}/put-aside-…"
	case in.Torn > 0 && len(in.Unknown) > 0:
		f.Level, f.Text = levelWarn, fmt.Sprintf("the last %s of MANIFEST are not whole, and %s not named in it", plural(uint64(in.Torn), "byte"), plural(uint64(len(in.Unknown)), "table"))
		f.Advice = "a power cut leaves it so; whether something is missing is said below. The next start puts those tables aside, in {data}/put-aside-…"
	case in.Torn > 0:
		f.Level, f.Text = levelWarn, fmt.Sprintf("the last %s of MANIFEST are not whole", plural(uint64(in.Torn), "byte"))
		f.Advice = "a power cut leaves it so; whether something is missing is said below"
	}
	add(f)
}

// restoreAdvice is what to do with a directory that is beyond repair by itself.
const restoreAdvice = "keep a copy of {data}. A follower: follow with a new directory. A master: stop a follower that holds it all, then sdiff restore --data NEW-DIRECTORY --from ITS-DIRECTORY"

// validName reports whether a follower may have this name.
func validName(id string) bool {
	return replica.FollowerConfig{ID: id, Dial: transport.DialTCP("")}.Validate() == nil
}

// checkName looks at the file with a follower's name, which masters do not have.
func checkName(dir string, add func(finding)) {
	b, err := os.ReadFile(filepath.Join(dir, idFile))
	id := strings.TrimSpace(string(b))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err != nil:
		add(finding{Check: "name", Level: levelWarn, Text: err.Error(), Advice: "give the follower its name again with --id"})
	case !validName(id):
		add(finding{Check: "name", Level: levelWarn, Text: "the file " + idFile + " holds no name of a follower", Advice: "give the follower its name again with --id; the master's sdiff status lists those it knows"})
	default:
		add(finding{Check: "name", Level: levelOK, Text: "known to the master as " + id})
	}
}
