//go:build chaos

package chaos

import (
	"slices"
	"sync"

	"github.com/sdiff/sdiff/merkle"
)

// A hist is what TestChaos saw in one round: every write and how it ended,
// every sample of a replica, every watch, and what the test itself did that
// changes what is right. The validators look at nothing else. All recording
// methods are safe for concurrent use; the validators run after all of them.
type hist struct {
	mu  sync.Mutex
	seq int64

	base    histBase
	epochs  []histEpoch
	writes  []*histWrite
	samples []*histSample
	watches []*histWatch
	resets  []histReset
	final   []histFinal
	keys    map[string]string // one string for each key
}

// A histBase is the state that all replicas had, verified, when the round
// began.
type histBase struct {
	epoch  string
	offset uint64
	state  map[string]int64 // present keys
	older  map[string]bool  // epochs of earlier rounds
}

// A histEpoch says that an epoch goes on where its parent was at start. If
// lossy, a person gave up what the parent had after that.
type histEpoch struct {
	id, parent string
	start      uint64
	lossy      bool
	seq        int64
}

// groupKeys is how many keys a group has: they are only ever written together.
const groupKeys = 6

// A histOp sets a key; valAbsent deletes it.
type histOp struct {
	key string
	val int64
}

// The outcomes of a write.
const (
	writeUnknown = iota // may be there or not, now or later
	writeFailed         // is not there
	writeAcked
)

// A histWrite is one write of a client.
type histWrite struct {
	id         int64
	ops        []histOp
	outcome    int
	epoch      string // if acknowledged: its position
	offset     uint64
	print      string // the fingerprint after it
	start, end int64  // in seq
}

// A histStatus is what matters of a replica's status.
type histStatus struct {
	process  int
	epoch    string
	offset   uint64
	own      string // fingerprints
	master   string
	complete bool
	inSync   bool
	repair   string // start of the last repair
}

// A histSample is what a replica showed between two looks at its status.
type histSample struct {
	node          int
	master        bool
	start         int64
	before, after histStatus
	// items are present keys in order, absent ones have valAbsent. With whole
	// they are one state of all keys that begin with prefix: what is not
	// listed is absent. With pages they are all keys, of several moments.
	items        []histOp
	prefix       string
	whole, pages bool
}

// A histEvent is one line of a watch.
type histEvent struct {
	epoch             string
	offset            uint64
	op                histOp
	last, repair, gap bool
}

// A histWatch is one watch of one process, up to its end.
type histWatch struct {
	node   int
	master bool
	from   uint64 // 0 is from now on
	events []histEvent
	err    string // the code of the error that ended it
}

// A histReset says that from now on a node may show something else: damaged
// keys as damage left them, or, if all is set, any key absent or older, each
// until it is seen right once.
type histReset struct {
	node    int
	seq     int64
	all     bool
	damaged map[string]int64
}

// A histFinal is all of a node at the end of the round.
type histFinal struct {
	node   int
	status histStatus
	state  map[string]int64
}

func newHist(base histBase) *hist {
	return &hist{base: base, epochs: []histEpoch{{id: base.epoch, start: base.offset}}, keys: map[string]string{}}
}

// next returns the next number in the order of events.
func (h *hist) next() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	return h.seq
}

// key returns the key as one string for all its uses.
func (h *hist) key(b []byte) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if k, ok := h.keys[string(b)]; ok {
		return k
	}
	k := string(b)
	h.keys[k] = k
	return k
}

func (h *hist) addWrite(w *histWrite) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes = append(h.writes, w)
}

func (h *hist) addSample(s *histSample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.samples = append(h.samples, s)
}

func (h *hist) addWatch(w *histWatch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watches = append(h.watches, w)
}

func (h *hist) addReset(r histReset) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	r.seq = h.seq
	h.resets = append(h.resets, r)
}

// addEpoch notes a new epoch; one that is known is passed over.
func (h *hist) addEpoch(e histEpoch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.ContainsFunc(h.epochs, func(o histEpoch) bool { return o.id == e.id }) {
		return
	}
	h.seq++
	e.seq = h.seq
	h.epochs = append(h.epochs, e)
}

// A histVersion is what a key was from a commit on.
type histVersion struct {
	at  uint64
	val int64
}

// A histLine is the history of one epoch with all that came before it in the
// round: what the master held after each commit.
type histLine struct {
	epoch   histEpoch
	parents map[string]bool // epochs it goes on from without a loss
	base    uint64
	commits [][]histOp // of base+1 and so on, up to the first that is not known
	full    bool       // none after that is known either
	prints  []merkle.Summary
	keys    map[string][]histVersion
}

// A histModel is what must have happened.
type histModel struct {
	lines    map[string]*histLine
	values   map[int64]*histWrite // by number of the write
	problems []problem            // sources that contradict each other
}

// model joins what the acknowledgements and the watches tell about commits.
func (h *hist) model() *histModel {
	m := &histModel{lines: map[string]*histLine{}, values: map[int64]*histWrite{}}
	byID := map[string]histEpoch{}
	for _, e := range h.epochs {
		byID[e.id] = e
	}
	known := map[string]map[uint64][]histOp{}
	learn := func(source, epoch string, offset uint64, ops []histOp) {
		for e := byID[epoch]; offset <= e.start && e.parent != ""; e = byID[epoch] {
			epoch = e.parent
		}
		if offset <= h.base.offset || byID[epoch].id == "" {
			return
		}
		if known[epoch] == nil {
			known[epoch] = map[uint64][]histOp{}
		}
		if there, ok := known[epoch][offset]; !ok {
			known[epoch][offset] = ops
		} else if !slices.Equal(there, ops) {
			m.report("atomic", "%s: commit %d of epoch %.6s has %d ops, elsewhere %d or others", source, offset, epoch, len(ops), len(there))
		}
	}
	for _, w := range h.writes {
		m.values[w.id] = w
		if w.outcome == writeAcked {
			learn("ack", w.epoch, w.offset, w.ops)
		}
	}
	for _, master := range []bool{true, false} { // what a follower says counts less
		for _, w := range h.watches {
			if w.master == master {
				w.commits(func(e histEvent, ops []histOp) { learn("watch", e.epoch, e.offset, ops) })
			}
		}
	}
	for _, e := range h.epochs {
		m.lines[e.id] = h.line(e, byID, known)
	}
	return m
}

// commits calls f for every whole commit of a watch.
func (w *histWatch) commits(f func(histEvent, []histOp)) {
	var ops []histOp
	var at histEvent
	for _, e := range w.events {
		if e.gap || e.repair {
			ops = nil
			continue
		}
		if len(ops) > 0 && (at.epoch != e.epoch || at.offset != e.offset) {
			ops = nil // torn: the validator of bookmarks has it
		}
		at = e
		if ops = append(ops, e.op); e.last {
			f(e, ops)
			ops = nil
		}
	}
}

// line follows an epoch back to the base and builds its history.
func (h *hist) line(e histEpoch, byID map[string]histEpoch, known map[string]map[uint64][]histOp) *histLine {
	l := &histLine{epoch: e, parents: map[string]bool{}, base: h.base.offset, keys: map[string][]histVersion{}}
	owners := []histEpoch{e}
	for lossless, p := !e.lossy, e; p.parent != ""; p = byID[p.parent] {
		l.parents[p.parent] = lossless
		lossless = lossless && !byID[p.parent].lossy
		owners = append(owners, byID[p.parent])
	}
	var sum merkle.Summary
	for k, v := range h.base.state {
		l.keys[k] = []histVersion{{h.base.offset, v}}
		sum = sum.Add(valSummary(k, v))
	}
	l.prints = []merkle.Summary{sum}
	last := h.base.offset
	for _, o := range owners {
		for n := range known[o.id] {
			if o.id == e.id {
				last = max(last, n)
			}
		}
		last = max(last, o.start)
	}
	for n := h.base.offset + 1; n <= last; n++ {
		owner := owners[0]
		for i := 1; i < len(owners) && n <= owner.start; i++ {
			owner = owners[i]
		}
		ops, ok := known[owner.id][n]
		if !ok {
			return l
		}
		for _, op := range ops {
			sum = l.set(n, op, sum)
		}
		l.commits, l.prints = append(l.commits, ops), append(l.prints, sum)
	}
	l.full = true
	return l
}

// set makes an op of commit n part of the line and returns the summary after.
func (l *histLine) set(n uint64, op histOp, sum merkle.Summary) merkle.Summary {
	vs := l.keys[op.key]
	if len(vs) > 0 {
		sum = sum.Sub(valSummary(op.key, vs[len(vs)-1].val))
	}
	if len(vs) > 0 && vs[len(vs)-1].at == n {
		vs = vs[:len(vs)-1] // only what a commit leaves behind is ever seen
	}
	l.keys[op.key] = append(vs, histVersion{n, op.val})
	return sum.Add(valSummary(op.key, op.val))
}

func valSummary(key string, val int64) merkle.Summary {
	if val == valAbsent {
		return merkle.Summary{}
	}
	return merkle.Summary{Count: 1, Sum: merkle.XXH64().Hash([]byte(key), valBytes(val))}
}

// end returns the last offset up to which everything is known.
func (l *histLine) end() uint64 { return l.base + uint64(len(l.commits)) }

// at returns what a key was after commit n.
func (l *histLine) at(key string, n uint64) int64 {
	val := valAbsent
	for _, v := range l.keys[key] {
		if v.at > n {
			break
		}
		val = v.val
	}
	return val
}

// span returns the first time at or after low that the key had the value: its
// commit, and the one that ended it.
func (l *histLine) span(key string, val int64, low uint64) (from, to uint64, ok bool) {
	const never = ^uint64(0)
	vs := l.keys[key]
	if val == valAbsent {
		first := never
		if len(vs) > 0 {
			first = vs[0].at
		}
		if first > low && first > l.base {
			return l.base, first, true
		}
	}
	for i, v := range vs {
		end := never
		if i+1 < len(vs) {
			end = vs[i+1].at
		}
		if v.val == val && end > low {
			return v.at, end, true
		}
	}
	return 0, 0, false
}
