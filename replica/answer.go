package replica

import "github.com/sdiff/sdiff/stream"

const (
	// openingLag is how many ops may lie between what a follower had acknowledged
	// when it sent an opening and the comparison: they count as differences.
	openingLag   = 256
	openingBytes = 64 << 10 // of commits, for so many
)

// wasEqual reports whether the follower held what it should when it asked. Most
// likely it still does, and will see that by itself: then no sketch is taken,
// which the writes that follow would have to copy.
func (y *serveSync) wasEqual() bool {
	held, ok := y.opening.Opens()
	if !ok {
		return false
	}
	if pub := y.s.m.w.state.Load(); pub.pos.Offset == y.asked {
		return held == pub.pos.Fingerprint
	}
	recs, ok := y.s.m.w.tail.Read(y.asked, 0)
	if !ok || len(recs) == 0 {
		return false
	}
	var c stream.Commit
	return stream.NewDecoder(recs[0].Body).Next(&c) && c.Offset == y.asked && held == c.Fingerprint
}

// answers reports whether the opening that came with the ask is answered at an
// offset. Where the copy was equal, it tells nothing of what may have happened
// to it since; and where much was written since, it tells mostly of that.
func (y *serveSync) answers(offset uint64) bool {
	if _, ok := y.opening.Opens(); !ok || y.equal {
		return false
	}
	if y.asked >= offset {
		return true
	}
	recs, ok := y.s.m.w.tail.Read(y.asked+1, openingBytes)
	if !ok {
		return false
	}
	ops, at := 0, y.asked
	var c stream.Commit
	for _, rec := range recs {
		for d := stream.NewDecoder(rec.Body); at < offset && d.Next(&c); at = c.Offset {
			ops += len(c.Ops)
		}
	}
	return at >= offset && ops <= openingLag
}
