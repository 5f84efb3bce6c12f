package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// A system is what keeps a replica of key-value pairs in another process.
type system struct {
	column string
	roles  string // "sdiff" for the players "sdiff master" and "sdiff replica"
	// cut says that a replica is made to connect again by cutting its
	// connection, not by starting it again.
	cut bool
	// memory says that nothing is to be on disk: only its writes are measured.
	memory bool
	// missing says why it is not measured; empty if it is.
	missing string
}

// pathRows are the rows of the second part.
type pathRows struct {
	rate, cpu, wire            *row
	memoryRate, memoryCPU      *row
	copySeconds, copyBytes     *row
	healed, seconds, healBytes *row
}

// pathAll measures all systems turn by turn, and adds rows to the table.
func pathAll(opt options, t *table) (err error) {
	dir, err := os.MkdirTemp("", "sdiff-peers-")
	if err != nil {
		return err
	}
	defer onSignal(func() { os.RemoveAll(dir) })() // as well as it can be done then
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	runtime.GC() // the comparison has left much
	systems := []system{
		{column: oursColumn, roles: "sdiff"},
		{column: "NATS KV mirror", roles: "nats"},
		{column: "Redis replica", roles: "redis", cut: true, missing: redisMissing()},
		{column: oursColumn, roles: "sdiff-memory", memory: true},
		{column: "Redis replica", roles: "redis-memory", memory: true, missing: redisMissing()},
	}
	r := newPathRows(opt, t)
	for _, s := range systems {
		t.column(s.column)
		if s.missing != "" && !s.memory {
			opt.log("*** SKIPPED: %s: %s ***", s.column, s.missing)
			r.rate.texts[s.column] = s.missing
			t.note(fmt.Sprintf("%s was **skipped**: %s.", s.column, s.missing))
		}
	}
	for round := range opt.rounds {
		for _, s := range systems {
			if s.missing != "" {
				continue
			}
			if err := pathOne(opt, t, r, s, uint64(round+1), filepath.Join(dir, s.roles)); err != nil {
				return fmt.Errorf("%s: %w", s.column, err)
			}
		}
	}
	return nil
}

func newPathRows(opt options, t *table) *pathRows {
	healing := fmt.Sprintf("%d keys corrupted on the replica: ", harmedKeys)
	r := &pathRows{
		rate:        t.row("replicated writes a second", thousands),
		cpu:         t.row("CPU of both ends for a write, µs", short),
		wire:        t.row("wire bytes for a write", thousands),
		memoryRate:  t.row("nothing on disk: replicated writes a second", thousands),
		memoryCPU:   t.row("nothing on disk: CPU of both ends for a write, µs", short),
		copySeconds: t.row("empty replica gets "+thousands(float64(opt.n))+" keys, s", short),
		copyBytes:   t.row("the same, bytes on the wire", thousands),
		healed:      t.row(healing+"healed within "+opt.heal.String(), thousands),
		seconds:     t.row(healing+"s until all were right", short),
		healBytes:   t.row(healing+"bytes on the wire meanwhile", thousands),
	}
	r.healed.plain, r.healBytes.plain = true, true
	return r
}

// A duo is the two ends of a system, and the way between them.
type duo struct {
	system
	dir     string
	master  *child
	proxy   *proxy
	replica *child
	loads   []load // what the master was told to write
	mark    string // of the last load
}

// pathOne takes one turn with one system: a replica that follows from the
// beginning, then an empty one, then one that is corrupted. It has a directory
// to itself, which it removes.
func pathOne(opt options, t *table, r *pathRows, s system, seed uint64, dir string) (err error) {
	d := &duo{system: s, dir: dir}
	defer func() { err = errors.Join(err, d.close(), os.RemoveAll(dir)) }()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if d.master, err = start(s.roles + " master"); err != nil {
		return err
	}
	a, err := d.master.do(call{Do: "open", Dir: filepath.Join(dir, "master")})
	if err != nil {
		return err
	}
	if a.Note != "" {
		t.note(a.Note)
	}
	if d.proxy, err = newProxy(a.Addr); err != nil {
		return err
	}
	if err := d.writes(opt, r, seed); err != nil {
		return fmt.Errorf("sustained writes: %w", err)
	}
	if s.memory {
		return nil
	}
	if err := d.copies(opt, r); err != nil {
		return fmt.Errorf("empty replica: %w", err)
	}
	if err := d.heals(opt, t, r, seed); err != nil {
		return fmt.Errorf("corrupted keys: %w", err)
	}
	return nil
}

// open starts a replica in an empty directory of its own.
func (d *duo) open(name string) (err error) {
	if d.replica, err = start(d.roles + " replica"); err != nil {
		return err
	}
	_, err = d.replica.do(call{Do: "open", Dir: filepath.Join(d.dir, name), Addr: d.proxy.addr()})
	return err
}

func (d *duo) close() error {
	err := errors.Join(d.replica.stop(), d.master.stop())
	if d.proxy != nil {
		d.proxy.close()
	}
	return err
}

// write has the master write, and waits until the replica has it all.
func (d *duo) write(l load) error {
	a, err := d.master.do(call{Do: "load", Seed: l.seed, N: l.n})
	if err != nil {
		return err
	}
	d.loads, d.mark = append(d.loads, l), a.Mark
	return d.wait()
}

func (d *duo) wait() error {
	_, err := d.replica.do(call{Do: "wait", Mark: d.mark})
	return err
}

// check holds the replica's pairs against all that was written.
func (d *duo) check() error {
	for _, l := range d.loads {
		if _, err := d.replica.do(call{Do: "expect", Seed: l.seed, N: l.n}); err != nil {
			return err
		}
	}
	_, err := d.replica.do(call{Do: "check"})
	return err
}

// writes measures a replica that follows while the master is written to.
func (d *duo) writes(opt options, r *pathRows, seed uint64) error {
	if err := d.open("following"); err != nil {
		return err
	}
	// The first ones may come with a copy, and the stream begin behind them.
	for i := range uint64(2) {
		if err := d.write(load{seed<<32 + i, 100}); err != nil {
			return err
		}
	}
	wire := d.proxy.bytes.Load()
	used, err := cpu(d.master, d.replica)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := d.write(load{seed, opt.n}); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := cpu(d.master, d.replica)
	if err != nil {
		return err
	}
	n := float64(opt.n)
	rate, perWrite := r.rate, r.cpu
	if d.memory {
		rate, perWrite = r.memoryRate, r.memoryCPU
	} else {
		r.wire.add(d.column, float64(d.proxy.bytes.Load()-wire)/n)
	}
	rate.add(d.column, n/took.Seconds())
	perWrite.add(d.column, float64(after-used)/float64(time.Microsecond)/n)
	opt.log("%s: %d writes in %v", d.roles, opt.n, took)
	if err := d.check(); err != nil {
		return err
	}
	return d.replica.stop()
}

// copies measures an empty replica until it has everything.
func (d *duo) copies(opt options, r *pathRows) error {
	wire, began := d.proxy.bytes.Load(), time.Now()
	if err := d.open("copy"); err != nil {
		return err
	}
	if err := d.wait(); err != nil {
		return err
	}
	took := time.Since(began)
	r.copySeconds.add(d.column, took.Seconds())
	r.copyBytes.add(d.column, float64(d.proxy.bytes.Load()-wire))
	opt.log("%s: empty replica had all after %v", d.column, took)
	return d.check()
}

// heals measures what becomes of keys that were corrupted on the replica, once
// it has connected again. It must follow its master afterwards, or nothing is
// said about it.
func (d *duo) heals(opt options, t *table, r *pathRows, seed uint64) error {
	a, err := d.replica.do(call{Do: "harm", Seed: seed, N: opt.n})
	if err != nil {
		return err
	}
	if a.Note != "" {
		t.note(a.Note)
	}
	wire, began := d.proxy.bytes.Load(), time.Now()
	if d.cut {
		d.proxy.cut()
	}
	if _, err := d.replica.do(call{Do: "resume"}); err != nil {
		return err
	}
	right, err := d.await(began.Add(opt.heal))
	if err != nil {
		return err
	}
	took := time.Since(began)
	r.healed.add(d.column, float64(right))
	r.healBytes.add(d.column, float64(d.proxy.bytes.Load()-wire))
	opt.log("%s: %d of %d keys healed after %v", d.column, right, harmedKeys, took)
	if right == harmedKeys {
		r.seconds.add(d.column, took.Seconds())
	} else {
		r.seconds.texts[d.column] = "not within " + opt.heal.String()
	}
	if err := d.write(load{seed<<32 + 2, 100}); err != nil {
		return fmt.Errorf("it does not follow any more: %w", err)
	}
	if right < harmedKeys {
		return nil
	}
	return d.check()
}

// await asks again and again how many of the corrupted keys are right, until
// all are or the time is over.
func (d *duo) await(until time.Time) (right int, err error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		a, err := d.replica.do(call{Do: "right"})
		if err != nil || a.Count == harmedKeys || time.Now().After(until) {
			return a.Count, err
		}
		<-tick.C
	}
}
