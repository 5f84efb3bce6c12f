package main

import (
	"fmt"
	"slices"
	"sync"

	"github.com/nbd-wtf/go-nostr/nip77/negentropy"
	"github.com/nbd-wtf/go-nostr/nip77/negentropy/storage/vector"
)

// timestamp is that of every element. Negentropy orders elements by time and
// then by id; a key-value dataset has no times, so ids alone give the order.
const timestamp = 1

// A vectors is what two ends of negentropy are given: all their ids, in order.
// It takes no changes, so it is made anew for each difference.
type vectors struct {
	ids              []string // the master's, in order
	master, follower *vector.Vector
	applied          *difference
}

func newVectors(data *dataset) *vectors {
	v := new(vectors)
	for _, it := range data.items {
		v.ids = append(v.ids, it.id)
	}
	slices.Sort(v.ids)
	v.master = sealed(v.ids)
	return v
}

func sealed(ids []string) *vector.Vector {
	v := vector.New()
	for _, id := range ids {
		v.Insert(timestamp, id)
	}
	v.Seal()
	return v
}

// arrange makes the follower's elements differ by d and by nothing else.
func (v *vectors) arrange(d *difference) {
	if d == v.applied {
		return
	}
	gone := make(map[string]bool)
	for _, it := range d.onMaster() {
		gone[it.id] = true
	}
	ids := make([]string, 0, len(v.ids)+len(d.extra))
	for _, id := range v.ids {
		if !gone[id] {
			ids = append(ids, id)
		}
	}
	for _, it := range d.onFollower() {
		ids = append(ids, it.id)
	}
	v.follower, v.applied = sealed(ids), d
}

// A negentropyMethod is the protocol of that name as go-nostr has it.
type negentropyMethod struct {
	*vectors
	limit int // of a message, in bytes; 0 for none

	// What the client found in the last comparison.
	haves, needs []string
}

func (m *negentropyMethod) name() string {
	if m.limit > 0 {
		return fmt.Sprintf("negentropy, messages of %d MiB", m.limit>>20)
	}
	return "negentropy"
}

// compare has the follower be the client, which learns what it has and what it
// needs. Messages are counted in bytes, not in the hexadecimal digits in which
// the library returns them.
func (m *negentropyMethod) compare() (c cost, err error) {
	client, server := negentropy.New(m.follower, m.limit), negentropy.New(m.master, m.limit)
	m.haves, m.needs = nil, nil
	var wg sync.WaitGroup
	wg.Go(func() { m.haves = collect(client.Haves) })
	wg.Go(func() { m.needs = collect(client.HaveNots) })
	for msg := client.Start(); msg != ""; {
		c.trips++
		c.count(len(msg) / 2)
		reply, err := server.Reconcile(msg)
		if err != nil {
			return c, fmt.Errorf("server: %w", err)
		}
		c.count(len(reply) / 2)
		if msg, err = client.Reconcile(reply); err != nil {
			return c, fmt.Errorf("client: %w", err)
		}
	}
	wg.Wait()
	return c, nil
}

// collect takes ids until there are no more.
func collect(ids <-chan string) (list []string) {
	for id := range ids {
		list = append(list, id)
	}
	return list
}

func (m *negentropyMethod) remark() string { return "" }

// check holds what the client learned against what differs. An id may be told
// more than once, which is how the library is.
func (m *negentropyMethod) check(d *difference) error {
	if err := checkIDs(m.haves, d.onFollower()); err != nil {
		return fmt.Errorf("what the client has: %w", err)
	}
	if err := checkIDs(m.needs, d.onMaster()); err != nil {
		return fmt.Errorf("what the client needs: %w", err)
	}
	return nil
}

func checkIDs(found []string, want []item) error {
	ids := make([]string, 0, len(want))
	for _, it := range want {
		ids = append(ids, it.id)
	}
	slices.Sort(ids)
	found = slices.Compact(slices.Sorted(slices.Values(found)))
	if len(found) != len(ids) {
		return fmt.Errorf("%d ids were told, not %d", len(found), len(ids))
	}
	for i, id := range ids {
		if found[i] != id {
			return fmt.Errorf("id %s was not told, or %s was", id, found[i])
		}
	}
	return nil
}
