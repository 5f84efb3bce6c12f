package main

import (
	"fmt"
	"time"
)

// A masterEnd is the end of a system that is written to.
type masterEnd interface {
	// open starts it in an empty directory, and returns the TCP address that a
	// replica connects to, and what is to be said of the measurement.
	open(dir string) (addr, note string, err error)
	// load writes pairs as fast as it can, from one caller, and returns a mark
	// that a replica can wait for: everything written so far.
	load(l load) (mark string, err error)
	cpu() time.Duration
	close() error
}

// A masterPlayer has a master do what it is called to.
type masterPlayer struct{ masterEnd }

func (p *masterPlayer) do(c call) (a answer, err error) {
	switch c.Do {
	case "open":
		a.Addr, a.Note, err = p.open(c.Dir)
	case "load":
		a.Mark, err = p.load(load{c.Seed, c.N})
	}
	return a, err
}

// A replicaEnd is the other end.
type replicaEnd interface {
	// open starts it in a directory, connected to its master.
	open(dir, addr string) error
	// wait returns when it has everything up to a mark.
	wait(mark string) error
	// each calls fn for every pair it has, once.
	each(fn func(key, value []byte)) error
	// get returns a value, or nil if there is none that can be had.
	get(key []byte) ([]byte, error)
	// harm changes keys behind its back, and returns how many of the pairs that
	// its master has are not there any more as they were.
	harm(pairs []pair) (wrong int, note string, err error)
	// resume has it connect anew. All it has on disk is what it was.
	resume() error
	cpu() time.Duration
	close() error
}

// A replicaPlayer has a replica do what it is called to.
type replicaPlayer struct {
	replicaEnd
	loads []load // what it is to have
	pairs []pair // those that were harmed, as its master has them
}

func (p *replicaPlayer) do(c call) (a answer, err error) {
	switch c.Do {
	case "open":
		err = p.open(c.Dir, c.Addr)
	case "wait":
		err = p.wait(c.Mark)
	case "expect":
		p.loads = append(p.loads, load{c.Seed, c.N})
	case "check": // that it has what was expected since the last check
		v := newVerifier(p.loads...)
		p.loads = nil
		if err = p.each(v.saw); err == nil {
			err = v.err()
		}
	case "harm":
		var wrong int
		p.pairs = harmed(load{c.Seed, c.N})
		wrong, a.Note, err = p.harm(p.pairs)
		if err == nil && wrong != harmedKeys {
			err = fmt.Errorf("%d of %d keys were harmed", wrong, harmedKeys)
		}
	case "resume":
		err = p.resume()
	case "right": // how many of the harmed pairs are
		var wrong int
		wrong, err = countWrong(p.get, p.pairs)
		a.Count = len(p.pairs) - wrong
	}
	return a, err
}

// countWrong returns how many pairs get does not return.
func countWrong(get func([]byte) ([]byte, error), pairs []pair) (wrong int, err error) {
	for _, p := range pairs {
		value, err := get(p.key)
		if err != nil {
			return 0, err
		}
		if string(value) != string(p.value) {
			wrong++
		}
	}
	return wrong, nil
}
