package stream_test

import (
	"encoding/hex"
	"testing"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/stream"
)

// golden is a commit and its encoding, as it stands on disks and travels to
// other versions. It never changes.
var golden = stream.Commit{
	Offset:      17,
	Time:        1_700_000_000_000,
	Fingerprint: merkle.Summary{Count: 300, Sum: 0x0123456789abcdef},
	Ops: []stream.Op{
		{Key: []byte("key1"), Value: []byte("value")},
		{Key: []byte("gone"), Delete: true},
		{Key: []byte("empty"), Value: []byte{}},
	},
}

const goldenHex = "95" + // a commit
	"11" + // offset 17
	"cf0000018bcfe56800" + // time
	"cd012c" + // count 300
	"cf0123456789abcdef" + // sum
	"96" + // three ops
	"c4046b657931" + "c40576616c7565" + // key1 = value
	"c404676f6e65" + "c0" + // gone is deleted
	"c405656d707479" + "c400" // empty is put, with an empty value

func encode(cs ...stream.Commit) []byte {
	w := wire.NewWriter(nil)
	for i := range cs {
		stream.AppendCommit(w, &cs[i])
	}
	return w.Out()
}

func TestGolden(t *testing.T) {
	if got := hex.EncodeToString(encode(golden)); got != goldenHex {
		t.Fatalf("the golden commit encodes as\n%s, want\n%s", got, goldenHex)
	}
	body, _ := hex.DecodeString(goldenHex)
	d := stream.NewDecoder(body)
	var c stream.Commit
	if !d.Next(&c) || d.Offset() != len(body) {
		t.Fatalf("the golden commit does not decode: %v", d.Err())
	}
	if got := hex.EncodeToString(encode(c)); got != goldenHex {
		t.Errorf("the golden commit encodes again as\n%s, want\n%s", got, goldenHex)
	}
	if c.Offset != 17 || c.Time != golden.Time || c.Fingerprint != golden.Fingerprint || len(c.Ops) != 3 {
		t.Errorf("decoded %+v, want %+v", c, golden)
	}
	if !c.Ops[1].Delete || c.Ops[2].Delete || c.Ops[2].Value == nil {
		t.Errorf("decoded ops %+v, want a delete and then a put of nothing", c.Ops)
	}
	if d.Next(&c) || d.Err() != nil || c.Offset != 0 {
		t.Errorf("after the only commit: %+v, %v", c, d.Err())
	}
}
