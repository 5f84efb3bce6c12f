package main

import (
	"fmt"
	"runtime"
	"time"

	"github.com/sdiff/sdiff/transport"
)

// A method finds out what differs.
type method interface {
	name() string
	// arrange makes the two sides differ by d and by nothing else. It is not
	// measured.
	arrange(d *difference)
	// compare makes one comparison, of which it remembers what was found.
	compare() (cost, error)
	// check holds what was found last against what differs.
	check(d *difference) error
	// remark returns what is to be said of the last comparison, if anything.
	remark() string
}

// A cost is what a comparison takes: bytes of both directions, frames included,
// and round trips until the side that began knows what differs.
type cost struct {
	bytes, messages, trips int
}

// count counts a message with what sdiff puts around one: a frame, and a pair
// of a number and a byte string, in msgpack. It does so for everybody.
func (c *cost) count(n int) {
	header := 2
	switch {
	case n > 0xffff:
		header = 5
	case n > 0xff:
		header = 3
	}
	c.messages++
	c.bytes += transport.Overhead + 2 + header + n
}

// compareAll measures all methods for each number of differences, turn by turn,
// and adds rows to the table.
func compareAll(opt options, t *table) error {
	sizes := differences(opt.n)
	data := newDataset(opt.n, 1+2*sizes[len(sizes)-1]/3)
	opt.log("comparison: %d items, building trees and vectors", opt.n)
	trees, err := newTrees(data)
	if err != nil {
		return err
	}
	vectors := newVectors(data)
	methods := []method{
		&sdiffMethod{trees: trees, sketches: true},
		&sdiffMethod{trees: trees},
		&negentropyMethod{vectors: vectors},
		&negentropyMethod{vectors: vectors, limit: frameLimit},
	}
	for _, m := range methods {
		t.column(m.name())
	}
	t.column(leastColumn)
	t.note("Comparisons, of d keys: a third missing, a third extra, a third changed, at random places. Bytes are those of all messages of both " +
		"directions, each with the frame that sdiff puts around one; round trips count until the side that began knows what differs. What " +
		"each keeps of its items is there beforehand.")
	t.note("negentropy: go-nostr " + version("github.com/nbd-wtf/go-nostr") + ", over its vector; messages without a limit, and with the one that its own client sets.")
	t.note("Least possible: log2 binom(2^64, s) / 8 bytes for s hashes of 64 bits that only one side has; a changed key has two.")
	for _, d := range sizes {
		if err := compareOne(opt, t, data, methods, d); err != nil {
			return err
		}
	}
	return nil
}

// frameLimit is the message size, in bytes, that go-nostr's own client asks for.
const frameLimit = 1 << 20

// differences returns the numbers of keys that differ: powers of ten up to a
// tenth of all.
func differences(n int) []int {
	list := []int{0}
	for d := 1; d <= n/10; d *= 10 {
		list = append(list, d)
	}
	return list
}

// compareOne measures one number of differences. Each turn has others, the same
// for all methods.
func compareOne(opt options, t *table, data *dataset, methods []method, d int) error {
	title := fmt.Sprintf("d = %s: ", thousands(float64(d)))
	bytes := t.row(title+"bytes both ways", thousands)
	trips := t.row(title+"round trips", short)
	cpu := t.row(title+"CPU of both ends, ms", short)
	for round := range opt.rounds {
		diff := newDifference(data, d, uint64(round+1))
		least := leastBytes(diff.hashes())
		for _, m := range methods {
			m.arrange(diff)
			c, took, err := measure(m, diff, opt.least)
			if err != nil {
				return fmt.Errorf("%s, d = %d: %w", m.name(), d, err)
			}
			opt.log("d = %d, %s: %d bytes, %d round trips, %v", d, m.name(), c.bytes, c.trips, took)
			bytes.add(m.name(), float64(c.bytes))
			trips.add(m.name(), float64(c.trips))
			cpu.add(m.name(), float64(took)/float64(time.Millisecond))
			if s := m.remark(); s != "" {
				t.note(fmt.Sprintf("d = %d: %s.", d, s))
			}
		}
		bytes.add(leastColumn, least)
	}
	t.curve = append(t.curve, point{d, bytes})
	return nil
}

// measure repeats a comparison until it has taken so long, checks each result,
// and returns the processor time of one.
func measure(m method, d *difference, least time.Duration) (c cost, each time.Duration, err error) {
	runtime.GC() // what others left is not to be charged to this one
	var total time.Duration
	n := 0
	for ; n == 0 || total < least && n < 1000; n++ {
		before := cpuTime()
		c, err = m.compare()
		total += cpuTime() - before
		if err == nil {
			err = m.check(d)
		}
		if err != nil {
			return c, 0, err
		}
	}
	return c, total / time.Duration(n), nil
}
