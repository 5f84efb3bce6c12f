package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// An Examination is what a replica would find in its store at its start.
type Examination struct {
	Meta  store.Meta     // the zero Meta if the store has none
	Fresh bool           // it has none
	Items merkle.Summary // of what is there
	Doubt string         // why the store does not hold what it should; empty if it does
	Lost  bool           // something is missing, rather than foreign or changed
	Where string         // on a master in doubt, in which ranges of keys
	Log   LogExamination // of a master
}

// A LogExamination is what was found of a master's log.
type LogExamination struct {
	Records     int
	First, Last uint64 // offsets of what was read; 0 if nothing
	Err         error  // what is damaged or missing; nil if the log is whole
}

// Examine reads a store that nobody runs, whole, as a master or follower does
// at its start, and a master's log. It writes nothing. It takes a pass over the
// data. Its errors are those of a store that cannot be read, an *IdentityError
// for another item hash, and those of items that cannot be replicated.
func Examine(st store.Store, hash merkle.Hasher) (Examination, error) {
	v, err := st.View()
	if err != nil {
		return Examination{}, err
	}
	defer v.Close()
	role := store.Master
	m, err := v.Meta()
	switch {
	case err == nil:
		role = m.Role
	case !errors.Is(err, store.ErrNotFound):
		return Examination{}, fmt.Errorf("read the store's meta: %w", err)
	}
	o, err := open(context.Background(), st, role, hash, true)
	if err != nil {
		return Examination{Meta: m}, err
	}
	ex := Examination{Meta: o.meta, Fresh: o.fresh, Items: o.tree.Summary(), Doubt: o.doubt, Lost: o.lost, Where: o.where}
	if role == store.Master && !o.fresh {
		ex.Log = examineLog(v, m.LogStart.Offset, m.Position.Offset)
	}
	return ex, nil
}

// examineLog reads a log that is to hold the commits after start up to end.
func examineLog(v store.View, start, end uint64) (l LogExamination) {
	next := start + 1
	err := v.Log(start+1, func(rec stream.Record) bool {
		if rec.First > next {
			l.Err = fmt.Errorf("%w: the log lacks offsets %d to %d", store.ErrCorrupt, next, rec.First-1)
			return false
		}
		if l.Records == 0 {
			l.First = max(rec.First, start+1)
		}
		l.Records++
		l.Last, next = rec.Last, rec.Last+1
		return true
	})
	switch {
	case l.Err != nil:
	case err != nil:
		l.Err = err
	case next <= end:
		l.Err = fmt.Errorf("%w: the log ends at offset %d, before the newest commit %d", store.ErrCorrupt, next-1, end)
	}
	return l
}
