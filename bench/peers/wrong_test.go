package main

import (
	"io"
	"net"
	"strings"
	"testing"
)

// Whatever is wrong must end the program, so each check is shown something
// wrong here.

// A liar is a method of which something is changed before it is checked.
type liar struct {
	method
	lie func()
}

func (l liar) check(d *difference) error {
	l.lie()
	return l.method.check(d)
}

// TestWrongComparison has every method find too little or too much.
func TestWrongComparison(t *testing.T) {
	data := newDataset(1000, 10)
	trees, err := newTrees(data)
	if err != nil {
		t.Fatal(err)
	}
	ours := &sdiffMethod{trees: trees, sketches: true}
	theirs := &negentropyMethod{vectors: newVectors(data)}
	opt := options{n: 1000, rounds: 1, progress: io.Discard}
	for _, c := range []struct {
		name string
		m    method
		lie  func()
	}{
		{"nothing", ours, nil},
		{"nothing", theirs, nil},
		{"a finding less", ours, func() { ours.onMaster = ours.onMaster[1:] }},
		{"another hash", ours, func() { ours.onFollower[0].Hash++ }},
		{"another key", ours, func() { ours.onFollower[0].Key = []byte("none") }},
		{"an id less", theirs, func() { theirs.needs = theirs.needs[1:] }},
		{"an id more", theirs, func() { theirs.haves = append(theirs.haves, "none") }},
		{"another id", theirs, func() { theirs.haves[0] = "none" }},
	} {
		m := c.m
		if c.lie != nil {
			m = liar{c.m, c.lie}
		}
		err := compareOne(opt, new(table), data, []method{m}, 10)
		if (err != nil) != (c.lie != nil) {
			t.Errorf("%s, %s: %v", m.name(), c.name, err)
		}
	}
}

// TestDifference holds what is made to differ against what was asked for.
func TestDifference(t *testing.T) {
	data := newDataset(1000, 50)
	for d, want := range map[int]int{0: 0, 1: 2, 10: 14, 100: 134} {
		diff := newDifference(data, d, 1)
		if got := len(diff.missing) + len(diff.extra) + len(diff.changed); got != d {
			t.Errorf("%d keys differ, not %d", got, d)
		}
		if got := diff.hashes(); got != want {
			t.Errorf("%d hashes differ, not %d", got, want)
		}
		keys := map[string]bool{}
		for _, it := range append(diff.onMaster(), diff.extra...) {
			keys[it.key] = true
		}
		if len(keys) != d {
			t.Errorf("%d keys, not %d", len(keys), d)
		}
	}
}

// TestWrongReplica shows replicas that lack a pair, have another value, or have
// a key too many.
func TestWrongReplica(t *testing.T) {
	l := load{seed: 5, n: 20}
	pairs := newWorkload(l.seed).next(l.n)
	for _, c := range []struct {
		name string
		have []pair
		want string
	}{
		{"all", pairs, ""},
		{"one less", pairs[1:], "lacks 1, has 0"},
		{"another value", append([]pair{{pairs[0].key, []byte("x")}}, pairs[1:]...), "has 1 with another value"},
		{"one more", append([]pair{{[]byte("x"), nil}}, pairs...), "and 1 keys too many"},
		{"one twice", append(pairs[:1:1], pairs...), "and 1 keys too many"},
	} {
		v := newVerifier(l)
		for _, p := range c.have {
			v.saw(p.key, p.value)
		}
		switch err := v.err(); {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestProxy counts what passes, and cuts.
func TestProxy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(nc, nc); nc.Close() }() // it ends when the proxy does
		}
	}()
	p, err := newProxy(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	nc, err := net.Dial("tcp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	sent, back := []byte("there and back"), make([]byte, 14)
	if _, err := nc.Write(sent); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(nc, back); err != nil || string(back) != string(sent) {
		t.Fatalf("%q, %v", back, err)
	}
	if got := p.bytes.Load(); got != 28 {
		t.Errorf("%d bytes were counted, want 28", got)
	}
	p.cut()
	if _, err := nc.Read(back); err == nil {
		t.Error("the connection was not cut")
	}
}
