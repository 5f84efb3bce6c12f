package main

import (
	"bufio"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sdiff/sdiff/replica"
)

// testRoot returns the tree of commands of an app that is never run.
func testRoot() *cobra.Command {
	a := &app{stdout: bufio.NewWriter(io.Discard), stderr: io.Discard, env: map[string]string{}, output: "text"}
	return a.root()
}

// eachFlag calls fn for every flag of every command that people see.
func eachFlag(root *cobra.Command, fn func(*cobra.Command, *pflag.Flag)) {
	for _, cmd := range append(root.Commands(), root) {
		if cmd.Hidden {
			continue
		}
		cmd.InheritedFlags() // joins those of the parents in
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" {
				fn(cmd, f)
			}
		})
	}
}

// TestEnvNames shows that no variable stands for two things.
func TestEnvNames(t *testing.T) {
	type meaning struct{ name, typ, def string }
	seen := map[string]meaning{}
	eachFlag(testRoot(), func(cmd *cobra.Command, f *pflag.Flag) {
		name := envName(f)
		m := meaning{f.Name, f.Value.Type(), f.DefValue}
		if f.Name == "timeout" {
			m.def = "" // it bounds whatever the command does
		}
		if old, ok := seen[name]; ok && old != m {
			t.Errorf("%s is both %v and, for %s, %v", name, old, cmd.Name(), m)
		}
		seen[name] = m
	})
	for _, name := range []string{"SDIFF_DATA", "SDIFF_OUTPUT", "SDIFF_FROM", "SDIFF_WATCH_FROM", "SDIFF_PREFIX", "SDIFF_LIST_PREFIX", "SDIFF_HASH_KEY"} {
		if _, ok := seen[name]; !ok {
			t.Errorf("no flag has the variable %s", name)
		}
	}
}

func TestBindEnv(t *testing.T) {
	tests := []struct {
		args []string
		env  map[string]string
		want string // of --limit
		err  string
	}{
		{nil, nil, "0", ""},
		{nil, map[string]string{"SDIFF_LIMIT": "7"}, "7", ""},
		{[]string{"--limit", "9"}, map[string]string{"SDIFF_LIMIT": "7"}, "9", ""},
		{nil, map[string]string{"SDIFF_LIMIT": ""}, "0", ""},
		{nil, map[string]string{"SDIFF_LIMIT": "many"}, "", "the variable SDIFF_LIMIT: "},
		{[]string{"--limit", "9"}, map[string]string{"SDIFF_LIMIT": "many"}, "9", ""},
	}
	for _, test := range tests {
		cmd, args, err := testRoot().Find(append([]string{"list"}, test.args...))
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.ParseFlags(args); err != nil {
			t.Fatal(err)
		}
		err = bindEnv(cmd, test.env)
		switch {
		case test.err != "":
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%v with %v: error %v, want %q", test.args, test.env, err, test.err)
			}
		case err != nil:
			t.Errorf("%v with %v: %v", test.args, test.env, err)
		case cmd.Flag("limit").Value.String() != test.want:
			t.Errorf("%v with %v: --limit is %s, want %s", test.args, test.env, cmd.Flag("limit").Value, test.want)
		}
	}
}

func TestWantedOutput(t *testing.T) {
	tests := []struct{ args, env, want string }{
		{"get k", "", "text"},
		{"get k", "json", "json"},
		{"get k -o json", "", "json"},
		{"-ojson get k --nonsense", "", "json"},
		{"get -o=json k", "", "json"},
		{"get --output json k", "", "json"},
		{"get --output=json k -o text", "", "text"},
		{"get --output=yaml k", "json", "text"},
		{"put -- k -o json", "", "text"},
		{"get k -o", "", "text"},
	}
	for _, test := range tests {
		if got := wantedOutput(strings.Fields(test.args), test.env); got != test.want {
			t.Errorf("wantedOutput(%s, env %q) = %s, want %s", test.args, test.env, got, test.want)
		}
	}
}

func TestParseRepair(t *testing.T) {
	cmd := &cobra.Command{Use: "follow"}
	tests := []struct {
		text string
		want replica.RepairPolicy
		err  bool
	}{
		{"on-connect,on-drift", replica.RepairPolicy{}, false},
		{"on-drift", replica.RepairPolicy{NoConnect: true}, false},
		{"on-connect", replica.RepairPolicy{NoDrift: true}, false},
		{"on-connect,on-drift,every=6h", replica.RepairPolicy{Every: 6 * time.Hour}, false},
		{"every=90s", replica.RepairPolicy{NoConnect: true, NoDrift: true, Every: 90 * time.Second}, false},
		{"manual", replica.RepairPolicy{Manual: true}, false},
		{"manual,on-drift", replica.RepairPolicy{}, true},
		{"", replica.RepairPolicy{}, true},
		{"never", replica.RepairPolicy{}, true},
		{"every=soon", replica.RepairPolicy{}, true},
		{"every=1ms", replica.RepairPolicy{}, true},
		{"every=-1h", replica.RepairPolicy{}, true},
	}
	for _, test := range tests {
		got, err := parseRepair(cmd, test.text)
		if (err != nil) != test.err || err == nil && got != test.want {
			t.Errorf("parseRepair(%q) = %+v, %v; want %+v, error %t", test.text, got, err, test.want, test.err)
		}
	}
}

func TestByteSize(t *testing.T) {
	for _, test := range []struct {
		text, shown string
		want        int64
		bad         bool
	}{
		{"0", "0", 0, false},
		{"1000", "1000", 1000, false},
		{"-1", "-1", -1, false},
		{"256MiB", "256MiB", 256 << 20, false},
		{"1024 KiB", "1MiB", 1 << 20, false},
		{"1.5GB", "1500000000", 1_500_000_000, false},
		{"2kB", "2000", 2000, false},
		{"0.5TiB", "512GiB", 1 << 39, false},
		{"-1GiB", "-1GiB", -1 << 30, false},
		{"", "", 0, true},
		{"MiB", "", 0, true},
		{"1.5", "", 0, true},
		{"1m", "", 0, true},
		{"NaNMiB", "", 0, true},
		{"InfGiB", "", 0, true},
		{"9000000TiB", "", 0, true},
		{"9223372036854775808", "", 0, true},
	} {
		var s byteSize
		err := s.Set(test.text)
		switch {
		case (err != nil) != test.bad:
			t.Errorf("%q: error %v", test.text, err)
		case err == nil && (int64(s) != test.want || s.String() != test.shown):
			t.Errorf("%q is %d, shown as %s; want %d, %s", test.text, int64(s), s.String(), test.want, test.shown)
		}
	}
}
