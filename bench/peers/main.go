package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// options are what the command line says.
type options struct {
	n        int
	rounds   int
	only     string        // "compare", "path" or empty for both
	least    time.Duration // that a comparison is repeated for
	heal     time.Duration // after which a replica is looked at
	progress io.Writer
}

// log says how far it is.
func (o options) log(format string, args ...any) { fmt.Fprintf(o.progress, format+"\n", args...) }

func main() {
	if role := os.Getenv(roleEnv); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
			os.Exit(1)
		}
		return
	}
	if err := command(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "peers: %v\n", err)
		os.Exit(1)
	}
}

// command is the whole program but for its exit code.
func command(args []string, out, progress io.Writer) error {
	opt := options{progress: progress}
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.IntVar(&opt.n, "n", 1_000_000, "keys")
	flags.IntVar(&opt.rounds, "rounds", 3, "turns of each")
	flags.StringVar(&opt.only, "only", "", `"compare" or "path": that part only`)
	flags.DurationVar(&opt.heal, "heal", 10*time.Second, "after which corrupted keys are looked at")
	quick := flags.Bool("quick", false, "few keys, one turn: it shows that everything works, and no figures")
	svg := flags.String("svg", "", "file for the picture")
	file := flags.String("o", "", "file for the table, which is printed as well")
	if err := flags.Parse(args); err != nil {
		return err
	}
	opt.least = 50 * time.Millisecond
	if *quick {
		opt.n, opt.rounds, opt.heal, opt.least = 10_000, 1, 4*time.Second, 0
	}
	if opt.n < 1000 || opt.rounds < 1 || flags.NArg() > 0 || opt.only != "" && opt.only != "compare" && opt.only != "path" {
		return fmt.Errorf("bad arguments: at least 1000 keys, one turn, no words: %s", strings.Join(args, " "))
	}
	t := newTable(opt, args)
	if err := measureAll(opt, t); err != nil {
		return err
	}
	return report(opt, t, out, *file, *svg)
}

// newTable returns a table with what is to be known of its figures.
func newTable(opt options, args []string) *table {
	t := new(table)
	t.head = []string{
		fmt.Sprintf("%s keys of %d bytes, values of %d bytes; %s. Turns of each: %d. Figures are medians of these, and in parentheses "+
			"stands the median of the ratios to sdiff's figure of the same turn.", thousands(float64(opt.n)), keySize, valueSize, machine(), opt.rounds),
		"`" + strings.TrimSpace("cd bench/peers && go run . "+strings.Join(args, " ")) + "`",
	}
	return t
}

func measureAll(opt options, t *table) error {
	if opt.only != "path" {
		if err := compareAll(opt, t); err != nil {
			return err
		}
	}
	if opt.only != "compare" {
		return pathAll(opt, t)
	}
	return nil
}

// report writes the table and the picture.
func report(opt options, t *table, out io.Writer, file, svg string) error {
	if err := t.write(out); err != nil {
		return err
	}
	if file != "" {
		if err := save(file, t.write); err != nil {
			return err
		}
	}
	if svg != "" {
		return save(svg, func(w io.Writer) error { return draw(w, t, opt.n) })
	}
	return nil
}

// save writes a file.
func save(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
