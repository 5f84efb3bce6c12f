package stream

import "fmt"

// From returns the commits of r from offset on, as a record that shares r's
// body. It costs a pass over the body, unless offset is r.First. An offset
// that r does not hold and a damaged body are errors.
func (r Record) From(offset uint64) (Record, error) {
	if offset < r.First || offset > r.Last {
		return Record{}, fmt.Errorf("stream: record of commits %d to %d does not hold commit %d", r.First, r.Last, offset)
	}
	if offset == r.First {
		return r, nil
	}
	d := NewDecoder(r.Body)
	for {
		at := d.Offset()
		switch got, ok := d.skip(); {
		case !ok && d.Err() != nil:
			return Record{}, d.Err()
		case !ok:
			return Record{}, r.mismatch()
		case got == offset:
			return Record{First: offset, Last: r.Last, Body: r.Body[at:]}, nil
		}
	}
}

// CheckRecord decodes the whole of r and returns an error unless it holds
// exactly the commits from First to Last.
func CheckRecord(r Record) error {
	var (
		c    Commit
		d    = NewDecoder(r.Body)
		next = r.First
	)
	for d.Next(&c) {
		if c.Offset != next {
			return r.mismatch()
		}
		next++
	}
	if err := d.Err(); err != nil {
		return err
	}
	// Last+1 may wrap to zero; First is not zero, so next is at least one here.
	if next == r.First || next-1 != r.Last {
		return r.mismatch()
	}
	return nil
}

func (r Record) mismatch() error {
	return fmt.Errorf("stream: the body of record %d to %d holds other commits", r.First, r.Last)
}
