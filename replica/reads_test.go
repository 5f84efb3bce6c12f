package replica_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
)

// Validate reports every bad field at once.
func TestConfigsReportEveryBadField(t *testing.T) {
	_, merr := replica.NewMaster(store.NewMemory(), replica.MasterConfig{
		TailBytes: -1, Heartbeat: time.Microsecond, Silence: -1, MaxFollowers: -1, MaxRepairs: -1, Scrub: 2,
	})
	_, ferr := replica.NewFollower(store.NewMemory(), replica.FollowerConfig{
		ID: "a b", Heartbeat: time.Second, Silence: time.Second, Scrub: 2, Repair: replica.RepairPolicy{Every: -1},
	})
	for _, tt := range []struct {
		err    error
		fields []string
	}{
		{merr, []string{"TailBytes", "Heartbeat", "Silence", "MaxFollowers", "MaxRepairs", "Scrub"}},
		{ferr, []string{"ID", "Dial", "Silence", "Scrub", "Repair.Every"}},
	} {
		if e, ok := errors.AsType[*replica.ConfigError](tt.err); !ok || e.Rule == "" {
			t.Errorf("%v, want a ConfigError", tt.err)
		}
		for _, f := range tt.fields {
			if tt.err == nil || !strings.Contains(tt.err.Error(), f) {
				t.Errorf("%v, want it to name %s", tt.err, f)
			}
		}
	}
}

// Get and Ascend on both roles: ranges, prefixes, pages, early ends.
func TestReads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 2500, replica.MasterConfig{}, replica.FollowerConfig{})
		p.f.waitFor(p.m.put("empty", ""))
		for role, r := range map[string]struct {
			get    func(context.Context, []byte) ([]byte, error)
			ascend func(context.Context, []byte, []byte) iter.Seq2[replica.Item, error]
		}{"master": {p.m.Get, p.m.Ascend}, "follower": {p.f.Get, p.f.Ascend}} {
			if v, err := r.get(t.Context(), keyOf(7)); string(v) != "v" || err != nil {
				t.Errorf("%s: Get = %q, %v", role, v, err)
			}
			if v, err := r.get(t.Context(), []byte("empty")); v == nil || len(v) != 0 || err != nil {
				t.Errorf("%s: Get of an empty value = %v, %v, want empty, not nil", role, v, err)
			}
			if _, err := r.get(t.Context(), []byte("none")); !errors.Is(err, replica.ErrNotFound) {
				t.Errorf("%s: Get of an absent key: %v", role, err)
			}
			list := func(ctx context.Context, lo, hi []byte, n int) (got []string, err error) {
				for item, e := range r.ascend(ctx, lo, hi) {
					if err = e; e != nil {
						break
					}
					if got = append(got, string(item.Key)); len(got) == n {
						break
					}
				}
				return got, err
			}
			all, err := list(t.Context(), nil, nil, 0)
			if err != nil || len(all) != 2502 || !slices.IsSorted(all) {
				t.Errorf("%s: %d items, sorted %v, %v, want 2502", role, len(all), slices.IsSorted(all), err)
			}
			some, err := list(t.Context(), keyOf(100), keyOf(1200), 0)
			if err != nil || len(some) != 1100 || some[0] != string(keyOf(100)) {
				t.Errorf("%s: %d items of a range, %v, want 1100", role, len(some), err)
			}
			prefix, err := list(t.Context(), []byte("key0001"), merkle.PrefixEnd([]byte("key0001")), 0)
			if err != nil || len(prefix) != 100 {
				t.Errorf("%s: %d items of a prefix, %v, want 100", role, len(prefix), err)
			}
			if got, err := list(t.Context(), nil, nil, 5); err != nil || len(got) != 5 {
				t.Errorf("%s: left after %q, %v", role, got, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if got, err := list(ctx, nil, nil, 0); !errors.Is(err, context.Canceled) || len(got) != 0 {
				t.Errorf("%s: with an ended context: %d items, %v", role, len(got), err)
			}
		}
		damaged := fmt.Errorf("%w: a block", store.ErrCorrupt)
		p.m.st.FailReads(damaged)
		defer p.m.st.FailReads(nil)
		if _, err := p.m.Get(t.Context(), keyOf(1)); !errors.Is(err, store.ErrCorrupt) || errors.Is(err, replica.ErrNotFound) {
			t.Errorf("S3: Get of damaged data: %v, want ErrCorrupt", err)
		}
		for _, err := range p.m.Ascend(t.Context(), nil, nil) {
			if !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("S3: Ascend over damaged data: %v, want ErrCorrupt", err)
			}
		}
		if rep, err := p.m.Verify(t.Context()); err != nil || rep.OK || rep.Bad != 2502 || rep.Keys[0].What != "unreadable" {
			t.Errorf("S3: Verify of damaged data: %d bad keys of %d, %v, want every key", rep.Bad, rep.Items, err)
		}
	})
}
