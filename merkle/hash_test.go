package merkle_test

import (
	"strings"
	"testing"

	"github.com/sdiff/sdiff/merkle"
)

// secret is the bytes 0 to 31.
func secret() []byte {
	s := make([]byte, 32)
	for i := range s {
		s[i] = byte(i)
	}
	return s
}

// TestHashVectors pins the item hashes: replicas of different builds must
// agree on them. The values come from other implementations of XXH64 and
// SHA-256.
func TestHashVectors(t *testing.T) {
	xxh := merkle.XXH64()
	sha, err := merkle.SHA256(secret())
	if err != nil {
		t.Fatal(err)
	}
	if got := xxh.ID(); got != "xxh64" {
		t.Errorf("XXH64().ID() = %q", got)
	}
	if got, want := sha.ID(), "sha256:48e80489"; got != want {
		t.Errorf("SHA256(0..31).ID() = %q, want %q", got, want)
	}
	x := strings.Repeat
	for _, v := range []struct {
		name, key, value string
		xxh, sha         uint64
	}{
		{"no value", "k", "", 0xa018cb0b1170f089, 0x4ee2dd49a1af28b6},
		{"small", "key1", "val1", 0x3e8c761e8ca4e090, 0xd9d15fa63d8e6161},
		// The same bytes, cut elsewhere.
		{"cut before", "ey1", "val1k", 0x398561c2fda1dd90, 0xe22a1911b80d7767},
		{"cut behind", "key1val", "1", 0xfa5a2ccbb280ea83, 0xa921a99d84669fbb},
		{"long value", "k", x("v", 300), 0xf8b5b50fd6dbef14, 0xa86ecbbdbf5045f9},
		{"the buffer full", x("\xff", 252), "", 0x553f5fd884bad0cd, 0xc34c7295af62797c},
		{"one byte more", x("\xff", 252), "x", 0xeaea71c39c510524, 0x46053d1d779bf2ec},
		{"longest key", x("a", 65000), x("b", 1000), 0x0539ec66df1031cc, 0x393010085b3db117},
	} {
		if got := xxh.Hash([]byte(v.key), []byte(v.value)); got != v.xxh {
			t.Errorf("%s: XXH64 = %#016x, want %#016x", v.name, got, v.xxh)
		}
		if got := (merkle.Hasher{}).Hash([]byte(v.key), []byte(v.value)); got != v.xxh {
			t.Errorf("%s: zero Hasher = %#016x, want %#016x", v.name, got, v.xxh)
		}
		if got := sha.Hash([]byte(v.key), []byte(v.value)); got != v.sha {
			t.Errorf("%s: SHA256 = %#016x, want %#016x", v.name, got, v.sha)
		}
	}
}

func TestSHA256Secret(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33, 64} {
		if _, err := merkle.SHA256(make([]byte, n)); err == nil {
			t.Errorf("SHA256 takes a secret of %d bytes", n)
		}
	}
	mine := secret()
	h, _ := merkle.SHA256(mine)
	before := h.Hash([]byte("k"), nil)
	mine[0]++
	if h.Hash([]byte("k"), nil) != before {
		t.Error("the Hasher shares the caller's secret")
	}
	other, _ := merkle.SHA256(mine)
	if other.ID() == h.ID() || other.Hash([]byte("k"), nil) == before {
		t.Error("another secret gives the same ID or hash")
	}
}

func BenchmarkHash(b *testing.B) {
	sha, _ := merkle.SHA256(secret())
	key, value := make([]byte, 16), make([]byte, 100)
	for _, h := range []merkle.Hasher{merkle.XXH64(), sha} {
		b.Run(h.ID()[:5], func(b *testing.B) {
			b.SetBytes(int64(len(key) + len(value)))
			for b.Loop() {
				h.Hash(key, value)
			}
		})
	}
}
