package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sdiff/sdiff/internal/control"
)

// TestScripts runs the transcripts in testdata/script, with real processes.
// Beside testscript's own commands they have those of scriptCommands.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		Cmds:                scriptCommands,
		Setup: func(env *testscript.Env) error {
			// Under -race every process would sleep for a second at its end.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
	})
}

var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits":     exits,
	"waitfor":   waitfor,
	"address":   address,
	"terminate": terminate,
	"tamper":    tamper,
	"generate":  generate,
	"hold":      hold,
	"poison":    poison,
	"empty":     empty,
	"snapshot":  snapshot,
}

// exits runs a program that must exit with a code: exits CODE PROGRAM ARGS.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// status returns a replica's status as it is in JSON, with slashes between
// nested names, or why there is none.
func status(ts *testscript.TestScript, dir string) (map[string]string, error) {
	c := control.NewClient(ts.MkAbs(dir))
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(s)
	ts.Check(err)
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	ts.Check(dec.Decode(&v))
	flat := map[string]string{}
	flatten(flat, "", v)
	return flat, nil
}

func flatten(flat map[string]string, name string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, v := range v {
			flatten(flat, strings.TrimPrefix(name+"/"+k, "/"), v)
		}
	case []any:
		flat[name] = strconv.Itoa(len(v))
		for i, v := range v {
			flatten(flat, fmt.Sprintf("%s/%d", name, i), v)
		}
	default:
		flat[name] = fmt.Sprint(v)
	}
}

// waitfor polls a replica until its status has the fields: waitfor DIR
// NAME=VALUE …; without any, until it answers. NAME=@DIR2 means the value that
// the replica in DIR2 has now. "waitfor DIR gone" waits until nobody answers.
func waitfor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: waitfor DIR NAME=VALUE …")
	}
	gone := len(args) == 2 && args[1] == "gone"
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last map[string]string
	var err error
	for range 1000 {
		last, err = status(ts, args[0])
		if gone == (err != nil) && (gone || matches(ts, last, args[1:])) {
			return
		}
		<-tick.C
	}
	ts.Fatalf("it never came: %v\n%v", err, last)
}

func matches(ts *testscript.TestScript, s map[string]string, wants []string) bool {
	return !slices.ContainsFunc(wants, func(w string) bool {
		name, value, _ := strings.Cut(w, "=")
		if dir, ok := strings.CutPrefix(value, "@"); ok {
			other, err := status(ts, dir)
			if err != nil {
				return true
			}
			value = other[name]
		}
		return s[name] != value
	})
}

// address sets a variable to the address at which a master serves: address DIR
// NAME. It waits for the master.
func address(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: address DIR NAME")
	}
	waitfor(ts, false, []string{args[0], "state=serving"})
	s, err := status(ts, args[0])
	ts.Check(err)
	ts.Setenv(args[1], s["address"])
}

// terminate sends SIGTERM to the background program with an argument.
func terminate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: terminate ARGUMENT")
	}
	for _, cmd := range ts.BackgroundCmds() {
		if slices.Contains(cmd.Args, args[0]) {
			ts.Check(cmd.Process.Signal(syscall.SIGTERM))
			return
		}
	}
	ts.Fatalf("no background program has the argument %s", args[0])
}

// tamper changes a database that nobody runs as another program would, with
// Badger and nothing else: tamper DIR KEY=VALUE … and -KEY to delete. The key
// k{30} stands for k0 to k29, and log:5 for the log record that begins at
// offset 5.
func tamper(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: tamper DIR KEY=VALUE …")
	}
	opt := badger.DefaultOptions(ts.MkAbs(args[0])).WithLogger(nil).WithValueThreshold(1 << 20)
	db, err := badger.Open(opt)
	ts.Check(err)
	ts.Check(db.Update(func(tx *badger.Txn) error {
		for _, arg := range args[1:] {
			arg, remove := strings.CutPrefix(arg, "-")
			name, value, _ := strings.Cut(arg, "=")
			for _, key := range numbered(ts, name) {
				err := error(nil)
				if remove {
					err = tx.Delete([]byte(key))
				} else {
					err = tx.Set([]byte(key), []byte(value))
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	}))
	ts.Check(db.Close())
}

func numbered(ts *testscript.TestScript, name string) []string {
	if offset, ok := strings.CutPrefix(name, "log:"); ok {
		n, err := strconv.ParseUint(offset, 10, 64)
		ts.Check(err)
		return []string{string(append(binary.BigEndian.AppendUint64([]byte("!sdiff!//l/"), n), 0, 0))}
	}
	stem, rest, ok := strings.Cut(name, "{")
	if !ok {
		return []string{name}
	}
	n, err := strconv.Atoi(strings.TrimSuffix(rest, "}"))
	ts.Check(err)
	keys := make([]string, n)
	for i := range keys {
		keys[i] = stem + strconv.Itoa(i)
	}
	return keys
}

// generate writes N items as load reads them: generate FILE N VALUE.
func generate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: generate FILE N VALUE")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	var b []byte
	for i := range n {
		b = appendItem(b, fmt.Appendf(nil, "key%06d", i), []byte(args[2]), true)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// hold listens on a free port for the rest of the script: hold NAME.
func hold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hold NAME")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}
