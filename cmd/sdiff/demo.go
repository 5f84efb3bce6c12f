package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/demo"
)

// The least that package demo takes, so that less is told as wrong usage.
const (
	minDemoKeys = 1000
	minDemoRate = 50
)

// demoCommand plays package demo. With -o json the story would spoil the one
// object, so it moves to standard error.
func (a *app) demoCommand() *cobra.Command {
	var opt demo.Options
	cmd := a.command("demo [flags]", "Show it: two copies drift apart and heal", `Runs a master and a follower in this process, over TCP on a free loopback port:
first with four keys and every step in full, then with a hundred thousand and
writes going on, while a fault drops and garbles some on their way. Needs no
set-up and leaves nothing behind. Exit code 0 only if every step was verified.`,
		takes(),
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			if opt.Keys < 0 || opt.Bad < 0 || opt.Rate < 0 || opt.Pause < 0 {
				return usagef(cmd, "a demo does not take negative numbers")
			}
			if opt.Keys != 0 && opt.Keys < minDemoKeys {
				return usagef(cmd, "--keys is at least %d", minDemoKeys)
			}
			if opt.Rate != 0 && opt.Rate < minDemoRate {
				return usagef(cmd, "--rate is at least %d", minDemoRate)
			}
			var story io.Writer = a.stdout
			if a.output == "json" {
				story = a.stderr
			}
			began := time.Now()
			if err := demo.Run(ctx, flusher{a, story}, opt); err != nil {
				return err
			}
			if a.output == "json" {
				a.json(struct {
					Verified bool    `json:"verified"`
					Seconds  float64 `json:"seconds"`
				}{true, time.Since(began).Seconds()})
			}
			return nil
		})
	cmd.Flags().IntVar(&opt.Keys, "keys", demo.DefaultKeys, "act two begins with `N` keys")
	cmd.Flags().IntVar(&opt.Bad, "bad", demo.DefaultBad, "and drops or garbles `N` ops")
	cmd.Flags().IntVar(&opt.Rate, "rate", demo.DefaultRate, "while at most `N` ops a second are written")
	cmd.Flags().Uint64Var(&opt.Seed, "seed", 0, "`N` makes keys, values and faults; the same makes the same")
	cmd.Flags().DurationVar(&opt.Pause, "pause", 0, "wait for this `DURATION` after each step, to read along")
	return cmd
}

// A flusher shows each piece of the story when it happens.
type flusher struct {
	a *app
	w io.Writer
}

func (f flusher) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if err == nil {
		err = f.a.stdout.Flush()
	}
	return n, err
}
