package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/stream"
)

// metaVersion is the version of the encoding of a Meta. A change of what the
// bytes mean is a new version.
const metaVersion = 1

// MaxHistory is the largest number of earlier epochs a Meta can hold.
const MaxHistory = 1000

// maxMeta bounds an encoded Meta: some 55 bytes a position, and the rest.
const maxMeta = 64<<10 + 512

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendMeta appends the encoding of m to b and returns the result: a msgpack
// array, as docs/FORMAT.md describes it, and the CRC-32C of that as four bytes,
// big-endian. There is one encoding for a Meta. It panics if m has more than
// MaxHistory positions in its history or a hash name of more than 255 bytes.
func AppendMeta(b []byte, m Meta) []byte {
	if len(m.History) > MaxHistory || len(m.Hash) > 255 {
		panic(fmt.Sprintf("BUG: meta with %d epochs and a hash name of %d bytes", len(m.History), len(m.Hash)))
	}
	start := len(b)
	w := wire.NewWriter(b)
	w.Array(15)
	w.Uint(metaVersion)
	w.Uint(m.Seq)
	w.Bytes(m.Dataset[:])
	w.Uint(uint64(m.Role))
	w.String(m.Hash)
	writePosition(w, m.Position)
	writeSummary(w, m.Summary)
	writePosition(w, m.LogStart)
	w.Array(len(m.History))
	for _, p := range m.History {
		writePosition(w, p)
	}
	w.Bool(m.Complete)
	w.Uint(m.Verified)
	w.Uint(m.Deleted)
	w.Bool(m.Sync)
	w.Bool(m.Clean)
	w.Uint(m.LogBytes)
	b = w.Out()
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func writePosition(w *wire.Writer, p stream.Position) {
	w.Array(3)
	w.Bytes(p.Epoch[:])
	w.Uint(p.Offset)
	writeSummary(w, p.Fingerprint)
}

func writeSummary(w *wire.Writer, s merkle.Summary) {
	w.Array(2)
	w.Uint(s.Count)
	w.Uint(s.Sum)
}

// ParseMeta parses what AppendMeta wrote, all of b. Its errors wrap ErrCorrupt,
// but for a version that this program does not know, which is no damage.
func ParseMeta(b []byte) (Meta, error) {
	if len(b) < 4 || len(b) > maxMeta {
		return Meta{}, fmt.Errorf("%w: meta of %d bytes", ErrCorrupt, len(b))
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(body):]) {
		return Meta{}, fmt.Errorf("%w: the meta's checksum does not match", ErrCorrupt)
	}
	r := wire.NewReader(body, wire.Limits{Elements: 16 + 6*(MaxHistory+4)})
	n := r.Array()
	if v := r.Uint(); r.Err() == nil && v != metaVersion {
		return Meta{}, fmt.Errorf("the store was written in format %d, this program knows format %d", v, metaVersion)
	}
	m, err := readMeta(r, n)
	if err != nil {
		return Meta{}, fmt.Errorf("%w: meta: %w", ErrCorrupt, err)
	}
	return m, nil
}

// readMeta reads all of a meta of n elements that follows the version.
func readMeta(r *wire.Reader, n int) (m Meta, err error) {
	if n != 15 && r.Err() == nil {
		return Meta{}, fmt.Errorf("it has %d fields, want 15", n)
	}
	m.Seq = r.Uint()
	copy(m.Dataset[:], r.BytesN(len(m.Dataset)))
	m.Role = Role(r.UintMax(255))
	m.Hash = r.StringMax(255)
	m.Position = readPosition(r)
	m.Summary = readSummary(r)
	m.LogStart = readPosition(r)
	if k := r.Array(); k > MaxHistory {
		return Meta{}, fmt.Errorf("it has %d earlier epochs", k)
	} else if k > 0 && r.Err() == nil {
		m.History = make([]stream.Position, k)
		for i := range m.History {
			m.History[i] = readPosition(r)
		}
	}
	m.Complete = r.Bool()
	m.Verified = r.Uint()
	m.Deleted = r.Uint()
	m.Sync = r.Bool()
	m.Clean = r.Bool()
	m.LogBytes = r.Uint()
	return m, r.Close()
}

func readPosition(r *wire.Reader) (p stream.Position) {
	r.ArrayN(3)
	copy(p.Epoch[:], r.BytesN(len(p.Epoch)))
	p.Offset = r.Uint()
	p.Fingerprint = readSummary(r)
	return p
}

func readSummary(r *wire.Reader) (s merkle.Summary) {
	r.ArrayN(2)
	s.Count = r.Uint()
	s.Sum = r.Uint()
	return s
}
