package replica

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// lossRecord names the record of the epoch that began when a person accepted
// that data is lost. Followers of earlier epochs may still hold it, also those
// whose position the log does not reach back to: they park.
const lossRecord = "loss"

// lossBegins returns the record for an epoch; the zero epoch removes it.
func lossBegins(e stream.Epoch) store.Record {
	if e.IsZero() {
		return store.Record{Name: lossRecord}
	}
	w := wire.NewWriter(nil)
	w.Array(1)
	w.Bytes(e[:])
	return store.Record{Name: lossRecord, Value: w.Out()}
}

// readLoss returns the epoch of the record, the zero one if there is none. Its
// error wraps store.ErrCorrupt if the record is damaged.
func readLoss(v store.View) (e stream.Epoch, err error) {
	b, err := v.Record(lossRecord)
	if errors.Is(err, store.ErrNotFound) {
		return e, nil
	}
	if err != nil {
		return e, fmt.Errorf("read the record of an accepted loss: %w", err)
	}
	r := newReader(b)
	r.ArrayN(1)
	id := r.Bytes()
	err = r.Close()
	if err == nil && len(id) != len(e) {
		err = errors.New("no epoch")
	}
	if err != nil {
		return e, fmt.Errorf("%w: the record of an accepted loss: %w", store.ErrCorrupt, err)
	}
	copy(e[:], id)
	return e, nil
}

// beforeLoss reports whether an epoch of a history, which ends with the current
// one, is an earlier one than that which began with a loss.
func beforeLoss(history []stream.Position, current, loss, e stream.Epoch) bool {
	if loss.IsZero() || e == current {
		return false
	}
	at := func(e stream.Epoch) int {
		return slices.IndexFunc(history, func(p stream.Position) bool { return p.Epoch == e })
	}
	began := at(loss)
	if loss == current {
		began = len(history)
	}
	return at(e) < began
}
