package badgerstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
)

// Keys of a store, docs/FORMAT.md:
//
//	<prefix><key>                         a user's item, as it is
//	!sdiff!/<escaped prefix>/m            meta
//	!sdiff!/<escaped prefix>/l/<u64><u16> part of a log record: first offset, part
//	!sdiff!/<escaped prefix>/r/<name>     named record
const own = "!sdiff!"

// maxPrefix is the longest prefix of a dataset, in bytes. Each op carries it,
// so it takes from what a transaction can hold.
const maxPrefix = 256

// badgerKey is the longest key that Badger takes.
const badgerKey = 65_000

// logKeyLen is the length of what follows "…/l/" in the key of a log part.
const logKeyLen = 8 + 2

// A keyspace makes the keys of one dataset in a database.
type keyspace struct {
	prefix []byte // of user keys
	base   []byte // "!sdiff!/<escaped prefix>/"
	meta   []byte
	log    []byte // "…l/"
	record []byte // "…r/"
}

func newKeyspace(prefix string) (keyspace, error) {
	if len(prefix) > maxPrefix {
		return keyspace{}, fmt.Errorf("a prefix of %d bytes is over the limit of %d", len(prefix), maxPrefix)
	}
	// A prefix that begins as the reserved keys do, or the other way around,
	// would mix the user's keys with them.
	for _, r := range []string{own, "!badger!"} {
		if prefix != "" && (strings.HasPrefix(prefix, r) || strings.HasPrefix(r, prefix)) {
			return keyspace{}, fmt.Errorf("the prefix %q is reserved", prefix)
		}
	}
	base := []byte(own + "/" + escape(prefix) + "/")
	join := func(s string) []byte { return append(bytes.Clone(base), s...) }
	return keyspace{
		prefix: []byte(prefix),
		base:   base,
		meta:   join("m"),
		log:    join("l/"),
		record: join("r/"),
	}, nil
}

func (k *keyspace) logKey(first uint64, part int) []byte {
	b := append(make([]byte, 0, len(k.log)+logKeyLen), k.log...)
	b = binary.BigEndian.AppendUint64(b, first)
	return binary.BigEndian.AppendUint16(b, uint16(part))
}

// parseLogKey returns what logKey was called with.
func (k *keyspace) parseLogKey(key []byte) (first uint64, part int, ok bool) {
	rest, ok := bytes.CutPrefix(key, k.log)
	if !ok || len(rest) != logKeyLen {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(rest), int(binary.BigEndian.Uint16(rest[8:])), true
}

func (k *keyspace) recordKey(name string) []byte {
	return append(append(make([]byte, 0, len(k.record)+len(name)), k.record...), name...)
}

// escape returns text as it stands in a key: letters, digits, '-', '.' and '_'
// as they are, any other byte as '%' and two hex digits.
func escape(text string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}

// unescape returns the text that escape was called with.
func unescape(s string) (text string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		var c byte
		if _, err := fmt.Sscanf(s[i+1:i+3], "%02X", &c); err != nil {
			return "", false
		}
		b.WriteByte(c)
		i += 2
	}
	text = b.String()
	return text, escape(text) == s
}

// An OverlapError says that a database already holds a dataset whose keys
// would mix with those of the prefix asked for. It wraps store.ErrRefused.
type OverlapError struct {
	Prefix string // asked for
	Other  string // in the database
}

// Error names both prefixes.
func (e *OverlapError) Error() string {
	return fmt.Sprintf("the prefix %q overlaps with the dataset at prefix %q of the same database", e.Prefix, e.Other)
}

// Unwrap returns store.ErrRefused.
func (e *OverlapError) Unwrap() error { return store.ErrRefused }

// checkOverlap returns an *OverlapError if a dataset of another prefix in the
// database is above or below this one. It jumps from dataset to dataset, so it
// costs a seek for each.
func (k *keyspace) checkOverlap(txn *badger.Txn) error {
	opt := badger.DefaultIteratorOptions
	opt.PrefetchValues = false
	opt.Prefix = []byte(own + "/")
	it := txn.NewIterator(opt)
	defer it.Close()
	for it.Rewind(); it.Valid(); {
		key := it.Item().Key()
		name, _, ok := bytes.Cut(key[len(opt.Prefix):], []byte("/"))
		if !ok {
			it.Next()
			continue
		}
		other, ok := unescape(string(name))
		mine := string(k.prefix)
		if ok && other != mine && (strings.HasPrefix(mine, other) || strings.HasPrefix(other, mine)) {
			return &OverlapError{Prefix: mine, Other: other}
		}
		it.Seek(merkle.PrefixEnd(append(append(bytes.Clone(opt.Prefix), name...), '/')))
	}
	return nil
}
