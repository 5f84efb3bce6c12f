package store_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

func exampleMeta() store.Meta {
	pos := func(n byte) stream.Position {
		return stream.Position{Epoch: stream.Epoch{15: n}, Offset: uint64(n), Fingerprint: merkle.Summary{Count: uint64(n), Sum: 0x0102030405060708}}
	}
	return store.Meta{
		Seq: 300, Dataset: stream.ID{0: 0xaa}, Role: store.Follower, Hash: "xxh64",
		Position: pos(9), Summary: merkle.Summary{Count: 70000, Sum: 1}, LogStart: pos(2),
		History:  []stream.Position{pos(1)},
		Complete: true, Verified: 8, Deleted: 3, Sync: true, LogBytes: 77,
	}
}

// metaVector is exampleMeta as docs/FORMAT.md describes it. It changes with the
// version only.
const metaVector = "9f01cd012cc410aa00000000000000000000000000000002a57878683634" +
	"93c4100000000000000000000000000000000909920 9cf0102030405060708" + "92ce0001117001" +
	"93c410000000000000000000000000000000020292 02cf0102030405060708" +
	"9193c410000000000000000000000000000000010192 01cf0102030405060708" +
	"c30803c3c24d"

func TestMetaVector(t *testing.T) {
	want, err := hex.DecodeString(strings.ReplaceAll(metaVector, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	want = binary.BigEndian.AppendUint32(want, crc32.Checksum(want, crc32.MakeTable(crc32.Castagnoli)))
	if got := store.AppendMeta([]byte("x"), exampleMeta()); !bytes.Equal(got[1:], want) {
		t.Errorf("AppendMeta:\n got %x\nwant %x", got[1:], want)
	}
	m, err := store.ParseMeta(want)
	if err != nil || !bytes.Equal(store.AppendMeta(nil, m), want) {
		t.Errorf("ParseMeta = %+v, %v", m, err)
	}
}

func TestParseMetaRefuses(t *testing.T) {
	good := store.AppendMeta(nil, exampleMeta())
	for n := range good {
		if _, err := store.ParseMeta(good[:n]); !errors.Is(err, store.ErrCorrupt) {
			t.Fatalf("the first %d bytes of a meta: %v, want ErrCorrupt", n, err)
		}
		b := bytes.Clone(good)
		b[n] ^= 4
		if _, err := store.ParseMeta(b); !errors.Is(err, store.ErrCorrupt) {
			t.Fatalf("a meta with a flip in byte %d: %v, want ErrCorrupt", n, err)
		}
	}
	// A later version is no damage.
	b := resum(append([]byte{0x92, 2, 0xc0}, 0, 0, 0, 0))
	if _, err := store.ParseMeta(b); err == nil || errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("a meta of version 2: %v", err)
	}
}

// resum sets the checksum at the end of b.
func resum(b []byte) []byte {
	body := b[:len(b)-4]
	binary.BigEndian.PutUint32(b[len(body):], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// FuzzParseMeta: whatever is accepted encodes to the same bytes again. The
// checksum is set right, or nothing would ever get past it.
func FuzzParseMeta(f *testing.F) {
	f.Add(store.AppendMeta(nil, exampleMeta()))
	f.Add(store.AppendMeta(nil, store.Meta{}))
	f.Add([]byte{0x92, 2, 0xc0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		if len(b) >= 4 {
			resum(b)
		}
		m, err := store.ParseMeta(b)
		if err == nil && !bytes.Equal(store.AppendMeta(nil, m), b) {
			t.Errorf("%x is accepted as %+v, which is %x", b, m, store.AppendMeta(nil, m))
		}
	})
}
