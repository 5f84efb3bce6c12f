package stream_test

import (
	"bytes"
	"testing"

	"github.com/sdiff/sdiff/stream"
)

func TestRecordFrom(t *testing.T) {
	r := record(10, 5)
	for offset := uint64(10); offset <= 14; offset++ {
		got, err := r.From(offset)
		if err != nil {
			t.Fatalf("From(%d): %v", offset, err)
		}
		want := record(offset, int(15-offset))
		if got.First != offset || got.Last != 14 || !bytes.Equal(got.Body, want.Body) {
			t.Errorf("From(%d) = %d to %d, %x; want %x", offset, got.First, got.Last, got.Body, want.Body)
		}
		if &got.Body[len(got.Body)-1] != &r.Body[len(r.Body)-1] {
			t.Errorf("From(%d) copies the body", offset)
		}
		if again, err := got.From(14); err != nil || again.First != 14 {
			t.Errorf("From(%d).From(14): %v", offset, err)
		}
	}
	for _, offset := range []uint64{0, 9, 15} {
		if got, err := r.From(offset); err == nil || got.Body != nil {
			t.Errorf("From(%d) = %+v, want an error", offset, got)
		}
	}
}

// What was left beside a record is of all of it.
func TestRecordFromDropsWhatIsShared(t *testing.T) {
	r := record(10, 5)
	r.Shared = "of five commits"
	for offset, want := range map[uint64]any{10: r.Shared, 11: nil, 14: nil} {
		if got, err := r.From(offset); err != nil || got.Shared != want {
			t.Errorf("From(%d) shares %v, want %v; %v", offset, got.Shared, want, err)
		}
	}
}

func TestRecordFromRefusesDamage(t *testing.T) {
	r := record(10, 5)
	one := len(r.Body) / 5
	for name, damaged := range map[string]stream.Record{
		"cut":              {First: 10, Last: 14, Body: r.Body[:len(r.Body)-1]},
		"cut at a commit":  {First: 10, Last: 14, Body: r.Body[:2*one]},
		"begins too late":  {First: 10, Last: 14, Body: r.Body[4*one:]},
		"a commit missing": {First: 10, Last: 14, Body: append(bytes.Clone(r.Body[:one]), r.Body[2*one:]...)},
		"empty":            {First: 10, Last: 14},
		"no commits":       {First: 10, Last: 14, Body: []byte{1, 2, 3}},
	} {
		if got, err := damaged.From(13); err == nil || got.Body != nil {
			t.Errorf("%s: From(13) = %+v, want an error", name, got)
		}
	}
}

func TestCheckRecord(t *testing.T) {
	r := record(10, 3)
	if err := stream.CheckRecord(r); err != nil {
		t.Errorf("a good record: %v", err)
	}
	for name, bad := range map[string]stream.Record{
		"other first":   {First: 9, Last: 12, Body: r.Body},
		"later first":   {First: 11, Last: 12, Body: r.Body},
		"other last":    {First: 10, Last: 13, Body: r.Body},
		"shifted":       {First: 9, Last: 11, Body: r.Body},
		"earlier last":  {First: 10, Last: 11, Body: r.Body},
		"upside down":   {First: 12, Last: 10, Body: r.Body},
		"empty":         {First: 10, Last: 12},
		"empty, no gap": {First: 10, Last: 9},
		"zero":          {},
		"left over":     {First: 10, Last: 12, Body: append(bytes.Clone(r.Body), 0)},
	} {
		if stream.CheckRecord(bad) == nil {
			t.Errorf("%s: %d to %d passes", name, bad.First, bad.Last)
		}
	}
}
