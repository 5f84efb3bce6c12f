package store

import (
	"bytes"

	"github.com/sdiff/sdiff/stream"
)

// Limits that are the same for every store.
const (
	// MaxRecordName is the largest name of a Record, in bytes.
	MaxRecordName = 255
	// MaxRecordValue is the largest value of a Record, in bytes.
	MaxRecordValue = 512 << 10
	// MaxLogBody is the largest Body of a log record, in bytes: as much as fits
	// one frame of the protocol.
	MaxLogBody = 4 << 20
	// MaxExtra bounds what one Txn holds besides ops and log record: its encoded
	// meta, and the names and values of its records, in bytes.
	MaxExtra = 1 << 20
	// MaxRecords is the largest number of records in one Txn.
	MaxRecords = 1000
)

// The beginnings of keys that are not the user's: sdiff's own and Badger's.
// They are refused by every store, so that a dataset fits into any of them.
var reserved = [][]byte{[]byte("!sdiff!"), []byte("!badger!")}

// Reserved reports whether no user key may begin as key does.
func Reserved(key []byte) bool {
	if len(key) == 0 || key[0] != '!' {
		return false
	}
	for _, p := range reserved {
		if bytes.HasPrefix(key, p) {
			return true
		}
	}
	return false
}

// CheckKey returns a *KeyError or *LimitError for a key that the store does not
// take.
func (l Limits) CheckKey(key []byte) error {
	switch {
	case len(key) == 0:
		return &KeyError{Why: "the key is empty"}
	case len(key) > l.Key:
		return &LimitError{What: "key", Got: len(key), Max: l.Key}
	case Reserved(key):
		return &KeyError{Why: "keys that begin with !sdiff! or !badger! are reserved"}
	}
	return nil
}

// Check returns an error that wraps ErrRefused if a transaction is not within
// the limits: the first thing every Write does. It costs a few nanoseconds an
// op.
func (l Limits) Check(tx *Txn) error {
	if tx.Log != nil {
		l = l.Logged()
	}
	if len(tx.Ops) > l.CommitOps {
		return &LimitError{What: "commit ops", Got: len(tx.Ops), Max: l.CommitOps}
	}
	if n := stream.Size(tx.Ops); n > l.CommitBytes {
		return &LimitError{What: "commit bytes", Got: n, Max: l.CommitBytes}
	}
	for i := range tx.Ops {
		op := &tx.Ops[i]
		if err := l.CheckKey(op.Key); err != nil {
			return err
		}
		if len(op.Value) > l.Value {
			return &LimitError{What: "value", Got: len(op.Value), Max: l.Value}
		}
	}
	if tx.Log != nil {
		if err := checkLog(tx.Log); err != nil {
			return err
		}
	}
	if n := len(tx.Meta.History); n > MaxHistory {
		return &LimitError{What: "history", Got: n, Max: MaxHistory}
	}
	if n := len(tx.Meta.Hash); n > 255 {
		return &LimitError{What: "hash name", Got: n, Max: 255}
	}
	return checkRecords(tx.Records)
}

func checkLog(r *stream.Record) error {
	switch {
	case r.First == 0 || r.Last < r.First:
		return &KeyError{Why: "the log record's offsets are not in order"}
	case len(r.Body) > MaxLogBody:
		return &LimitError{What: "log record", Got: len(r.Body), Max: MaxLogBody}
	}
	return nil
}

func checkRecords(records []Record) error {
	if len(records) > MaxRecords {
		return &LimitError{What: "records", Got: len(records), Max: MaxRecords}
	}
	extra := 0
	for i := range records {
		r := &records[i]
		if !validName(r.Name) {
			return &KeyError{Why: "a record's name is 1 to 255 bytes of printable ASCII"}
		}
		if len(r.Value) > MaxRecordValue {
			return &LimitError{What: "record", Got: len(r.Value), Max: MaxRecordValue}
		}
		extra += len(r.Name) + len(r.Value)
	}
	if limit := MaxExtra - maxMeta; extra > limit {
		return &LimitError{What: "record", Got: extra, Max: limit}
	}
	return nil
}

func validName(name string) bool {
	if name == "" || len(name) > MaxRecordName {
		return false
	}
	for i := range len(name) {
		if name[i] < ' ' || name[i] > '~' {
			return false
		}
	}
	return true
}
