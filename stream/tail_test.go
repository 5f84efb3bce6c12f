package stream_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/sdiff/sdiff/stream"
)

// overhead is what a record counts in a tail beside its body.
const overhead = 112

// span is a record without its body.
type span struct{ first, last uint64 }

func spans(recs []stream.Record) (s []span) {
	for _, r := range recs {
		s = append(s, span{r.First, r.Last})
	}
	return s
}

// wantRead reads from an offset on and compares which commits came.
func wantRead(t *testing.T, tail *stream.Tail, from uint64, maxBytes int, want ...span) {
	t.Helper()
	recs, ok := tail.Read(from, maxBytes)
	if !ok || !slices.Equal(spans(recs), want) {
		t.Errorf("Read(%d, %d) = %v, %v; want %v", from, maxBytes, spans(recs), ok, want)
	}
	for _, r := range recs {
		if err := stream.CheckRecord(r); err != nil {
			t.Errorf("Read(%d, %d) returned %d to %d: %v", from, maxBytes, r.First, r.Last, err)
		}
	}
}

func TestTailRead(t *testing.T) {
	tail := stream.NewTail(1 << 20)
	wantRead(t, tail, 1, 1000) // nothing yet
	wantRead(t, tail, 7, 1000)
	tail.Append(record(1, 3))
	tail.Append(record(4, 1))
	tail.Append(record(5, 4))
	one := len(record(1, 1).Body)

	wantRead(t, tail, 1, 1<<20, span{1, 3}, span{4, 4}, span{5, 8})
	wantRead(t, tail, 4, 1<<20, span{4, 4}, span{5, 8})
	wantRead(t, tail, 2, 1<<20, span{2, 3}, span{4, 4}, span{5, 8}) // from the middle
	wantRead(t, tail, 7, 1<<20, span{7, 8})
	wantRead(t, tail, 9, 1<<20)
	wantRead(t, tail, 1, 0, span{1, 3}) // at least one
	wantRead(t, tail, 1, 4*one-1, span{1, 3})
	wantRead(t, tail, 1, 4*one, span{1, 3}, span{4, 4})
	if _, ok := tail.Read(0, 1000); ok {
		t.Error("Read(0) is ok, but no tail holds a commit 0")
	}
}

func TestTailFallsOff(t *testing.T) {
	r := record(1, 2)
	tail := stream.NewTail(2 * (len(r.Body) + overhead))
	for first := uint64(1); first <= 5; first += 2 {
		tail.Append(record(first, 2))
	}
	if oldest, newest := tail.Bounds(); oldest != 3 || newest != 6 {
		t.Fatalf("Bounds = %d, %d; want 3, 6: two records are the bound", oldest, newest)
	}
	for _, from := range []uint64{1, 2} {
		if recs, ok := tail.Read(from, 1000); ok || recs != nil {
			t.Errorf("Read(%d) = %v, %v; want to have fallen off", from, spans(recs), ok)
		}
	}
	wantRead(t, tail, 4, 1<<20, span{4, 4}, span{5, 6})
}

// TestTailKeepsTheNewest appends records each of which is over the bound.
func TestTailKeepsTheNewest(t *testing.T) {
	tail := stream.NewTail(0)
	for first := uint64(1); first < 100; first += 3 {
		tail.Append(record(first, 3))
		if oldest, newest := tail.Bounds(); oldest != first || newest != first+2 {
			t.Fatalf("Bounds = %d, %d; want %d, %d", oldest, newest, first, first+2)
		}
		wantRead(t, tail, first+1, 0, span{first + 1, first + 2})
	}
}

func TestTailReset(t *testing.T) {
	tail := stream.NewTail(1 << 20)
	tail.Append(record(1, 3))
	changed := tail.Changed()
	tail.Reset(100)
	select {
	case <-changed:
	default:
		t.Error("Reset did not tell those that wait")
	}
	if oldest, newest := tail.Bounds(); oldest != 100 || newest != 99 {
		t.Errorf("Bounds = %d, %d; want 100, 99", oldest, newest)
	}
	wantRead(t, tail, 100, 1000)
	if _, ok := tail.Read(99, 1000); ok {
		t.Error("Read(99) is ok, but an empty tail that goes on at 100 never had it")
	}
	tail.Append(record(100, 1))
	wantRead(t, tail, 100, 1000, span{100, 100})
}

func TestTailPanics(t *testing.T) {
	for name, fn := range map[string]func(tail *stream.Tail){
		"a gap":       func(tail *stream.Tail) { tail.Append(record(5, 1)) },
		"a repeat":    func(tail *stream.Tail) { tail.Append(record(1, 1)) },
		"upside down": func(tail *stream.Tail) { tail.Append(stream.Record{First: 4, Last: 3}) },
		"reset to 0":  func(tail *stream.Tail) { tail.Reset(0) },
		"damage":      func(tail *stream.Tail) { tail.Append(stream.Record{First: 4, Last: 6}); tail.Read(5, 1) },
	} {
		tail := stream.NewTail(1 << 20)
		tail.Append(record(1, 3))
		func() {
			defer func() {
				if s, _ := recover().(string); !strings.HasPrefix(s, "BUG: stream: ") {
					t.Errorf("%s: recovered %q, want a BUG", name, s)
				}
			}()
			fn(tail)
		}()
		tail.Bounds() // the lock is free again
	}
}

// TestTailAgainstModel drives a tail and a list of all that was ever appended.
func TestTailAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(0, 3000).Draw(t, "limit")
		tail := stream.NewTail(limit)
		var kept []stream.Record // oldest first
		next := uint64(1)
		changed, waiting := tail.Changed(), true

		// expect says whether the channel must be closed, and takes a new one.
		expect := func(t *rapid.T, want bool) {
			got := false
			select {
			case <-changed:
				got = true
			default:
			}
			if got != want {
				t.Fatalf("the channel is closed: %v, want %v", got, want)
			}
			if waiting = rapid.Bool().Draw(t, "wait"); waiting || got {
				changed = tail.Changed()
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				n := rapid.IntRange(1, 6).Draw(t, "commits")
				for range rapid.IntRange(1, 15).Draw(t, "records") {
					r := record(next, n)
					tail.Append(r)
					next = r.Last + 1
					kept = append(kept, r)
				}
				expect(t, true)
			},
			"reset": func(t *rapid.T) {
				next = rapid.Uint64Range(1, 1000).Draw(t, "next")
				tail.Reset(next)
				kept = nil
				expect(t, true)
			},
			"read": func(t *rapid.T) {
				// Around the bounds more often than elsewhere.
				from := next - min(next, rapid.Uint64Range(0, 40).Draw(t, "back")) + rapid.Uint64Range(0, 2).Draw(t, "ahead")
				maxBytes := rapid.IntRange(0, 2000).Draw(t, "bytes")
				recs, ok := tail.Read(from, maxBytes)
				want, wantOK := modelRead(kept, next, from, maxBytes)
				if ok != wantOK || !slices.Equal(spans(recs), spans(want)) {
					t.Fatalf("Read(%d, %d) = %v, %v; want %v, %v", from, maxBytes, spans(recs), ok, spans(want), wantOK)
				}
				for _, r := range recs {
					if err := stream.CheckRecord(r); err != nil {
						t.Fatalf("Read(%d, %d): %v", from, maxBytes, err)
					}
				}
				expect(t, false)
			},
			"": func(t *rapid.T) {
				kept = modelEvict(kept, limit)
				oldest := next
				if len(kept) > 0 {
					oldest = kept[0].First
				}
				if o, n := tail.Bounds(); o != oldest || n != next-1 {
					t.Fatalf("Bounds = %d, %d; want %d, %d", o, n, oldest, next-1)
				}
			},
		})
	})
}

// modelEvict returns the longest run of newest records within the bound, the
// newest in any case.
func modelEvict(recs []stream.Record, limit int) []stream.Record {
	bytes := 0
	for i := len(recs) - 1; i >= 0; i-- {
		if bytes += cap(recs[i].Body) + overhead; bytes > limit && i < len(recs)-1 {
			return recs[i+1:]
		}
	}
	return recs
}

// modelRead is Tail.Read by its definition.
func modelRead(kept []stream.Record, next, from uint64, maxBytes int) (recs []stream.Record, ok bool) {
	if from >= next {
		return nil, true
	}
	if len(kept) == 0 || from < kept[0].First {
		return nil, false
	}
	bytes := 0
	for _, r := range kept {
		if r.Last < from {
			continue
		}
		if bytes += len(r.Body); len(recs) > 0 && bytes > maxBytes {
			break
		}
		r.First = max(r.First, from)
		recs = append(recs, r)
	}
	return recs, true
}

// TestTailWaits has readers of different appetites follow a writer. In the
// bubble a wake-up that is lost shows at once, as a deadlock.
func TestTailWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const last = 3000
		tail := stream.NewTail(20_000)
		var wg sync.WaitGroup
		for reader := range 4 {
			wg.Go(func() { follow(t, tail, last, 1<<(4*reader)) })
		}
		for next := uint64(1); next <= last; {
			r := record(next, int(min(1+next%7, last-next+1)))
			tail.Append(r)
			next = r.Last + 1
		}
		wg.Wait()
	})
}

// follow reads commits 1 to last in order, going on at the oldest when it has
// fallen off the tail.
func follow(t *testing.T, tail *stream.Tail, last uint64, maxBytes int) {
	var c stream.Commit
	for next := uint64(1); next <= last; {
		changed := tail.Changed()
		recs, ok := tail.Read(next, maxBytes)
		if !ok {
			oldest, _ := tail.Bounds()
			if oldest <= next {
				t.Errorf("fell off at %d, but the oldest is %d", next, oldest)
				return
			}
			next = oldest // the log has what was missed
			continue
		}
		if len(recs) == 0 {
			<-changed
			continue
		}
		for _, r := range recs {
			d := stream.NewDecoder(r.Body)
			for d.Next(&c) {
				if c.Offset != next {
					t.Errorf("got commit %d, want %d", c.Offset, next)
					return
				}
				next++
			}
			if d.Err() != nil || next != r.Last+1 {
				t.Errorf("record %d to %d: %v", r.First, r.Last, d.Err())
				return
			}
		}
	}
}

// TestTailAnUnboundedQueueBehindASlowFollower names a defect of the original:
// what a follower had not taken piled up in front of it. Here a reader that
// never comes back costs nothing, and finds out that it has fallen off.
func TestTailAnUnboundedQueueBehindASlowFollower(t *testing.T) {
	const limit = 10_000
	tail := stream.NewTail(limit)
	tail.Append(record(1, 1))
	slow, _ := tail.Read(1, 1) // and then nothing
	for next := uint64(2); next < 20_000; next++ {
		tail.Append(record(next, 1))
	}
	recs, ok := tail.Read(slow[0].Last+1, 1)
	if ok {
		t.Fatalf("the slow reader can go on with %v", spans(recs))
	}
	oldest, newest := tail.Bounds()
	recs, _ = tail.Read(oldest, 1<<30)
	held := 0
	for _, r := range recs {
		held += cap(r.Body) + overhead
	}
	if held > limit || newest != 19_999 {
		t.Errorf("the tail holds %d bytes up to %d, want at most %d up to 19999", held, newest, limit)
	}
}
