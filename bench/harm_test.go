package bench

import (
	"bytes"
	"sync"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/stream"
)

// A harm damages a follower's copy, and notes when that is noticed and when it
// is mended.
type harm struct {
	mu      sync.Mutex
	left    int // ops to be damaged on their way in
	done    int // ops damaged, or items tampered with
	began   time.Time
	noticed time.Time // zero if it has not been
	repairs []replica.Report
	ended   []time.Time   // of each repair
	changed chan struct{} // closed and made anew at each repair
}

func (h *harm) observe(o *replica.Observer) {
	h.changed = make(chan struct{})
	o.Drift = func(stream.Position, merkle.Summary) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.noticed.IsZero() {
			h.noticed = time.Now()
		}
	}
	o.Repair = func(rep replica.Report) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.repairs, h.ended = append(h.repairs, rep), append(h.ended, time.Now())
		close(h.changed)
		h.changed = make(chan struct{})
	}
}

// take returns the reports of all repairs since it was called last.
func (h *harm) take() []replica.Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.repairs
	h.repairs, h.ended = nil, nil
	return r
}

// arm has the next n ops damaged.
func (h *harm) arm(n int) {
	h.take()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left, h.done, h.noticed = n, 0, time.Time{}
}

// fault is a FollowerConfig.Fault: it drops ops and flips bits of values, in
// turn.
func (h *harm) fault(ops []stream.Op) []stream.Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left == 0 {
		return ops
	}
	h.began = time.Now()
	var kept []stream.Op // the ops are parts of a frame that is not ours to change
	for i, op := range ops {
		switch {
		case h.left == 0:
			kept = append(kept, op)
			continue
		case !op.Delete && i%2 == 0:
			v := bytes.Clone(op.Value)
			v[i%len(v)] ^= 1
			kept = append(kept, stream.Op{Key: op.Key, Value: v})
		}
		h.left--
		h.done++
	}
	return kept
}

// tamper flips a bit of each value that the workload of c.Seed put first, in the
// store alone, when that is written to next.
func (h *harm) tamper(w *witness, c call) {
	h.arm(0)
	ops := newWorkload(c.Seed).next(c.N)
	for i := range ops {
		ops[i].Value[0] ^= 1
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slip = func() []stream.Op {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.began, h.done = time.Now(), len(ops)
		return ops
	}
}

// mended waits until repairs have put and deleted as much as was damaged, and
// the last of them was verified. It returns how long it took until the damage
// was noticed, and from then until it was mended.
func (h *harm) mended() (a answer) {
	for {
		h.mu.Lock()
		changed := h.changed
		var mended uint64
		for _, rep := range h.repairs {
			mended += rep.Put + rep.Deleted
		}
		last := len(h.repairs) - 1
		if last >= 0 && h.done > 0 && mended >= uint64(h.done) && h.repairs[last].Outcome == replica.Repaired {
			a.Times = []time.Duration{h.noticed.Sub(h.began), h.ended[last].Sub(h.noticed)}
			a.Repairs = h.repairs
			h.mu.Unlock()
			return a
		}
		h.mu.Unlock()
		<-changed
	}
}
