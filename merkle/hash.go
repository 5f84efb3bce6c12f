package merkle

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// A Hasher computes item hashes: 64 bits over one key and its value. Every
// replica of a dataset uses the same one; its ID travels in the handshake and
// is stored with the data. The zero Hasher is XXH64.
//
// A Hasher is immutable and safe for concurrent use.
type Hasher struct {
	secret *[32]byte // nil: XXH64
	id     string
}

// XXH64 returns the default Hasher: XXH64 of the key's length as four bytes,
// big-endian, the key, and the value. It finds accidents, not adversaries:
// whoever chooses values of 64 bytes and more can make two that collide.
func XXH64() Hasher { return Hasher{} }

// SHA256 returns a Hasher for datasets whose values are written by people one
// does not trust: the first eight bytes of SHA-256 over a secret key, the
// item's key length as four bytes, big-endian, its key, and its value. The
// secret is 32 bytes, the same on every replica, and never leaves it: ID holds
// four bytes of a hash of it.
func SHA256(secret []byte) (Hasher, error) {
	if len(secret) != 32 {
		return Hasher{}, fmt.Errorf("merkle: the hash key has %d bytes, want 32", len(secret))
	}
	key := [32]byte(secret)
	id := sha256.Sum256(append([]byte("sdiff hash key id\x00"), secret...))
	return Hasher{secret: &key, id: "sha256:" + hex.EncodeToString(id[:4])}, nil
}

// ID names the algorithm and, for SHA256, which secret: "xxh64" or
// "sha256:1f2e3d4c".
func (h Hasher) ID() string {
	if h.secret == nil {
		return "xxh64"
	}
	return h.id
}

// Hash returns the item hash of one key and value. It keeps neither.
func (h Hasher) Hash(key, value []byte) uint64 {
	if h.secret != nil {
		return h.hashSHA256(key, value)
	}
	// Short items, the usual case, are hashed in one call over a copy on the
	// stack; that is several times faster than feeding a Digest in pieces.
	var small [256]byte
	binary.BigEndian.PutUint32(small[:], uint32(len(key)))
	if n := 4 + len(key) + len(value); n <= len(small) {
		copy(small[4:], key)
		copy(small[4+len(key):], value)
		return xxhash.Sum64(small[:n])
	}
	var d xxhash.Digest
	d.Reset()
	d.Write(small[:4])
	d.Write(key)
	d.Write(value)
	return d.Sum64()
}

func (h Hasher) hashSHA256(key, value []byte) uint64 {
	d := sha256.New()
	d.Write(h.secret[:])
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(key)))
	d.Write(n[:])
	d.Write(key)
	d.Write(value)
	var sum [32]byte
	return binary.BigEndian.Uint64(d.Sum(sum[:0]))
}
