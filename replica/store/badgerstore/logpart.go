package badgerstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// partBytes is how much of a log record's body one part holds: half of what
// would end up in Badger's value log.
const partBytes = 512 << 10

// partHeader is the length of the header of a part, docs/FORMAT.md: version 1,
// flags 0, part, parts (u16 each after the two bytes), first, last (u64), body
// length (u32), CRC-32C of all other bytes (u32). All big-endian.
const partHeader = 1 + 1 + 2 + 2 + 8 + 8 + 4 + 4

// maxParts is the largest number of parts of a record.
const maxParts = (store.MaxLogBody + partBytes - 1) / partBytes

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A part is one piece of a log record as it is stored.
type part struct {
	first, last uint64 // of the record
	index, of   int
	size        int // of the record's whole body
	data        []byte
}

// partsOf returns how many parts a body takes: at least one.
func partsOf(body int) int { return max(1, (body+partBytes-1)/partBytes) }

// split returns part i of a record; the data is the record's.
func split(r *stream.Record, i int) part {
	from := i * partBytes
	return part{
		first: r.First, last: r.Last,
		index: i, of: partsOf(len(r.Body)),
		size: len(r.Body),
		data: r.Body[from:min(from+partBytes, len(r.Body))],
	}
}

// appendPart appends the encoding of p to b.
func appendPart(b []byte, p part) []byte {
	start := len(b)
	b = append(b, 1, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(p.index))
	b = binary.BigEndian.AppendUint16(b, uint16(p.of))
	b = binary.BigEndian.AppendUint64(b, p.first)
	b = binary.BigEndian.AppendUint64(b, p.last)
	b = binary.BigEndian.AppendUint32(b, uint32(p.size))
	sum := crc32.Checksum(b[start:], castagnoli)
	sum = crc32.Update(sum, castagnoli, p.data)
	b = binary.BigEndian.AppendUint32(b, sum)
	return append(b, p.data...)
}

// parsePart parses what appendPart wrote; the part's data is b's. Its errors
// wrap store.ErrCorrupt.
func parsePart(b []byte) (part, error) {
	if len(b) < partHeader {
		return part{}, fmt.Errorf("%w: part of a log record of %d bytes", store.ErrCorrupt, len(b))
	}
	sum := crc32.Checksum(b[:partHeader-4], castagnoli)
	sum = crc32.Update(sum, castagnoli, b[partHeader:])
	if sum != binary.BigEndian.Uint32(b[partHeader-4:]) {
		return part{}, fmt.Errorf("%w: the checksum of a part of a log record does not match", store.ErrCorrupt)
	}
	if b[0] != 1 || b[1] != 0 {
		return part{}, fmt.Errorf("the log was written in format %d, this program knows format 1", b[0])
	}
	p := part{
		index: int(binary.BigEndian.Uint16(b[2:])),
		of:    int(binary.BigEndian.Uint16(b[4:])),
		first: binary.BigEndian.Uint64(b[6:]),
		last:  binary.BigEndian.Uint64(b[14:]),
		size:  int(binary.BigEndian.Uint32(b[22:])),
		data:  b[partHeader:],
	}
	// What the checksum covers was written by us, so this only catches our own
	// mistakes, and fuzzing.
	want := min(partBytes, p.size-p.index*partBytes)
	if p.size > store.MaxLogBody || p.of != partsOf(p.size) || p.index >= p.of || len(p.data) != want || p.first == 0 || p.last < p.first {
		return part{}, fmt.Errorf("%w: a part of a log record contradicts itself", store.ErrCorrupt)
	}
	return p, nil
}

// A joiner puts the parts of log records together again. It is given every
// part in the order of keys.
type joiner struct {
	rec  stream.Record
	next int // index of the part that must follow; 0 between records
	of   int
}

// add takes the next part, stored under the offset and index of its key. It
// returns true when the record is complete in j.rec, whose body then is the
// caller's.
func (j *joiner) add(first uint64, index int, value []byte) (bool, error) {
	p, err := parsePart(value)
	if err != nil {
		return false, err
	}
	if p.first != first || p.index != index {
		return false, fmt.Errorf("%w: a part of a log record is stored under the key of another", store.ErrCorrupt)
	}
	if err := j.check(p); err != nil {
		return false, err
	}
	if j.next == 0 {
		j.rec = stream.Record{First: p.first, Last: p.last, Body: make([]byte, 0, p.size)}
		j.of = p.of
	}
	j.rec.Body = append(j.rec.Body, p.data...)
	j.next++
	if j.next < j.of {
		return false, nil
	}
	j.next = 0
	return true, nil
}

// check returns an error if p is not the part that must follow.
func (j *joiner) check(p part) error {
	if j.next == 0 && p.index == 0 {
		return nil
	}
	if j.next == 0 || p.first != j.rec.First || p.last != j.rec.Last || p.index != j.next || p.of != j.of {
		return fmt.Errorf("%w: the log record at offset %d has part %d of %d where part %d was to be",
			store.ErrCorrupt, p.first, p.index, p.of, j.next)
	}
	return nil
}

// end returns an error if the last record is not complete.
func (j *joiner) end() error {
	if j.next != 0 {
		return fmt.Errorf("%w: the log record at offset %d has %d of its %d parts",
			store.ErrCorrupt, j.rec.First, j.next, j.of)
	}
	return nil
}
